"""Stretches of a text that are no prose: addresses are found by words; here are dates, times and mojibake."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from numba import njit

from caravan.curate.characters import DIGIT, TABLE_SIZE
from caravan.curate.kernels import Kinds, Lengths, Points

NO_BREAK_SPACE = 0xA0
SLASH, HYPHEN, FULL_STOP, COLON, BLANK = 0x2F, 0x2D, 0x2E, 0x3A, 0x20
# Year, month and day, as Chinese, Japanese and Korean write them after the number.
DATE_UNITS = tuple(map(ord, "年月日년월일"))


@njit(nogil=True, cache=True)
def count_mojibake(points: Points, count: int, latin: npt.NDArray[np.uint8]) -> int:
    """Characters whose Latin-1 or Windows-1252 bytes form UTF-8 sequences of two bytes or more.

    Left out are C6 to CD, as in the French Ç’, and an accented letter before a no-break space, as in é ».
    """
    total = 0
    i = 0
    while i < count:
        # As lead bytes both encodings write the character of the same number.
        lead = points[i]
        if lead < 0xC2 or lead >= 0xF5 or 0xC6 <= lead < 0xCE:
            i += 1
            continue
        need = 1 if lead < 0xE0 else 2 if lead < 0xF0 else 3
        if need > 1 and i + 1 < count and points[i + 1] == NO_BREAK_SPACE:
            need = 0
        found = 0
        while found < need and i + found + 1 < count:
            point = points[i + found + 1]
            if point >= TABLE_SIZE or not 0x80 <= latin[point] < 0xC0:
                break
            found += 1
        if need and found == need:
            total += need + 1
            i += need
        i += 1
    return total


@njit(nogil=True, cache=True)
def _digits(kinds: Kinds, start: int, count: int) -> int:
    """Where the digits from a place on end."""
    i = start
    while i < count and kinds[i] == DIGIT:
        i += 1
    return i


@njit(nogil=True, cache=True)
def _joined(points: Points, kinds: Kinds, start: int, end: int, count: int) -> int:
    """Where a date as in 2024-01-31, 31.01.24 or 1/31/2024, or a time as in 12:30:59, ends; `start` for neither."""
    mark = points[end]
    if mark != SLASH and mark != HYPHEN and mark != FULL_STOP and mark != COLON:
        return start
    second = _digits(kinds, end + 1, count)
    a, b = end - start, second - end - 1
    if b == 0 or b > 2 or (mark == COLON and (b != 2 or a > 2)):
        return start
    third = _digits(kinds, second + 1, count) if second < count and points[second] == mark else second
    c = max(0, third - second - 1)
    if mark == COLON:
        return third if c == 2 else second
    whole = (a == 4 and 0 < c <= 2) or (a <= 2 and c == 4) or (a == 2 and b == 2 and c == 2)
    return third if whole else start


@njit(nogil=True, cache=True)
def _named(points: Points, kinds: Kinds, start: int, end: int, count: int) -> int:
    """Where a date as in 2024年1月31日 ends, which has two parts or more; `start` for none."""
    parts, i, last = 0, end, start
    while i < count and points[i] in DATE_UNITS:
        parts, last = parts + 1, i + 1
        i = i + 2 if i + 1 < count and points[i + 1] == BLANK else i + 1
        following = _digits(kinds, i, count)
        if following == i or following > i + 2:
            break
        i = following
    return last if parts > 1 else start


@njit(nogil=True, cache=True)
def count_dates(points: Points, kinds: Kinds, count: int, breaks: Lengths, many: int) -> int:
    """Characters of dates and times of digits."""
    total, done = 0, 0
    for b in range(many):
        i = int(breaks[b])
        if kinds[i] == DIGIT and i >= done:
            end = _digits(kinds, i, count)
            done = end
            if end < count and end - i <= 4:
                done = max(_joined(points, kinds, i, end, count), _named(points, kinds, i, end, count), end)
                total += done - i if done > end else 0
    return total
