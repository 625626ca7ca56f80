"""Lines and paragraphs of texts, each with the hash of its letters, and texts without some of them.

A line ends with its line break, a paragraph before the line after its empty lines: what is taken out leaves no gap.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

import numpy as np
import numpy.typing as npt
import pyarrow as pa
from numba import njit

from caravan.curate.characters import INVISIBLE, NEWLINE, SPACE, TABLE_SIZE, kinds, lower
from caravan.curate.kernels import FNV_OFFSET, FNV_PRIME, Hashes, Points, buffers, decode_kinds, mix
from caravan.curate.signatures import salt

Integers = npt.NDArray[np.int64]
HASHES = pa.list_(pa.uint64())


@njit(inline="always")
def _width(point: np.uint32) -> int:
    """Bytes of a character in UTF-8."""
    return 1 if point < 0x80 else 2 if point < 0x800 else 3 if point < 0x10000 else 4


@njit(nogil=True, cache=True)
def part_rows(
    data: npt.NDArray[np.uint8],
    offsets: Integers,
    salts: Hashes,
    table: npt.NDArray[np.uint8],
    low: Points,
    breaks: int,
    least: int,
    hashes: Hashes,
    places: Integers,
) -> int:
    """Fill the hash, and row, first byte and end in its text [.., 3] of each part that is long enough; their number.

    Args:
        breaks: line breaks that end a part: 1 for lines, 2 for paragraphs.
        least: fewest visible characters.
    """
    longest = (offsets[1:] - offsets[:-1]).max() + 1
    points, kind = np.empty(longest, np.uint32), np.empty(longest, np.uint8)
    total = 0
    for row in range(len(offsets) - 1):
        count = decode_kinds(data, offsets[row], offsets[row + 1], table, points, kind)
        i = byte = 0
        while i < count:
            start, h, visible, broken = byte, FNV_OFFSET ^ salts[row], 0, 0
            next_i, next_byte = count, byte
            while i < count:
                if kind[i] == NEWLINE:
                    broken += 1
                elif kind[i] != SPACE and kind[i] != INVISIBLE:
                    if visible and broken >= breaks:
                        break
                    visible, broken = visible + 1, 0
                    h = (h ^ np.uint64(low[points[i]] if points[i] < TABLE_SIZE else points[i])) * FNV_PRIME
                byte += _width(points[i])
                i += 1
                if kind[i - 1] == NEWLINE:
                    next_i, next_byte = i, byte
                    if breaks == 1:
                        break
            # Blanks before the next part are its own.
            if i < count:
                i, byte = next_i, next_byte
            if visible >= least:
                hashes[total] = mix(h)
                places[total, 0], places[total, 1], places[total, 2] = row, start, byte
                total += 1
    return total


def parts_of(texts: pa.Array, languages: Sequence[str], unit: str, least: int) -> tuple[Hashes, Integers]:
    """Hash of each line or paragraph of some length [P], and its row, first byte and end within the text [P, 3].

    Args:
        texts: valid UTF-8 strings [n], no nulls.
        languages: of the texts [n]; equal parts of two languages have nothing in common.
        unit: `line` or `paragraph`.
        least: fewest visible characters; case, blanks and invisible characters do not count.
    """
    data, offsets = buffers(texts)
    room = int(offsets[-1] - offsets[0]) // least + 1
    hashes, places = np.empty(room, np.uint64), np.empty((room, 3), np.int64)
    salts = np.fromiter((salt(f"{unit} {language}") for language in languages), np.uint64, len(texts))
    breaks = 2 if unit == "paragraph" else 1
    found = part_rows(data, offsets, salts, kinds(), lower(), breaks, least, hashes, places) if len(texts) else 0
    return hashes[:found], places[:found]


def part_hashes(texts: pa.Array, languages: Sequence[str], unit: str, least: int) -> pa.Array:
    """The different hashes of each text's lines or paragraphs, as lists [n]."""
    hashes, places = parts_of(texts, languages, unit, least)
    order = np.lexsort((hashes, places[:, 0]))
    rows, hashes = places[order, 0], hashes[order]
    new = np.ones(len(rows), np.bool_)
    new[1:] = (rows[1:] != rows[:-1]) | (hashes[1:] != hashes[:-1])
    ends = np.concatenate([[0], np.cumsum(np.bincount(rows[new], minlength=len(texts)))])
    return pa.ListArray.from_arrays(pa.array(ends, pa.int32()), pa.array(hashes[new]), type=HASHES)


def outermost(places: Iterable[tuple[int, int]]) -> list[int]:
    """Which of some spans, sorted by start, longer ones first, lie in none of the others."""
    chosen, end = [], 0
    for index, (start, stop) in enumerate(places):
        if start >= end:
            chosen.append(index)
            end = stop
    return chosen


def without(text: str, spans: Sequence[tuple[int, int]]) -> tuple[str, list[str]]:
    """A text without some spans of its bytes, at most one empty line where they were, and what was in each span."""
    raw = text.encode()
    edges = [0, *(edge for span in spans for edge in span), len(raw)]
    left = b"".join(raw[start:end] for start, end in zip(edges[::2], edges[1::2], strict=True)).decode()
    return re.sub(r"\n{3,}", "\n\n", left).strip("\n"), [raw[start:end].decode().strip() for start, end in spans]
