"""What deduplication compares: a hash of the normalised text, MinHash signatures cut into LSH bands, sets of shingles.

MinHash (Broder 1997): the least hash over a text's shingles, under each of many permutations; two texts agree in one
of them with probability of their shingles' Jaccard similarity. Texts that agree in all rows of a band are candidates.
"""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
from numba import njit

from caravan.curate.characters import kinds, lower
from caravan.curate.kernels import (
    FNV_OFFSET,
    FNV_PRIME,
    Hashes,
    Kinds,
    Points,
    buffers,
    decode_kinds,
    mix,
    roll,
    split,
)
from caravan.recipe.duplicates import DuplicateConfig

U32_MAX = np.uint32(0xFFFFFFFF)
SEED = 112
# Least hashes of a set that an index keeps: two texts of fewer shingles are compared exactly, longer ones by an
# estimate with a standard error of at most 0.5 / sqrt(SKETCHED).
SKETCHED = 128
SKETCH = pa.field("sketch", pa.list_(pa.uint32()))


@njit(nogil=True, cache=True)
def shingle_hashes(
    points: Points,
    kinds: Kinds,
    count: int,
    shingle: int,
    low: Points,
    hashes: Hashes,
    lengths: npt.NDArray[np.int32],
    grams: Hashes,
) -> tuple[int, np.uint64]:
    """Hash of each shingle of a text, repeats included; a text without words is one shingle.

    Returns:
        how many, and the hash of the text without blanks and invisible characters, case ignored.
    """
    words, whole = split(points, kinds, count, low, hashes, lengths)
    many = roll(hashes, words, max(1, min(shingle, words)), grams)
    if not many:
        grams[0], many = whole, 1
    return many, whole


@njit(nogil=True, cache=True)
def min_hashes(grams: Hashes, many: int, a: Points, b: Points, least: Points) -> None:
    """Least value of each permutation over all shingles, uint32 [permutations]."""
    least[:] = U32_MAX
    for i in range(many):
        x = np.uint32(grams[i] >> np.uint64(32))
        for k in range(len(a)):
            v = np.uint32(x * a[k] + b[k])
            v = np.uint32(v ^ (v >> np.uint32(15)))
            least[k] = min(least[k], v)


@njit(nogil=True, cache=True)
def sign_rows(
    data: npt.NDArray[np.uint8],
    offsets: npt.NDArray[np.int64],
    shingles: npt.NDArray[np.int32],
    salts: Hashes,
    a: Points,
    b: Points,
    table: npt.NDArray[np.uint8],
    low: Points,
    exact: Hashes,
    bands: Hashes,
) -> None:
    """Fill the hash of the normalised text [n] and the key of each LSH band [bands, n]."""
    longest = (offsets[1:] - offsets[:-1]).max() + 1
    points, kind = np.empty(longest, np.uint32), np.empty(longest, np.uint8)
    hashes, grams = np.empty(longest, np.uint64), np.empty(longest, np.uint64)
    lengths = np.empty(longest, np.int32)
    least = np.empty(len(a), np.uint32)
    for row in range(len(offsets) - 1):
        count = decode_kinds(data, offsets[row], offsets[row + 1], table, points, kind)
        many, whole = shingle_hashes(points, kind, count, shingles[row], low, hashes, lengths, grams)
        exact[row] = mix(whole ^ salts[row])
        if not len(bands):
            continue
        min_hashes(grams, many, a, b, least)
        rows = len(a) // len(bands)
        for band in range(len(bands)):
            h = FNV_OFFSET ^ salts[row]
            for k in range(band * rows, (band + 1) * rows):
                h = (h ^ np.uint64(least[k])) * FNV_PRIME
            bands[band, row] = mix(h)


def columns(config: DuplicateConfig) -> tuple[str, ...]:
    """What is written down of each document: the hash, and the key of each band where near copies are looked for."""
    return ("hash", *(f"band_{band:02d}" for band in range(config.bands if config.near else 0)))


