"""Text that holds items of evaluation sets, found by n-grams of words that both have.

Of each n-gram the first words are looked for, in a filter that stays in the processor's cache; what is there is rare.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
from numba import njit

from caravan.curate.characters import kinds, lower
from caravan.curate.evaluation_sets import COMBINING, Grams, Integers, bits_of, composed, read_sets
from caravan.curate.kernels import GOLDEN, Hashes, Points, buffers, decode_kinds, mix, roll, split_words
from caravan.curate.steps import Verdict, verdict_of
from caravan.recipe.curate import DecontaminationConfig


@njit(nogil=True, cache=True)
def place_of(value: np.uint64, ordered: Hashes) -> int:
    """Index of a hash among sorted ones; -1 for none."""
    place = int(np.searchsorted(ordered, value))
    return place if place < len(ordered) and ordered[place] == value else -1


@njit(nogil=True, cache=True)
def gram_at(hashes: Hashes, start: int, n: int) -> np.uint64:
    """The hash that `roll` gives to the n-gram that begins at a word."""
    h = np.uint64(0)
    for i in range(start, start + n):
        h = h * GOLDEN + hashes[i]
    return mix(h)


@njit(nogil=True, cache=True)
def grams_in(hashes: Hashes, words: int, known: Grams, rolled: Hashes) -> Integers:
    """Which n-grams of evaluation items stand in a text, given as hashes of its words; each once, in order."""
    bits, lengths = known.bits, known.lengths
    found, hits = np.empty(64, np.int64), 0
    last = np.uint64(len(bits) - 1)
    first = 0
    while first < len(lengths):
        anchor, end = lengths[first, 0], first
        while end < len(lengths) and lengths[end, 0] == anchor:
            end += 1
        for i in range(roll(hashes, words, anchor, rolled)):
            wanted = bits_of(rolled[i])
            if bits[rolled[i] & last] & wanted != wanted:
                continue
            begun = place_of(rolled[i], known.anchors)
            for k in range(first, end if begun >= 0 else first):
                n = lengths[k, 1]
                if i + n > words or not (known.follow[begun] >> np.uint64(k & 63)) & np.uint64(1):
                    continue
                place = place_of(gram_at(hashes, i, n), known.grams)
                if place >= 0:
                    if hits == len(found):
                        found = np.concatenate((found, np.empty_like(found)))
                    found[hits] = place
                    hits += 1
        first = end
    return np.unique(found[:hits])


@njit(nogil=True, cache=True)
def fullest(found: Integers, known: Grams) -> tuple[float, int]:
    """The greatest share of an item's n-grams that were found, and the item; of several the first."""
    starts = known.starts
    total = 0
    for gram in found:
        total += starts[gram + 1] - starts[gram]
    of_items = np.empty(total, np.int64)
    total = 0
    for gram in found:
        for place in range(starts[gram], starts[gram + 1]):
            of_items[total] = known.items[place]
            total += 1
    of_items.sort()
    share, item, run = 0.0, -1, 0
    for i in range(total):
        run = run + 1 if i and of_items[i] == of_items[i - 1] else 1
        if run / known.sizes[of_items[i]] > share:
            share, item = run / known.sizes[of_items[i]], of_items[i]
    return share, item


@njit(nogil=True, cache=True)
def match_rows(
    data: npt.NDArray[np.uint8],
    offsets: Integers,
    table: npt.NDArray[np.uint8],
    low: Points,
    known: Grams,
    shares: npt.NDArray[np.float64],
    which: Integers,
) -> None:
    """Fill the greatest share of an item's n-grams that each text holds [n], and the item [n], -1 for none."""
    longest = (offsets[1:] - offsets[:-1]).max() + 1
    points, kind, sizes_of_words = (
        np.empty(longest, np.uint32),
        np.empty(longest, np.uint8),
        np.empty(longest, np.int32),
    )
    hashes, rolled = np.empty(longest, np.uint64), np.empty(longest, np.uint64)
    for row in range(len(offsets) - 1):
        count = decode_kinds(data, offsets[row], offsets[row + 1], table, points, kind)
        words = split_words(points, kind, count, low, hashes, sizes_of_words)
        shares[row], which[row] = fullest(grams_in(hashes, words, known, rolled), known)


def matches(texts: pa.Array, known: Grams) -> tuple[npt.NDArray[np.float64], Integers]:
    """The greatest share of an evaluation item's n-grams that stand in each text [n], and the item [n], -1 for none.

    Args:
        texts: valid UTF-8 strings [n], no nulls.
    """
    shares, which = np.zeros(len(texts)), np.full(len(texts), -1)
    if len(texts):
        texts = composed(texts, pc.match_substring_regex(texts, COMBINING))
        match_rows(*buffers(texts), kinds(), lower(), known, shares, which)
    return shares, which


class DecontaminationStep:
    """Drop text that holds an item of an evaluation set, or so much of one as the recipe says.

    Args:
        prepared: folder of the evaluation sets' n-grams.
        columns: columns of text; one of them is enough.
    """

    name = "decontamination"

    def __init__(self, config: DecontaminationConfig, prepared: Path, columns: Sequence[str]) -> None:
        self.config, self.columns = config, columns
        self.grams = Grams.load(prepared)
        self.reasons = [f"evaluation set {entry['set']}" for entry in read_sets(prepared)]

    def judge(self, batch: pa.RecordBatch) -> Verdict:
        shares, which = np.zeros(batch.num_rows), np.full(batch.num_rows, -1)
        for column in self.columns:
            share, item = matches(batch[column], self.grams)
            which = np.where(share > shares, item, which)
            shares = np.maximum(share, shares)
        held = (which >= 0) & (shares >= self.config.threshold)
        first = np.where(held, self.grams.set_of[which], -1)
        return verdict_of(self.reasons, first, shares)
