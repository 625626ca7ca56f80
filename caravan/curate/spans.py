"""Where personal data could stand in a text, in one pass over its bytes: libraries then see those places only.

What is found is a superset: whether an address, a telephone number or an id stands there is for `personal` to say.
"""

from __future__ import annotations

import functools

import numpy as np
import numpy.typing as npt
import pyarrow as pa
from numba import njit

from caravan.curate.kernels import buffers

# Kinds of places: an @ between names, four numbers with dots, hexadecimal groups with colons, a run of digits with
# separators, and a word of letters and digits.
EMAIL, QUAD, HEX, DIGITS, TOKEN = range(5)
FEWEST_DIGITS, MOST_DIGITS = 7, 20
FEWEST_IN_TOKEN, SHORTEST_TOKEN, LONGEST_TOKEN = 6, 9, 18
LONGEST_EMAIL = 254
MOST_SEPARATORS = 3
ENOUGH, TOGETHER = 9, 6  # digits of a whole number, and together in the next
ROOM = 1024

# Classes of bytes: digits, letters and the underscore, what else may stand in the name of an address.
NO, DIGIT, LETTER, MARK = range(4)
AT, DOT, HYPHEN, COLON, BRACKET, PLUS = 0x40, 0x2E, 0x2D, 0x3A, 0x28, 0x2B
# First bytes of a digit or of an @: all others are passed over. Those of Arabic, Persian, Thai and wide digits may
# begin other characters too.
STARTS = (*range(0x30, 0x3A), AT, 0xD9, 0xDB, 0xE0, 0xEF)
HEX_DIGITS = b"0123456789abcdefABCDEF"

Bytes = npt.NDArray[np.uint8]
Spans = npt.NDArray[np.int64]


@functools.cache
def classes() -> tuple[Bytes, Bytes, Bytes]:
    """Class of each byte; which bytes begin a digit or an @; which are hexadecimal digits."""
    table, starts, hexes = (np.zeros(256, np.uint8) for _ in range(3))
    table[[*range(0x41, 0x5B), *range(0x61, 0x7B), 0x5F]] = LETTER
    table[0x30:0x3A] = DIGIT
    table[list(b".%+-")] = MARK
    starts[list(STARTS)] = 1
    hexes[list(HEX_DIGITS)] = 1
    return table, starts, hexes


@njit(inline="always")
def _digit_width(data: Bytes, i: int, end: int) -> int:
    """Bytes of the digit that begins here; 0 for none."""
    lead = data[i]
    if lead < 0x80:
        return 1 if 0x30 <= lead <= 0x39 else 0
    if i + 1 < end and (
        (lead == 0xD9 and 0xA0 <= data[i + 1] <= 0xA9) or (lead == 0xDB and 0xB0 <= data[i + 1] <= 0xB9)
    ):
        return 2
    if i + 2 < end and 0x90 <= data[i + 2] <= 0x99:
        return 3 if (lead == 0xEF and data[i + 1] == 0xBC) or (lead == 0xE0 and data[i + 1] == 0xB9) else 0
    return 0


@njit(inline="always")
def _separator_width(data: Bytes, i: int, end: int) -> int:
    """Bytes of a blank, hyphen, dot, slash or bracket such as stand within telephone numbers; 0 for none."""
    lead = data[i]
    if lead < 0x80:
        return 1 if lead in (0x20, 0x28, 0x29, 0x2D, 0x2E, 0x2F) else 0
    if lead == 0xC2 and i + 1 < end and data[i + 1] == 0xA0:
        return 2
    if lead == 0xE2 and i + 2 < end and data[i + 1] == 0x80 and (0x90 <= data[i + 2] <= 0x95 or data[i + 2] == 0xAF):
        return 3
    return 0


@njit(nogil=True, cache=True)
def _email(data: Bytes, at: int, begin: int, end: int, table: Bytes) -> tuple[int, int]:
    """Where the address around this @ starts and ends; equal for none."""
    start, stop, dot = at, at + 1, -1
    while start > begin and table[data[start - 1]] != NO:
        start -= 1
    while start < at and data[start] in (DOT, HYPHEN):
        start += 1
    while stop < end and (table[data[stop]] in (DIGIT, LETTER) or data[stop] in (DOT, HYPHEN)):
        if data[stop] == DOT and stop + 2 < end and table[data[stop + 1]] == table[data[stop + 2]] == LETTER:
            dot = stop
        stop += 1
    if start == at or dot <= at + 1 or stop - start > LONGEST_EMAIL:
        return at, at
    stop = dot + 1
    while stop < end and table[data[stop]] == LETTER:
        stop += 1
    return start, stop


@njit(nogil=True, cache=True)
def _quad(data: Bytes, i: int, end: int, table: Bytes) -> int:
    """Where four numbers of up to three digits with dots between end; the start for none."""
    at = i
    for group in range(4):
        digits = 0
        while at < end and table[data[at]] == DIGIT and digits < 4:
            at += 1
            digits += 1
        if digits == 0 or digits > 3 or (group < 3 and (at >= end or data[at] != DOT)):
            return i
        at += group < 3
    more = at + 1 < end and data[at] == DOT and table[data[at + 1]] == DIGIT
    return i if more or (at < end and (table[data[at]] == LETTER or data[at] == HYPHEN)) else at


