"""Texts as sets of hashed n-grams: of words within a line, and of characters, punctuation and line breaks among them.

Case is ignored, each digit is a 0, blanks in a row are one. N-grams share the places of a table by their hash (the
hashing trick, Weinberger et al. 2009); how often one comes is left out.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa
from numba import njit

from caravan.curate.characters import DIGIT, LETTER, NEWLINE, SPACE, UNSPACED, kinds, lower
from caravan.curate.kernels import FNV_OFFSET, FNV_PRIME, GOLDEN, Kinds, Points, buffers, kind_of, mix
from caravan.curate.ngrams.units import ZERO, Longs, pieces_of, read_piece
from caravan.recipe.learned import ClassifierTraining

Places = npt.NDArray[np.uint32]
BLANK, BREAK = 32, 10
START = np.uint64(0x9AE16A3B2F90404F)  # of character n-grams, so that they are none of the words


class Shape(NamedTuple):
    """Which n-grams, and how many places there are for them.

    Attributes:
        words: words in the longest n-gram of words.
        shortest, longest: characters of n-grams of characters.
        bits: the table has 2 to this power places.
        window: bytes looked at in each of three places of a longer text; 0: all of it.
    """

    words: int
    shortest: int
    longest: int
    bits: int
    window: int


def shape_of(config: ClassifierTraining) -> Shape:
    """What a classifier that was trained so looks at."""
    return Shape(config.words, *config.characters, config.bits, config.window)


@njit(inline="always")
def _add(hashed: np.uint64, bits: int, seen: Places, out: Places, many: int) -> int:
    """Append the place of an n-gram, unless the text has it already; returns how many there are."""
    place = np.uint32(hashed >> np.uint64(64 - bits))
    bit = np.uint32(1) << (place & np.uint32(31))
    if seen[place >> 5] & bit:
        return many
    seen[place >> 5] |= bit
    out[many] = place
    return many + 1


@njit(nogil=True, cache=True)
def _normalise(points: Points, first: int, count: int, table: Kinds, low: Points) -> int:
    """Write the characters from `first` on as they count to the start; returns how many these are."""
    length, last = 0, np.uint32(BLANK)
    for i in range(first, count):
        point = points[i]
        kind = kind_of(point, table)
        if kind == LETTER:
            point = low[point]
        elif kind == DIGIT:
            point = np.uint32(ZERO)
        elif kind in (SPACE, NEWLINE):
            point = np.uint32(BREAK if kind == NEWLINE else BLANK)
            if last in (point, np.uint32(BREAK)):
                continue
        points[length] = last = point
        length += 1
    return length


@njit(nogil=True, cache=True)
def _words(points: Points, length: int, shape: Shape, table: Kinds, seen: Places, out: Places, many: int) -> int:
    """Append n-grams of words; in scripts without spaces each character is one."""
    before = np.zeros(shape.words, np.uint64)  # hashes of the 0, 1, ... words before
    known, h, inside = 0, FNV_OFFSET, False
    for i in range(length + 1):
        point = points[i] if i < length else np.uint32(BREAK)
        kind = kind_of(point, table)
        letter = kind in (LETTER, DIGIT)
        for unit in range(2):  # the word that ends here, then this character itself
            if (unit == 0 and (letter or not inside)) or (unit == 1 and kind != UNSPACED):
                continue
            word = mix(h if unit == 0 else (FNV_OFFSET ^ np.uint64(point)) * FNV_PRIME)
            for n in range(known, -1, -1):
                gram = mix(before[n] * GOLDEN + word)
                many = _add(gram, shape.bits, seen, out, many)
                if n + 1 < shape.words:
                    before[n + 1] = gram
            known = min(known + 1, shape.words - 1)
            h, inside = FNV_OFFSET, False
        if letter:
            h, inside = (h ^ np.uint64(point)) * FNV_PRIME, True
        elif point == BREAK:
            known = 0
    return many


@njit(nogil=True, cache=True)
def _characters(points: Points, length: int, shape: Shape, seen: Places, out: Places, many: int) -> int:
    """Append n-grams of characters."""
    for i in range(length):
        h = START
        for n in range(1, min(shape.longest, i + 1) + 1):
            h = (h ^ np.uint64(points[i - n + 1])) * FNV_PRIME
            if n >= shape.shortest:
                many = _add(mix(h), shape.bits, seen, out, many)
    return many


@njit(nogil=True, cache=True)
def places_of(
    data: npt.NDArray[np.uint8],
    start: int,
    end: int,
    shape: Shape,
    table: Kinds,
    low: Points,
    points: Points,
    seen: Places,
    out: Places,
) -> int:
    """Places of the n-grams of a text, each once, in the order in which they come; returns how many.

    Args:
        points: room for the text's characters and one more.
        seen: a bit for each place, all 0, and left so.
        out: room for `most_of` places.
    """
    many = 0
    for piece in range(pieces_of(end - start, shape.window)):
        first, count, _ = read_piece(data, start, end, shape.window, piece, table, points)
        length = _normalise(points, first, count, table, low)
        many = _words(points, length, shape, table, seen, out, many)
        many = _characters(points, length, shape, seen, out, many)
    for place in out[:many]:
        seen[place >> 5] = 0
    return many


@njit(nogil=True, cache=True)
def most_of(size: int, shape: Shape) -> int:
    """The most places that a text of so many bytes may have."""
    pieces = pieces_of(size, shape.window)
    # A piece takes up to 3 more bytes at each end, so that no character is cut.
    read = pieces * (shape.window + 6) if pieces > 1 else size
    return int((read + pieces) * (shape.words + shape.longest - shape.shortest + 1))


@njit(nogil=True, cache=True)
def _hash_all(
    data: npt.NDArray[np.uint8], offsets: Longs, shape: Shape, table: Kinds, low: Points, out: Places, bounds: Longs
) -> None:
    points = np.empty((offsets[1:] - offsets[:-1]).max() + 1, np.uint32)
    seen = np.zeros(max(1, (1 << shape.bits) >> 5), np.uint32)
    for row in range(len(offsets) - 1):
        rest = out[bounds[row] :]
        many = places_of(data, offsets[row], offsets[row + 1], shape, table, low, points, seen, rest)
        bounds[row + 1] = bounds[row] + many


class Hashed(NamedTuple):
    """N-grams of texts, one text after the other.

    Attributes:
        places: of each n-gram in the table [m].
        bounds: of each text in `places` [n + 1].
    """

    places: Places
    bounds: Longs


def hash_texts(texts: pa.Array, shape: Shape) -> Hashed:
    """The n-grams of each text.

    Args:
        texts: valid UTF-8 strings [n], no nulls.
    """
    bounds = np.zeros(len(texts) + 1, np.int64)
    if not len(texts):
        return Hashed(np.empty(0, np.uint32), bounds)
    data, offsets = buffers(texts)
    room = sum(most_of(size, shape) for size in np.diff(offsets).tolist())
    out = np.empty(room, np.uint32)
    _hash_all(data, offsets, shape, kinds(), lower(), out, bounds)
    return Hashed(out[: bounds[-1]], bounds)
