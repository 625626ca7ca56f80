"""Lines, paragraphs and sentences of a text: those that repeat, and how lines begin and end (Gopher, C4, FineWeb)."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from numba import njit

from caravan.curate.characters import (
    BULLET,
    CAPITAL,
    CLOSING,
    DIGIT,
    ENDING,
    INVISIBLE,
    NEWLINE,
    PUNCTUATION,
    SMALL,
    SPACE,
    TABLE_SIZE,
)
from caravan.curate.kernels import (
    FNV_PRIME,
    GOLDEN,
    Hashes,
    Kinds,
    Lengths,
    Points,
    clear,
    count_in,
    mix,
    slot_of,
    times_in,
)

LINE_FEATURES = (
    "sentences", "small_starts", "line_characters", "short_lines", "bullet_lines", "ellipsis_lines", "ended_lines",
    "javascript_lines", "repeated_lines", "repeated_line_characters", "repeated_paragraphs",
    "repeated_paragraph_characters",
)  # fmt: skip
MIN_LINES, MIN_STARTS = 3, 5
ELLIPSIS, FULL_STOP = 0x2026, 0x2E
WIDE = 0x3000  # from here on, punctuation of scripts without spaces
JAVASCRIPT = np.array(list(map(ord, "javascript")), np.uint32)


@njit(inline="always")
def mark_of(point: np.uint32, marks: Kinds) -> int:
    """What a character may be in a line, as bits."""
    return int(marks[point]) if point < TABLE_SIZE else 0


@njit(nogil=True, cache=True)
def is_here(points: Points, i: int, count: int, phrase: Points) -> bool:
    """Whether a phrase in small Latin letters stands at a place, in any case."""
    if i + len(phrase) > count:
        return False
    for k in range(len(phrase)):  # noqa: SIM110
        if points[i + k] | np.uint32(0x20) != phrase[k]:
            return False
    return True


@njit(nogil=True, cache=True)
def repeated(hashes: Hashes, lengths: Lengths, many: int, table: Hashes) -> tuple[float, float]:
    """Share of lines, or paragraphs, that came before, and of the characters in them."""
    size = clear(table, many)
    again, characters = 0, 0
    for k in range(many):
        if count_in(hashes[k], table, slot_of(hashes[k], table, size)) > 1:
            again += 1
            characters += lengths[k]
    return again / many, characters / max(1, lengths[:many].sum())


@njit(inline="always")
def _end_before(points: Points, i: int, marks: Kinds) -> int:
    """Last character before a place that closes no quotation or bracket."""
    k = i - 1
    while k > 0 and mark_of(points[k], marks) & CLOSING:
        k -= 1
    return k


@njit(inline="always")
def _ellipsis_at(points: Points, k: int) -> bool:
    return bool(
        points[k] == ELLIPSIS
        or (k >= 2 and points[k] == FULL_STOP and points[k - 1] == FULL_STOP and points[k - 2] == FULL_STOP)
    )


@njit(inline="always")
def _case_after(points: Points, kinds: Kinds, start: int, count: int, marks: Kinds) -> int:
    """SMALL or CAPITAL for the first letter from a place on, blanks and punctuation before it left out; 0 for none."""
    k = start
    while k < count and (kinds[k] == SPACE or kinds[k] == NEWLINE or kinds[k] == PUNCTUATION):
        k += 1
    return mark_of(points[k], marks) & (SMALL | CAPITAL) if k < count else 0


@njit(nogil=True, cache=True)
def count_sentences(
    points: Points, kinds: Kinds, count: int, breaks: Lengths, many: int, marks: Kinds
) -> tuple[int, float]:
    """Ends of sentences: punctuation that ends one, and after it a blank or the end, or a character that needs none.

    Returns:
        how many, and after which share of them a small letter comes: of those by a single sign that a letter of either
        case comes after, and that stand for no number as in `1. `; NaN for few.
    """
    total, small, capital = 0, 0, 0
    for b in range(many):
        i = int(breaks[b])
        if kinds[i] == PUNCTUATION and mark_of(points[i], marks) & ENDING:
            if i and mark_of(points[i - 1], marks) & ENDING:
                continue
            k = i + 1
            single = True
            while k < count and mark_of(points[k], marks) & (CLOSING | ENDING):
                single &= not mark_of(points[k], marks) & ENDING
                k += 1
            if k == count or kinds[k] == SPACE or kinds[k] == NEWLINE or points[i] >= WIDE:
                total += 1
                if single and i and kinds[i - 1] != DIGIT:
                    case = _case_after(points, kinds, k, count, marks)
                    small, capital = small + (case == SMALL), capital + (case == CAPITAL)
    return total, small / (small + capital) if small + capital >= MIN_STARTS else np.nan


@njit(nogil=True, cache=True)
def _split_lines(
    points: Points,
    kinds: Kinds,
    count: int,
    breaks: Lengths,
    many: int,
    firsts: Lengths,
    lasts: Lengths,
    lengths: Lengths,
    begins: Kinds,
) -> tuple[int, int]:
    """Lines with visible characters: the first and the last of them, how many, and whether an empty line is before.

    Returns:
        number of lines, and of those with the word javascript.
    """
    lines, scripts, before = 0, 0, -1
    first, last, length, empty, script = -1, -1, 0, False, False
    for b in range(many + 1):
        i = int(breaks[b]) if b < many else count
        kind = kinds[i] if i < count else NEWLINE
        if i > before + 1:  # letters
            if points[before + 1] | np.uint32(0x20) == JAVASCRIPT[0]:
                script |= is_here(points, before + 1, count, JAVASCRIPT)
            first, last = before + 1 if first < 0 else first, i - 1
            length += i - before - 1
        before = i
        if kind == NEWLINE:
            if length:
                firsts[lines], lasts[lines], lengths[lines], begins[lines] = first, last, length, empty
                lines, scripts = lines + 1, scripts + script
            first, length, empty, script = -1, 0, not length, False
        elif kind != SPACE and kind != INVISIBLE:
            first, last = i if first < 0 else first, i
            length += 1
    return lines, scripts


@njit(nogil=True, cache=True)
def _hash_lines(
    points: Points,
    kinds: Kinds,
    lines: int,
    firsts: Lengths,
    lasts: Lengths,
    lengths: Lengths,
    hashes: Hashes,
    table: Hashes,
) -> None:
    """A key of each line: of length and ends where no other line has the same, else of all its visible characters."""
    for line in range(lines):
        first, last = int(firsts[line]), int(lasts[line])
        ends = (np.uint64(points[first]) << np.uint64(32)) | np.uint64(points[last])
        middle = np.uint64(points[(first + last) // 2])
        hashes[line] = mix(mix(ends * GOLDEN + np.uint64(lengths[line])) + middle)
    size = clear(table, lines)
    for line in range(lines):
        count_in(hashes[line], table, slot_of(hashes[line], table, size))
    for line in range(lines):
        if times_in(table, slot_of(hashes[line], table, size)) > 1:
            h = hashes[line]
            for i in range(firsts[line], lasts[line] + 1):
                if kinds[i] != SPACE and kinds[i] != INVISIBLE:
                    h = (h ^ np.uint64(points[i])) * FNV_PRIME
            hashes[line] = mix(h)


@njit(nogil=True, cache=True)
def line_shares(
    points: Points,
    kinds: Kinds,
    count: int,
    breaks: Lengths,
    many: int,
    short: int,
    marks: Kinds,
    firsts: Lengths,
    lasts: Lengths,
    lengths: Lengths,
    begins: Kinds,
    hashes: Hashes,
    table: Hashes,
    out: npt.NDArray[np.float64],
) -> None:
    """Fill LINE_FEATURES; blanks are not counted, nor lines of nothing else; shares of lines are NaN for few lines.

    Args:
        breaks: the places of all characters but letters.
        short: characters up to which a line is short.
        firsts, lasts, lengths, begins, hashes, table: scratch space, as long as the text and a little more.
    """
    out[0], out[1] = count_sentences(points, kinds, count, breaks, many, marks)
    lines, scripts = _split_lines(points, kinds, count, breaks, many, firsts, lasts, lengths, begins)
    bullets, ellipses, ended, shorts = 0, 0, 0, 0
    for line in range(lines):
        k = _end_before(points, lasts[line] + 1, marks)
        ellipsis = _ellipsis_at(points, k)
        ellipses += ellipsis
        ended += not ellipsis and mark_of(points[k], marks) & ENDING > 0
        shorts += lengths[line] <= short
        bullets += mark_of(points[firsts[line]], marks) & BULLET > 0
    out[2] = lengths[:lines].sum() / max(1, lines)
    for k, some in enumerate((shorts, bullets, ellipses, ended, scripts)):
        out[3 + k] = some / lines if lines >= MIN_LINES else np.nan
    out[8:] = 0
    if lines > 1:
        _hash_lines(points, kinds, lines, firsts, lasts, lengths, hashes, table)
        out[8], out[9] = repeated(hashes, lengths, lines, table)
        paragraphs = _fold(lines, begins, hashes, lengths)
        out[10], out[11] = repeated(hashes, lengths, paragraphs, table)


@njit(nogil=True, cache=True)
def _fold(lines: int, begins: Kinds, hashes: Hashes, lengths: Lengths) -> int:
    """Hashes and lengths of paragraphs in place of those of their lines; returns how many."""
    last = 0
    for line in range(1, lines):
        if begins[line]:
            last += 1
            hashes[last], lengths[last] = hashes[line], lengths[line]
        else:
            hashes[last] = mix(hashes[last] * GOLDEN + hashes[line])
            lengths[last] += lengths[line]
    return last + 1 if lines else 0
