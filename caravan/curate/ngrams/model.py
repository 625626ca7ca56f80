"""An n-gram model in memory or mapped from disk, and how texts are scored with it.

N-grams stand in one table with open addressing, each under its first word and the slot of the n-gram without it, so
that they are found exactly, from the shortest to the longest, in a memory access or two each.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa
from numba import njit

from caravan.core.files import atomic_path
from caravan.curate.kernels import Hashes, mix
from caravan.curate.ngrams.kneser_ney import Doubles, Floats, Level
from caravan.curate.ngrams.units import BREAK, LINE_END, Ints, Longs, find_word, hash_of, split, word_table
from caravan.curate.ngrams.vocabulary import BEGIN, END, UNKNOWN

WORD_BITS = np.uint64(24)
FREE = np.uint64(0xFFFFFFFFFFFFFFFF)
ROOM = 1.5  # slots for each n-gram
LINE_START = -1
FILES = ("words", "singles", "slots", "sizes")


class Scores(NamedTuple):
    """Of each text [n].

    Attributes:
        total: log10 probability of its units and the ends of its lines.
        alone: the same from the frequency of each alone.
        units: how many these are; `unknown`: how many the model does not know.
    """

    total: Doubles
    alone: Doubles
    units: Longs
    unknown: Longs

    @property
    def perplexity(self) -> Doubles:
        """10 to the mean negative log10 probability, as in CCNet; nan for a text without units."""
        with np.errstate(invalid="ignore"):
            return 10 ** (-self.total / self.units)

    @property
    def coherence(self) -> Doubles:
        """How much likelier its context makes a unit than it is alone: the mean log10 of this ratio, or nan.

        In words thrown together it is about 0, whatever the words; in prose it is well above.
        """
        with np.errstate(invalid="ignore"):
            return (self.total - self.alone) / self.units


class Tables(NamedTuple):
    """A model as the kernels take it.

    Attributes:
        keys, rows: hash table of words.
        singles: log10 probability and backoff weight of each word [v, 2].
        slots: the n-grams from two words on: a key, then both numbers as float32 in 64 bits [s, 2].
        values: the same as float32 [s, 4].
        sizes: slots of each length from 2 on [order - 1].
    """

    keys: Hashes
    rows: Ints
    singles: Floats
    slots: Hashes
    values: Floats
    sizes: Longs


@njit(inline="always")
def _home(key: np.uint64, size: np.int64) -> np.int64:
    return np.int64(((mix(key) >> np.uint64(32)) * np.uint64(size)) >> np.uint64(32))


@njit(nogil=True, cache=True)
def _find(base: np.int64, word: np.int64, start: np.int64, size: np.int64, slots: Hashes) -> np.int64:
    """Slot of the n-gram of a word and the n-gram in slot `base` after it, or the free one where it would stand."""
    key = (np.uint64(base) << WORD_BITS) | np.uint64(word)
    at = _home(key, size)
    while slots[start + at, 0] != key and slots[start + at, 0] != FREE:
        at = (at + 1) % size
    return start + at


@njit(nogil=True, cache=True)
def _insert(words: Ints, level_values: Floats, slots: Hashes, values: Floats, sizes: Longs) -> int:
    """Enter the n-grams of one length; returns the row of one whose shorter n-gram is missing, -1 if there is none."""
    n = words.shape[1]
    for row in range(len(words)):
        base, start = np.int64(words[row, n - 1]), np.int64(0)
        for k in range(2, n + 1):
            slot = _find(base, words[row, n - k], start, sizes[k - 2], slots)
            if k < n and slots[slot, 0] == FREE:
                return row
            if k == n:
                slots[slot, 0] = (np.uint64(base) << WORD_BITS) | np.uint64(words[row, 0])
                values[slot, 2], values[slot, 3] = level_values[row, 0], level_values[row, 1]
            base = slot
            start += sizes[k - 2]
    return -1


@njit(nogil=True, cache=True)
def _score(
    hashes: Hashes, bounds: Longs, model: Tables, total: Doubles, alone: Doubles, units: Longs, unknown: Longs
) -> None:
    order = len(model.sizes) + 1
    # Words before the one in hand, the nearest first, and the backoff weights of the n-grams they make, by length.
    context, backoff, new_backoff = np.empty(order, np.int64), np.zeros(order + 1), np.zeros(order + 1)
    for row in range(len(bounds) - 1):
        known = LINE_START
        for i in range(bounds[row], bounds[row + 1]):
            if hashes[i] == BREAK:
                known = 0
                continue
            if known == LINE_START:
                context[0], backoff[1], known = BEGIN, model.singles[BEGIN, 1], 1
            units[row] += 1
            word = np.int64(END)
            if hashes[i] != LINE_END:
                word = np.int64(model.rows[find_word(hashes[i], model.keys, model.rows)])
                if word < 0:
                    word = np.int64(UNKNOWN)
                    unknown[row] += 1
            found = model.singles[word, 0]
            alone[row] += found
            new_backoff[1:] = 0
            new_backoff[1] = model.singles[word, 1]
            slot, start, matched = word, np.int64(0), 0
            while matched < known:
                slot = _find(slot, context[matched], start, model.sizes[matched], model.slots)
                if model.slots[slot, 0] == FREE:
                    break
                start += model.sizes[matched]
                matched += 1
                found = model.values[slot, 2]
                new_backoff[matched + 1] = model.values[slot, 3]
            total[row] += found
            for k in range(matched + 1, known + 1):
                total[row] += backoff[k]
            known = min(known + 1, order - 1)
            for k in range(known - 1, 0, -1):
                context[k] = context[k - 1]
            context[0] = word
            backoff, new_backoff = new_backoff, backoff
            if word == END:
                known = LINE_START


class NgramModel:
    """An n-gram model of one language.

    Args:
        words: hashes of its words by id, `<unk>`, `<s>` and `</s>` first [v].
        singles: log10 probability and backoff weight of each word [v, 2].
        slots, sizes: see Tables.
    """

    def __init__(self, words: Hashes, singles: Floats, slots: Hashes, sizes: Longs) -> None:
        self._parts: tuple[npt.NDArray[np.generic], ...] = (words, singles, slots, sizes)
        self.tables = Tables(*word_table(words), singles, slots, slots.view(np.float32), sizes)

    @classmethod
    def build(cls, names: Sequence[str], levels: Sequence[Level]) -> NgramModel:
        """A model of these n-grams; whatever an n-gram ends with must be there too.

        Args:
            names: words by id, `<unk>`, `<s>` and `</s>` first [v].
            levels: n-grams by length.
        """
        sizes = np.array([int(ROOM * len(level.words)) + 1 for level in levels[1:]], np.int64)
        slots = np.full((sizes.sum(), 2), FREE, np.uint64)
        for level in levels[1:]:
            _insert(level.words, level.values, slots, slots.view(np.float32), sizes)
        return cls(np.array([hash_of(name) for name in names], np.uint64), levels[0].values, slots, sizes)

    @property
    def order(self) -> int:
        return len(self.tables.sizes) + 1

    def score(self, texts: pa.Array, window: int = 0) -> Scores:
        """Log10 probability of each text [n], every line by itself.

        Args:
            texts: valid UTF-8 strings [n], no nulls.
            window: bytes looked at in each of three places of a longer text; 0: all of it.
        """
        found = split(texts, window)
        total, alone = np.zeros(len(texts)), np.zeros(len(texts))
        units, unknown = np.zeros(len(texts), np.int64), np.zeros(len(texts), np.int64)
        _score(found.hashes, found.bounds, self.tables, total, alone, units, unknown)
        return Scores(total, alone, units, unknown)

    def save(self, folder: Path) -> None:
        """Write a `.npy` file for each part."""
        for name, part in zip(FILES, self._parts, strict=True):
            with atomic_path(folder / f"{name}.npy") as temporary, temporary.open("wb") as file:
                np.save(file, part)

    @classmethod
    def load(cls, folder: Path) -> NgramModel:
        """Map a model from disk: processes that score with it share its memory."""
        return cls(*(np.asarray(np.load(folder / f"{name}.npy", mmap_mode="r")) for name in FILES))