@functools.cache
def salt(language: str) -> int:
    """What goes into each hash of a text, so that languages do not meet."""
    return int.from_bytes(hashlib.blake2b(language.encode(), digest_size=8).digest(), "little")


def sign(
    texts: pa.Array, languages: Sequence[str], shingles: Sequence[int], *, bands: int, rows: int
) -> tuple[Hashes, Hashes]:
    """What deduplication compares: the normalised text's hash [n], and the key of each LSH band [bands, n].

    Args:
        texts: valid UTF-8 strings [n], no nulls.
        languages: of the texts [n]; equal texts of two languages have nothing in common.
        shingles: words in a shingle [n].
        bands, rows: of the LSH; rows x bands permutations are taken. Without bands there is the hash alone.
    """
    random: Any = np.random.default_rng(SEED)
    a = random.integers(1, 1 << 31, bands * rows, dtype=np.uint32) * np.uint32(2) + np.uint32(1)
    b = random.integers(0, 1 << 32, bands * rows, dtype=np.uint32)
    exact, keys = np.empty(len(texts), np.uint64), np.empty((bands, len(texts)), np.uint64)
    if len(texts):
        salts = np.fromiter(map(salt, languages), np.uint64, len(texts))
        sign_rows(*buffers(texts), np.asarray(shingles, np.int32), salts, a, b, kinds(), lower(), exact, keys)
    return exact, keys


@njit(nogil=True, cache=True)
def set_rows(
    data: npt.NDArray[np.uint8],
    offsets: npt.NDArray[np.int64],
    shingles: npt.NDArray[np.int32],
    most: int,
    table: npt.NDArray[np.uint8],
    low: Points,
    values: Points,
    sizes: npt.NDArray[np.int64],
) -> int:
    """Fill the sets one after the other, and the size of each [n]; returns the sum of sizes."""
    longest = (offsets[1:] - offsets[:-1]).max() + 1
    points, kind = np.empty(longest, np.uint32), np.empty(longest, np.uint8)
    hashes, grams = np.empty(longest, np.uint64), np.empty(longest, np.uint64)
    lengths = np.empty(longest, np.int32)
    total = 0
    for row in range(len(offsets) - 1):
        count = decode_kinds(data, offsets[row], offsets[row + 1], table, points, kind)
        many, _ = shingle_hashes(points, kind, count, shingles[row], low, hashes, lengths, grams)
        ordered = np.sort(grams[:many])
        size = 0
        for i in range(many):
            value = np.uint32(ordered[i] >> np.uint64(32))
            if size == most:
                break
            if not size or value != values[total + size - 1]:
                values[total + size] = value
                size += 1
        sizes[row] = size
        total += size
    return total


def shingle_sets(texts: pa.Array, shingles: Sequence[int], most: int = 1 << 40) -> tuple[Points, npt.NDArray[np.int64]]:
    """The sets of the texts' shingles, as sorted 32-bit hashes one set after the other, and the size of each [n].

    Args:
        texts: valid UTF-8 strings [n], no nulls.
        shingles: words in a shingle [n].
        most: only so many of the least hashes of each set.
    """
    data, offsets = buffers(texts)
    # A shingle begins at a byte of its own; a text of no bytes has one, too.
    values = np.empty(int(np.minimum(offsets[1:] - offsets[:-1] + 1, most).sum()), np.uint32)
    sizes = np.zeros(len(texts), np.int64)
    total = 0
    if len(texts):
        total = set_rows(data, offsets, np.asarray(shingles, np.int32), most, kinds(), lower(), values, sizes)
    return values[:total], sizes


def sketches(texts: pa.Array, shingles: Sequence[int]) -> pa.Array:
    """The SKETCHED least hashes of each text's shingles, in SKETCH's type [n]."""
    values, sizes = shingle_sets(texts, shingles, SKETCHED)
    ends = np.concatenate([[0], np.cumsum(sizes)])
    return pa.ListArray.from_arrays(pa.array(ends, pa.int32()), pa.array(values), type=SKETCH.type)
