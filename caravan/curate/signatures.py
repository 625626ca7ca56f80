"""What deduplication compares: a hash of the normalised text, and MinHash signatures cut into LSH bands.

MinHash (Broder 1997): the least hash over a text's shingles, under each of many permutations; two texts agree in one
of them with probability of their shingles' Jaccard similarity. Texts that agree in all rows of a band are candidates.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
from numba import njit

from caravan.curate.characters import INVISIBLE, NEWLINE, SPACE, TABLE_SIZE, kinds, lower
from caravan.curate.kernels import (
    FNV_OFFSET,
    FNV_PRIME,
    Hashes,
    Points,
    buffers,
    decode,
    kind_of,
    mix,
    roll,
    split_words,
)

U32_MAX = np.uint32(0xFFFFFFFF)
SEED = 112


@njit(nogil=True, cache=True)
def normalised_hash(points: Points, count: int, table: npt.NDArray[np.uint8], low: Points) -> np.uint64:
    """Hash of the text without blanks and invisible characters, case ignored."""
    h = FNV_OFFSET
    for i in range(count):
        kind = kind_of(points[i], table)
        if kind != SPACE and kind != NEWLINE and kind != INVISIBLE:
            h = (h ^ np.uint64(low[points[i]] if points[i] < TABLE_SIZE else points[i])) * FNV_PRIME
    return mix(h)


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
    a: Points,
    b: Points,
    table: npt.NDArray[np.uint8],
    low: Points,
    exact: Hashes,
    bands: Hashes,
) -> None:
    """Fill the hash of the normalised text [n] and the key of each LSH band [n, bands]."""
    longest = (offsets[1:] - offsets[:-1]).max() + 1
    points = np.empty(longest, np.uint32)
    hashes, grams = np.empty(longest, np.uint64), np.empty(longest, np.uint64)
    lengths = np.empty(longest, np.int32)
    least = np.empty(len(a), np.uint32)
    rows = len(a) // bands.shape[1]
    for row in range(len(offsets) - 1):
        count = decode(data, offsets[row], offsets[row + 1], points)
        exact[row] = normalised_hash(points, count, table, low)
        words = split_words(points, count, table, low, hashes, lengths)
        many = roll(hashes, words, max(1, min(shingles[row], words)), grams)
        if not many:
            grams[0], many = exact[row], 1
        min_hashes(grams, many, a, b, least)
        for band in range(bands.shape[1]):
            h = FNV_OFFSET
            for k in range(band * rows, (band + 1) * rows):
                h = (h ^ np.uint64(least[k])) * FNV_PRIME
            bands[row, band] = mix(h)


def sign(texts: pa.Array, shingles: npt.NDArray[np.int32], *, bands: int, rows: int) -> tuple[Hashes, Hashes]:
    """What deduplication compares: the normalised text's hash [n], and the key of each LSH band [n, bands].

    Args:
        texts: valid UTF-8 strings [n], no nulls.
        shingles: words in a shingle [n].
        bands, rows: of the LSH; rows x bands permutations are taken.
    """
    random: Any = np.random.default_rng(SEED)
    a = random.integers(1, 1 << 31, bands * rows, dtype=np.uint32) * np.uint32(2) + np.uint32(1)
    b = random.integers(0, 1 << 32, bands * rows, dtype=np.uint32)
    exact, keys = np.empty(len(texts), np.uint64), np.empty((len(texts), bands), np.uint64)
    if len(texts):
        sign_rows(*buffers(texts), shingles, a, b, kinds(), lower(), exact, keys)
    return exact, keys
