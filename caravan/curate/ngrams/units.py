"""Text as the units of an n-gram model, line by line: words, and single characters in scripts without spaces.

A word is a run of letters and digits, case ignored, each digit written as 0 (as in CCNet, arXiv 1911.00359); what
stands between words is left out. Units go by the hash of their characters, so that text need not become strings.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa
from numba import njit

from caravan.curate.characters import DIGIT, LETTER, NEWLINE, TABLE_SIZE, UNSPACED, kinds, lower
from caravan.curate.kernels import FNV_OFFSET, FNV_PRIME, Hashes, Points, buffers, decode, kind_of, mix

Ints = npt.NDArray[np.int32]
Longs = npt.NDArray[np.int64]

LINE_END = np.uint64(0)  # stands where a line with units ends
BREAK = np.uint64(1)  # stands where text was left out
ZERO = 0x30
PIECES = 3


class Units(NamedTuple):
    """Units of texts, one after the other.

    Attributes:
        hashes: of each unit, LINE_END after the last of each line, BREAK between pieces of a text [u].
        starts, lengths: characters of each unit, counted from the start of its text [u].
        bounds: of each text in these arrays [n + 1].
    """

    hashes: Hashes
    starts: Ints
    lengths: Ints
    bounds: Longs


@njit(inline="always")
def _inside(byte: np.uint8) -> bool:
    """Whether a byte goes on with a character that began before it."""
    return bool((byte & 0xC0) == 0x80)


@njit(nogil=True, cache=True)
def _half_word(points: Points, count: int, step: int, table: npt.NDArray[np.uint8]) -> int:
    """Letters and digits at the start (step 1) or the end (-1), which may be half of a word."""
    many = 0
    while many < count and kind_of(points[many if step > 0 else count - 1 - many], table) in (LETTER, DIGIT):
        many += 1
    return many


@njit(inline="always")
def pieces_of(size: int, window: int) -> int:
    """Pieces in which a text of so many bytes is read."""
    return PIECES if 0 < PIECES * window < size else 1


@njit(nogil=True, cache=True)
def read_piece(
    data: npt.NDArray[np.uint8],
    start: int,
    end: int,
    window: int,
    piece: int,
    table: npt.NDArray[np.uint8],
    points: Points,
) -> tuple[int, int, bool]:
    """Put the characters of one piece of a text into `points`.

    Returns:
        where in `points` its whole words begin and where they end, and whether the text ends there too.
    """
    if pieces_of(end - start, window) == 1:
        return 0, decode(data, start, end, points), True
    first = start + (end - start - window) * piece // (PIECES - 1)
    last = first + window
    while first > start and _inside(data[first]):
        first -= 1
    while last < end and _inside(data[last]):
        last += 1
    count = decode(data, first, last, points)
    skipped = _half_word(points, count, 1, table) if first > start else 0
    if last < end:
        count -= _half_word(points, count, -1, table)
    return skipped, count, last == end


@njit(nogil=True, cache=True)
def _split_piece(
    points: Points,
    start: int,
    end: int,
    ends: bool,
    table: npt.NDArray[np.uint8],
    low: Points,
    hashes: Hashes,
    starts: Ints,
    lengths: Ints,
    many: int,
) -> int:
    """Append the units of these characters, of the last line its end only if the text `ends` here; returns how many."""
    line = many
    h, length = FNV_OFFSET, 0
    for i in range(start, end + 1):
        point = points[i] if i < end else np.uint32(10)
        kind = kind_of(point, table)
        if kind in (LETTER, DIGIT):
            h = (h ^ np.uint64(ZERO if kind == DIGIT else low[point])) * FNV_PRIME
            length += 1
            continue
        if length:
            hashes[many], starts[many], lengths[many] = mix(h), i - length, length
            many += 1
            h, length = FNV_OFFSET, 0
        if kind == UNSPACED:
            hashes[many], starts[many], lengths[many] = mix((h ^ np.uint64(point)) * FNV_PRIME), i, 1
            many += 1
        elif kind == NEWLINE and many > line and (ends or i < end):
            hashes[many], starts[many], lengths[many] = LINE_END, i, 0
            many += 1
            line = many
    return many


@njit(nogil=True, cache=True)
def _split(
    data: npt.NDArray[np.uint8],
    offsets: Longs,
    window: int,
    table: npt.NDArray[np.uint8],
    low: Points,
    hashes: Hashes,
    starts: Ints,
    lengths: Ints,
    bounds: Longs,
) -> None:
    points = np.empty((offsets[1:] - offsets[:-1]).max() + 1, np.uint32)
    many = 0
    for row in range(len(offsets) - 1):
        start, end = offsets[row], offsets[row + 1]
        for piece in range(pieces_of(end - start, window)):
            first, count, ends = read_piece(data, start, end, window, piece, table, points)
            many = _split_piece(points, first, count, ends, table, low, hashes, starts, lengths, many)
            if not ends:
                hashes[many], starts[many], lengths[many] = BREAK, count, 0
                many += 1
        bounds[row + 1] = many


def split(texts: pa.Array, window: int = 0) -> Units:
    """Units of each text.

    Args:
        texts: valid UTF-8 strings [n], no nulls.
        window: bytes looked at in each of three places of a longer text; 0: all of it.
    """
    bounds = np.zeros(len(texts) + 1, np.int64)
    if not len(texts):
        return Units(np.empty(0, np.uint64), np.empty(0, np.int32), np.empty(0, np.int32), bounds)
    data, offsets = buffers(texts)
    # A unit and the end of its line take a byte each at the least; the last line may end without one.
    most = int(offsets[-1] - offsets[0]) + len(texts)
    hashes, starts, lengths = np.empty(most, np.uint64), np.empty(most, np.int32), np.empty(most, np.int32)
    _split(data, offsets, window, kinds(), lower(), hashes, starts, lengths, bounds)
    many = bounds[-1]
    return Units(hashes[:many], starts[:many], lengths[:many], bounds)


def normalised(word: str) -> str:
    """A word as it stands in a model: in lower case, each digit as 0."""
    table, low = kinds(), lower()
    return "".join(
        character
        if (point := ord(character)) >= TABLE_SIZE
        else "0"
        if table[point] == DIGIT
        else chr(low[point])
        if table[point] == LETTER
        else character
        for character in word
    )


def hash_of(word: str) -> int:
    """Hash of a unit, or of any other word of a model, as `split` gives it for the normalised word."""
    h = int(FNV_OFFSET)
    for character in word:
        h = (h ^ ord(character)) * int(FNV_PRIME) & (1 << 64) - 1
    return int(mix(np.uint64(h)))


@njit(nogil=True, cache=True)
def find_word(key: np.uint64, keys: Hashes, rows: Ints) -> np.int64:
    """Slot of a word in a table with open addressing: its own, or the free one (row -1) where it would stand."""
    slot = np.int64(key & np.uint64(len(keys) - 1))
    while rows[slot] >= 0 and keys[slot] != key:
        slot = (slot + 1) & (len(keys) - 1)
    return slot


@njit(nogil=True, cache=True)
def word_table(hashes: Hashes) -> tuple[Hashes, Ints]:
    """Table in which the row of each of these words is found by its hash; of the same word the first row counts."""
    size = 4
    while size < 2 * len(hashes):
        size *= 2
    keys, rows = np.zeros(size, np.uint64), np.full(size, -1, np.int32)
    for row in range(len(hashes)):
        slot = find_word(hashes[row], keys, rows)
        if rows[slot] < 0:
            keys[slot], rows[slot] = hashes[row], row
    return keys, rows