@njit(nogil=True, cache=True)
def _hex(data: Bytes, i: int, end: int, table: Bytes, hexes: Bytes) -> int:
    """Where an address of hexadecimal groups ends, from 2000 to 3fff in the first; the start for none."""
    if i + 5 >= end or data[i + 4] != COLON or data[i] not in (0x32, 0x33):
        return i
    at, colons, skips = i, 0, 0
    while at < end and (hexes[data[at]] or data[at] == COLON):
        colons += data[at] == COLON
        skips += data[at] == COLON and data[at - 1] == COLON
        at += 1
    return i if (colons != 7 and skips != 1) or (at < end and table[data[at]] == LETTER) else at


@njit(nogil=True, cache=True)
def _starts_anew(data: Bytes, i: int, end: int, table: Bytes) -> bool:
    """Whether what stands after a blank is a number of its own: an address, or many digits together."""
    together = i
    while together < end and table[data[together]] == DIGIT:
        together += 1
    return together - i >= TOGETHER or _quad(data, i, end, table) > i


@njit(nogil=True, cache=True)
def _digits(data: Bytes, i: int, end: int, table: Bytes) -> tuple[int, int]:
    """Where a run of digits and separators ends, after its last digit, and how many digits it has."""
    at, last, digits, separators = i, i, 0, 0
    while at < end and separators <= MOST_SEPARATORS:
        width = _digit_width(data, at, end)
        if width:
            digits += 1
            separators = 0
            last = at + width
        else:
            width = _separator_width(data, at, end)
            if not width or (digits >= ENOUGH and _starts_anew(data, at + width, end, table)):
                break
            separators += 1
        at += width
    return last, digits


@njit(nogil=True, cache=True)
def _place(data: Bytes, i: int, begin: int, end: int, table: Bytes, hexes: Bytes) -> tuple[int, int, int, int]:
    """Kind (-1 for none), first byte and end of what stands around this digit, and where to go on."""
    first, word, digits = i, i, 0
    while first > begin and table[data[first - 1]] == LETTER:
        first -= 1
    while word < end and table[data[word]] in (DIGIT, LETTER):
        digits += table[data[word]] == DIGIT
        word += 1
    stop = _hex(data, first, end, table, hexes)
    if stop > first:
        return HEX, first, stop, stop
    if 0 < digits < word - first:
        fits = digits >= FEWEST_IN_TOKEN and SHORTEST_TOKEN <= word - first <= LONGEST_TOKEN
        return TOKEN if fits else -1, first, word, word
    stop = _quad(data, i, end, table)
    if stop > i:
        return QUAD, i, stop, stop
    stop, many = _digits(data, i, end, table)
    while first > max(begin, i - 2) and data[first - 1] in (BRACKET, PLUS):
        first -= 1
    if not FEWEST_DIGITS <= many <= MOST_DIGITS:
        return -1, first, stop, max(stop, word)
    if stop + 1 < end and data[stop] == HYPHEN and table[data[stop + 1]] == LETTER:
        alone = stop + 2 == end or table[data[stop + 2]] == NO
        return TOKEN if alone else -1, first, stop + 2, stop + 2  # a check letter
    return DIGITS, first, stop, max(stop, word)


@njit(nogil=True, cache=True)
def _find(data: Bytes, offsets: npt.NDArray[np.int64], table: Bytes, starts: Bytes, hexes: Bytes, out: Spans) -> int:
    """Fill row, kind, start and end of each place [places, 4]; returns how many, or -1 if `out` is too small."""
    count = 0
    for row in range(len(offsets) - 1):
        i, begin, end = offsets[row], offsets[row], offsets[row + 1]
        while i < end:
            byte = data[i]
            if not starts[byte]:
                i += 1
                continue
            kind, first, stop, after = -1, i, i, i + 1
            if byte == AT:
                first, stop = _email(data, i, begin, end, table)
                if stop > first:
                    kind, after = EMAIL, stop
                    # Digits before the @ belong to the address.
                    while count and out[count - 1, 0] == row and out[count - 1, 3] > first:
                        count -= 1
            elif _digit_width(data, i, end):
                kind, first, stop, after = _place(data, i, begin, end, table, hexes)
            if kind >= 0:
                if count == len(out):
                    return -1
                out[count, 0], out[count, 1], out[count, 2], out[count, 3] = row, kind, first, stop
                count += 1
            i = after
    return count


def find_spans(texts: pa.Array) -> Spans:
    """Row, kind, first byte and end of each place [places, 4], in the order of the texts; bytes count within a text.

    Args:
        texts: valid UTF-8 strings, no nulls.
    """
    data, offsets = buffers(texts)
    room = ROOM
    while True:
        out = np.empty((room, 4), np.int64)
        count = _find(data, offsets, *classes(), out) if len(texts) else 0
        if count >= 0:
            found = out[:count]
            found[:, 2:] -= offsets[found[:, 0], None]
            return found
        room *= 4
