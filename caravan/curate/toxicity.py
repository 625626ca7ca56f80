"""Words of lists that the recipe names: how much of a text they make up.

Entries and texts are cut into the same words, where a character of a script without spaces is a word of its own: an
entry then matches whole words in one kind of script, and any part of the text in the other.
"""

from __future__ import annotations

import glob
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
from numba import njit

from caravan.core.errors import DataError
from caravan.curate.characters import kinds, lower
from caravan.curate.kernels import (
    Hashes,
    Kinds,
    Points,
    buffers,
    count_in,
    decode_kinds,
    roll,
    slot_of,
    split_words,
    times_in,
)
from caravan.curate.steps import Verdict, verdict_of
from caravan.recipe.curate import CurateConfig
from caravan.recipe.pairs import LANGUAGE_MARK
from caravan.recipe.toxicity import ToxicityConfig

REMARK = "#"
Bytes = npt.NDArray[np.uint8]
Counts = npt.NDArray[np.int64]


@njit(nogil=True, cache=True)
def _list_entries(data: Bytes, offsets: Counts, table: Kinds, low: Points, slots: Hashes, sizes: Counts) -> None:
    """Put the hash of each entry's words into a table, and how many they are into [n]."""
    longest = (offsets[1:] - offsets[:-1]).max() + 1
    points, kind, lengths = np.empty(longest, np.uint32), np.empty(longest, np.uint8), np.empty(longest, np.int32)
    hashes, grams = np.empty(longest, np.uint64), np.empty(longest, np.uint64)
    for row in range(len(offsets) - 1):
        count = decode_kinds(data, offsets[row], offsets[row + 1], table, points, kind)
        sizes[row] = split_words(points, kind, count, low, hashes, lengths)
        if sizes[row]:
            roll(hashes, sizes[row], sizes[row], grams)
            count_in(grams[0], slots, slot_of(grams[0], slots, len(slots)))


@njit(nogil=True, cache=True)
def _count(data: Bytes, offsets: Counts, table: Kinds, low: Points, slots: Hashes, sizes: Counts, out: Counts) -> None:
    """Fill words, listed words and matches of each text [n, 3]; what a longer entry covers is not matched again."""
    longest = (offsets[1:] - offsets[:-1]).max() + 1
    points, kind, lengths = np.empty(longest, np.uint32), np.empty(longest, np.uint8), np.empty(longest, np.int32)
    hashes, grams = np.empty(longest, np.uint64), np.empty(longest, np.uint64)
    covered = np.empty(longest, np.bool_)
    for row in range(len(offsets) - 1):
        count = decode_kinds(data, offsets[row], offsets[row + 1], table, points, kind)
        words = split_words(points, kind, count, low, hashes, lengths)
        covered[:words] = False
        matches = 0
        for size in sizes:
            for i in range(roll(hashes, words, size, grams)):
                if times_in(slots, slot_of(grams[i], slots, len(slots))) and not covered[i : i + size].any():
                    covered[i : i + size] = True
                    matches += 1
        out[row, 0], out[row, 1], out[row, 2] = words, covered[:words].sum(), matches


@dataclass(frozen=True)
class WordList:
    """Entries as a table of hashes, and of how many words they are, most first."""

    slots: Hashes
    sizes: Counts

    @classmethod
    def of(cls, entries: Sequence[str]) -> WordList:
        """Case is ignored, and so is whatever is neither letter nor digit; entries without either are passed over."""
        slots, sizes = np.zeros(1 << max(1, (2 * len(entries)).bit_length()), np.uint64), np.zeros(len(entries), int)
        if entries:
            _list_entries(*buffers(pa.array(entries, pa.string())), kinds(), lower(), slots, sizes)
        return cls(slots, np.unique(sizes[sizes > 0])[::-1].copy())

    def count(self, texts: pa.Array) -> Counts:
        """Words of each text, those that are listed, and matches [n, 3]."""
        out = np.zeros((len(texts), 3), np.int64)
        if len(texts) and len(self.sizes):
            _count(*buffers(texts), kinds(), lower(), self.slots, self.sizes, out)
        return out


def list_files(config: ToxicityConfig, languages: Iterable[str]) -> dict[str, list[Path]]:
    """Files of each language; a language may have none.

    Raises:
        DataError: no language has any.
    """
    found = {
        language: sorted(map(Path, glob.glob(config.lists.replace(LANGUAGE_MARK, language), recursive=True)))
        for language in languages
    }
    if not any(found.values()):
        raise DataError(
            "there is no list of words",
            where=config.lists,
            expected="a text file of an entry a line, for one language of the run at least",
            got="no file",
            fix="correct `curate.toxicity.lists`, or give the data folder on the command line: data=FOLDER",
        )
    return found


def list_versions(config: CurateConfig, languages: Iterable[str]) -> list[list[str | int]]:
    """The files of the lists that a recipe names, if it does, and when each was changed."""
    files = list_files(config.toxicity, languages).values() if config.toxicity else ()
    return [[str(file), file.stat().st_mtime_ns] for found in files for file in found]


def entries_of(file: Path) -> list[str]:
    """Entries of a list, a line each; what follows a REMARK at the start of a line is none.

    Raises:
        DataError: not UTF-8.
    """
    try:
        lines = file.read_text(encoding="utf-8-sig").splitlines()
    except UnicodeDecodeError as error:
        raise DataError(
            "the list of words cannot be read",
            where=str(file),
            expected="text in UTF-8, an entry a line",
            got=f"invalid UTF-8 at byte {error.start}",
            fix="convert it to UTF-8",
        ) from error
    return [line.strip() for line in lines if line.strip() and not line.startswith(REMARK)]


class ToxicityStep:
    """Drop text of which listed words make up too much; languages without a list pass."""

    name = "toxicity"
    REASONS = ("listed words", "share of listed words")

    def __init__(self, config: ToxicityConfig, languages: Iterable[str]) -> None:
        self.config = config
        self.lists = {
            language: WordList.of([entry for file in files for entry in entries_of(file)])
            for language, files in list_files(config, languages).items()
        }

    def judge(self, batch: pa.RecordBatch) -> Verdict:
        counts = np.zeros((batch.num_rows, 3), np.int64)
        for language in pc.unique(batch["language"]).to_pylist():
            if language in self.lists:
                own = pc.equal(batch["language"], language)
                counts[own.to_numpy(zero_copy_only=False)] = self.lists[language].count(batch["text"].filter(own))
        words, listed, matches = counts.T
        share = listed / np.maximum(words, 1)
        many = np.zeros(len(words), np.bool_) if self.config.max_count is None else matches > self.config.max_count
        most = np.zeros(len(words), np.bool_) if self.config.max_share is None else share > self.config.max_share
        return verdict_of(self.REASONS, np.where(many, 0, np.where(most, 1, -1)), np.where(many, matches, share))
