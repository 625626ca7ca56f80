"""Simplified or Traditional Chinese, and Taiwan's or Hong Kong's, by the characters that only one of them writes.

Which characters those are is OpenCC's knowledge (github.com/BYVoid/OpenCC).
"""

from __future__ import annotations

import functools

import numpy as np
import numpy.typing as npt
import opencc
import pyarrow as pa
import pyarrow.compute as pc
from numba import njit

from caravan.curate.kernels import Points, buffers, decode
from caravan.curate.steps import VARIANT, Verdict, verdict_of
from caravan.recipe.curate import LanguageRule

FIRST, LAST = 0x3400, 0x9FFF
SIMPLIFIED, TRADITIONAL, TAIWAN, HONG_KONG = range(4)
TAGS = ("zh-Hans", "zh-Hant", "zh-Hant-TW", "zh-Hant-HK")
WANTED = {"simplified": "zh-Hans", "traditional": "zh-Hant"}
CLEARLY = 2  # times as many characters of one region as of the other: each writes some of the other's


@functools.cache
def one_way() -> npt.NDArray[np.uint8]:
    """For each ideograph from FIRST to LAST, a bit for each of the four ways of writing that alone has it."""
    every = "".join(map(chr, range(FIRST, LAST + 1)))
    forms = {name: opencc.OpenCC(name).convert(every) for name in ("s2t", "t2s", "t2tw", "t2hk")}
    if len({len(every), *map(len, forms.values())}) > 1:
        raise AssertionError("OpenCC turns single characters into several")
    same = {name: np.array([a == b for a, b in zip(every, form, strict=True)]) for name, form in forms.items()}
    table = np.zeros(len(every), np.uint8)
    table |= (~same["s2t"] & same["t2s"]).astype(np.uint8) << SIMPLIFIED
    table |= (~same["t2s"] & same["s2t"]).astype(np.uint8) << TRADITIONAL
    for taiwan, hong_kong in zip(forms["t2tw"], forms["t2hk"], strict=True):
        if taiwan != hong_kong:
            table[ord(taiwan) - FIRST] |= 1 << TAIWAN
            table[ord(hong_kong) - FIRST] |= 1 << HONG_KONG
    return table


@njit(nogil=True, cache=True)
def _count(
    data: npt.NDArray[np.uint8],
    offsets: npt.NDArray[np.int64],
    table: npt.NDArray[np.uint8],
    out: npt.NDArray[np.int64],
) -> None:
    """Characters of each way of writing in each text [n, 4]; those of both regions count for neither."""
    points: Points = np.empty((offsets[1:] - offsets[:-1]).max() + 1, np.uint32)
    for row in range(len(offsets) - 1):
        for i in range(decode(data, offsets[row], offsets[row + 1], points)):
            if FIRST <= points[i] <= LAST:
                bits = table[points[i] - FIRST]
                for way in range(4):
                    out[row, way] += (bits >> way) & 1


def count_ways(texts: pa.Array) -> npt.NDArray[np.int64]:
    """Characters that only one way of writing has, in each text [n, 4]: TAGS' Hans, Hant, -TW and -HK."""
    counts = np.zeros((len(texts), 4), np.int64)
    if len(texts):
        _count(*buffers(texts), one_way(), counts)
    return counts


def variants(counts: npt.NDArray[np.int64]) -> pa.Array:
    """The BCP 47 tag of texts [n] by their counts [n, 4], with a region where that is clear; null for neither way."""
    simplified, traditional, taiwan, hong_kong = counts.T
    tags = np.full(len(counts), len(TAGS))
    tags[simplified > traditional] = SIMPLIFIED
    old = traditional > simplified
    tags[old] = TRADITIONAL
    tags[old & (taiwan > CLEARLY * hong_kong)] = TAIWAN
    tags[old & (hong_kong > CLEARLY * taiwan)] = HONG_KONG
    return pa.array([*TAGS, None], pa.string()).take(pa.array(tags))


class ChineseStep:
    """Write down how Chinese text is written; drop the other way where only one is wanted."""

    name = "chinese"
    REASONS = ("another way of writing Chinese",)

    def __init__(self, rule: LanguageRule) -> None:
        self.wanted = WANTED.get(rule.chinese)

    def judge(self, batch: pa.RecordBatch) -> Verdict:
        chinese = np.array(batch["language"].to_pylist(), object) == "zh"
        counts = np.zeros((len(chinese), 4), np.int64)
        counts[chinese] = count_ways(batch["text"].filter(pa.array(chinese)))
        tags = variants(counts)
        first = np.full(len(chinese), -1, np.int64)
        if self.wanted:
            own = pc.fill_null(pc.starts_with(tags, self.wanted), True).to_numpy(zero_copy_only=False)
            first[~own] = 0
        most = counts[:, :TAIWAN].max(1) / np.maximum(1, counts[:, :TAIWAN].sum(1))
        return verdict_of(self.REASONS, first, most, {VARIANT.name: tags})
