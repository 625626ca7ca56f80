"""Which repairs a text could need, in one pass over its bytes: regular expressions then run over few texts only.

What is found is a superset: a text without the mark of a repair is one that the repair would not change; ANY marks all.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pyarrow as pa
from numba import njit

from caravan.curate.kernels import buffers

MOJIBAKE, LINE_BREAK, INVISIBLE, URL_LINE, LONG_WORD, WHITESPACE, ANY = range(7)
SPACE, TAB, NEWLINE, FEED, RETURN, DELETE = 0x20, 0x09, 0x0A, 0x0C, 0x0D, 0x7F

Bytes = npt.NDArray[np.uint8]
Marks = npt.NDArray[np.bool_]


@njit(inline="always")
def _width(lead: np.uint8) -> int:
    """Bytes of the character that begins with this one."""
    return 1 if lead < 0xC0 else 2 if lead < 0xE0 else 3 if lead < 0xF0 else 4


@njit(inline="always")
def _blank(lead: np.uint8, second: np.uint8, third: np.uint8) -> bool:
    """A space that does not break the line, of whatever width."""
    if lead < 0x80:
        return bool(lead in (SPACE, TAB))
    return bool(
        (lead == 0xC2 and second == 0xA0)
        or (lead == 0xE1 and second == 0x9A and third == 0x80)
        or (lead == 0xE2 and second == 0x80 and (third <= 0x8A or third == 0xAF))
        or (lead == 0xE2 and second == 0x81 and third == 0x9F)
        or (lead == 0xE3 and second == 0x80 and third == 0x80)
    )


@njit(inline="always")
def _space(lead: np.uint8, second: np.uint8, third: np.uint8) -> bool:
    """Whatever Unicode calls white space, and the controls."""
    if lead < 0x80:
        return bool(lead <= SPACE)
    return bool(
        _blank(lead, second, third)
        or (lead == 0xC2 and second == 0x85)
        or (lead == 0xE2 and second == 0x80 and 0xA8 <= third <= 0xA9)
    )


@njit(inline="always")
def _unseen(lead: np.uint8, second: np.uint8, third: np.uint8) -> bool:
    """A control or an invisible character; a few that are neither share their first bytes."""
    if lead < 0x80:
        return bool((lead < SPACE and lead != TAB and lead != NEWLINE and lead != RETURN) or lead == 0x7F)
    return bool(
        (lead == 0xC2 and (second < 0xA0 or second == 0xAD))
        or (lead == 0xD8 and second == 0x9C)
        or (lead == 0xE1 and second == 0xA0)
        or (lead == 0xE2 and second == 0x80 and (0x8B <= third <= 0x8F or 0xAA <= third <= 0xAE))
        or (lead == 0xE2 and second == 0x81 and third >= 0xA0)
        or (lead == 0xEF and (second == 0xBB or second == 0xBF))
    )


@njit(nogil=True, cache=True)
def _mark(data: Bytes, offsets: npt.NDArray[np.int64], longest_word: int, out: Marks) -> None:
    """Fill the marks of each text [n, 7]."""
    for row in range(len(offsets) - 1):
        start, end = offsets[row], offsets[row + 1]
        mojibake, line_break, invisible, url_line, long_word, whitespace = False, False, False, False, False, False
        word, newlines = 0, 0
        was_blank, was_latin, line_starts = False, False, True
        i = start
        while i < end:
            lead = data[i]
            if SPACE < lead < DELETE:
                url_line |= line_starts and (lead == 0x68 or lead == 0x77)  # http or www
                word += 1
                long_word |= word > longest_word
                newlines, was_blank, was_latin, line_starts = 0, False, False, False
                i += 1
                continue
            width = _width(lead)
            second = data[i + 1] if width > 1 else np.uint8(0)
            third = data[i + 2] if width > 2 else np.uint8(0)
            blank, space = _blank(lead, second, third), _space(lead, second, third)
            newlines = newlines + 1 if lead == NEWLINE else 0
            mojibake |= was_latin and lead >= 0x80
            invisible |= _unseen(lead, second, third)
            line_break |= lead == RETURN or (lead == 0xE2 and space and not blank)
            whitespace |= lead == TAB or newlines > 2 or (was_blank and (blank or lead == NEWLINE))
            whitespace |= space and (i == start or i + width == end)
            word = 0 if lead in (SPACE, TAB, NEWLINE, FEED, RETURN) else word + 1
            long_word |= word > longest_word
            line_starts = lead == NEWLINE or (line_starts and blank)
            was_blank, was_latin = blank, lead == 0xC3
            i += width
        out[row, MOJIBAKE], out[row, LINE_BREAK], out[row, INVISIBLE] = mojibake, line_break, invisible
        out[row, URL_LINE], out[row, LONG_WORD], out[row, WHITESPACE] = url_line, long_word, whitespace


def marks(texts: pa.Array, longest_word: int) -> Marks:
    """What could be repaired in each text [n, 7], in the order of the constants.

    Args:
        texts: valid UTF-8 strings [n], no nulls.
        longest_word: characters that a word may have.
    """
    out = np.zeros((len(texts), 7), np.bool_)
    out[:, ANY] = True
    if len(texts):
        _mark(*buffers(texts), longest_word, out)
    return out
