"""Which units come in a stream of text, how often, and which of them a model knows."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pyarrow as pa
from numba import njit

from caravan.curate.kernels import Hashes
from caravan.curate.ngrams.units import LINE_END, Ints, Longs, find_word, normalised, split

UNKNOWN, BEGIN, END = range(3)
NAMES = ("<unk>", "<s>", "</s>")


@njit(nogil=True, cache=True)
def _number(hashes: Hashes, keys: Hashes, rows: Ints, known: int, out: Ints) -> tuple[Hashes, Ints, int]:
    """Number each unit in the order in which it first comes, -1 for the end of a line; the table grows as it fills."""
    for i in range(len(hashes)):
        if hashes[i] == LINE_END:
            out[i] = -1
            continue
        slot = find_word(hashes[i], keys, rows)
        if rows[slot] < 0:
            keys[slot], rows[slot] = hashes[i], known
            known += 1
            out[i] = rows[slot]
            if 2 * known > len(keys):
                old_keys, old_rows = keys, rows
                keys, rows = np.zeros(2 * len(old_keys), np.uint64), np.full(2 * len(old_keys), -1, np.int32)
                for old in range(len(old_keys)):
                    if old_rows[old] >= 0:
                        slot = find_word(old_keys[old], keys, rows)
                        keys[slot], rows[slot] = old_keys[old], old_rows[old]
        else:
            out[i] = rows[slot]
    return keys, rows, known


class UnitCounter:
    """Distinct units in the order in which they first come.

    Attributes:
        words: as a model writes them [w].
        counts: how often each came [w].
    """

    def __init__(self) -> None:
        self.words: list[str] = []
        self.counts: Longs = np.zeros(0, np.int64)
        self._keys, self._rows = np.zeros(1 << 16, np.uint64), np.full(1 << 16, -1, np.int32)

    def add(self, texts: pa.Array) -> Ints:
        """Number of each unit [u], -1 where a line ends."""
        units = split(texts)
        numbers = np.empty(len(units.hashes), np.int32)
        before = len(self.words)
        self._keys, self._rows, known = _number(units.hashes, self._keys, self._rows, before, numbers)
        fresh, first = np.unique(np.where(numbers >= before, numbers, -1), return_index=True)
        rows = np.searchsorted(units.bounds, first, "right") - 1
        for number, place, row in zip(fresh.tolist(), first.tolist(), rows.tolist(), strict=True):
            if number >= 0:
                start = units.starts[place]
                self.words.append(normalised(texts[row].as_py()[start : start + units.lengths[place]]))
        self.counts = np.pad(self.counts, (0, known - before)) + np.bincount(
            numbers[numbers >= 0], minlength=known
        )  # fmt: skip
        return numbers


def cut(
    words: list[str], counts: npt.NDArray[np.int64], size: int, least: int
) -> tuple[list[str], npt.NDArray[np.int32]]:
    """The vocabulary of a model, and the id in it of each word, UNKNOWN for those that are left out.

    Args:
        words, counts: each word and how often it came [w].
        size: most words; `least`: the least count of one.

    Returns:
        names: NAMES, then the words that are kept, the most frequent first [v].
        ids: of each of `words`, with END appended, so that -1 finds it [w + 1].
    """
    order = np.argsort(-counts, kind="stable")[:size]
    order = order[counts[order] >= least]
    ids = np.full(len(words) + 1, UNKNOWN, np.int32)
    ids[order] = len(NAMES) + np.arange(len(order), dtype=np.int32)
    ids[-1] = END
    return [*NAMES, *(words[index] for index in order)], ids
