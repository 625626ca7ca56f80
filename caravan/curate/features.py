"""What the rules measure of a text, in one pass over Arrow buffers: one row at a time, in scratch space of the batch.

The features are those of Gopher (arXiv 2112.11446), C4 (arXiv 1910.10683) and PolyLM (arXiv 2307.06018). Words are
counted in units that suit the script: where it has no spaces, some characters together are one.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pyarrow as pa
from numba import njit

from caravan.curate.characters import (
    BROKEN,
    DIGIT,
    INVISIBLE,
    KINDS,
    LETTER,
    NEWLINE,
    PUNCTUATION,
    SPACE,
    SYMBOL,
    UNSPACED,
    kinds,
    latin_bytes,
    lower,
    marks,
)
from caravan.curate.kernels import Hashes, Kinds, Lengths, Points, buffers, decode_kinds, split_words
from caravan.curate.layout import ELLIPSIS, FULL_STOP, LINE_FEATURES, is_here, line_shares
from caravan.curate.passages import COLON, SLASH, count_dates, count_mojibake
from caravan.curate.repetition import NGRAM_FEATURES, ngram_shares
from caravan.curate.stopwords import count_stop_words, stop_table

TEXT_FEATURES = (
    "characters", "words", "broken", "invisible", "letters", "digits", "dates", "urls", "symbols", "punctuation",
    "blanks", "brackets", "placeholders", "longest_word", "mean_word", "alphabetic_words", "stop_words", "hashes",
    "ellipses", "commas", "fragment",
)  # fmt: skip
FEATURES = (*TEXT_FEATURES, *LINE_FEATURES, *NGRAM_FEATURES)
FRAGMENT, LINES, NGRAMS = len(TEXT_FEATURES) - 1, len(TEXT_FEATURES), len(TEXT_FEATURES) + len(LINE_FEATURES)
MIN_WORDS = 10
Row = npt.NDArray[np.float64]
HASH, CURLY = 0x23, (0x7B, 0x7D)
COMMA, OTHER_COMMAS = 0x2C, tuple(map(ord, "，、،"))
LOREM = np.array(list(map(ord, "lorem ipsum")), np.uint32)
# What `_survey` counts.
TOKENS, ALPHABETIC, LONGEST, URLS, HASHES, ELLIPSES, COMMAS, BRACKETS, PLACEHOLDERS = range(KINDS, KINDS + 9)


@dataclass(frozen=True)
class Scale:
    """In which units one language is measured.

    Attributes:
        unit: characters that count as one word where there are no spaces.
        short_line: characters up to which a line is short.
    """

    language: str
    unit: int = 1
    short_line: int = 30


@njit(nogil=True, cache=True)
def _find_breaks(kinds: Kinds, count: int, breaks: Lengths) -> int:
    """The places of all characters but letters; what follows looks at these only, a quarter of a text."""
    many = 0
    for i in range(count):
        breaks[many] = i
        many += kinds[i] != LETTER
    return many


@njit(nogil=True, cache=True)
def _survey(points: Points, kinds: Kinds, count: int, breaks: Lengths, many: int, tally: npt.NDArray[np.int64]) -> None:
    """Count characters by kind, what stands between blanks, and some marks; a URL goes from `://` to its end."""
    tally[:] = 0
    before, token, run, url, alphabetic = -1, 0, 0, -1, False
    for b in range(many + 1):
        i = int(breaks[b]) if b < many else count
        kind = kinds[i] if i < count else NEWLINE
        if i > before + 1:
            alphabetic = True
            if points[before + 1] | np.uint32(0x20) == LOREM[0]:
                tally[PLACEHOLDERS] += is_here(points, before + 1, count, LOREM)
        before = i
        if kind in (SPACE, NEWLINE, UNSPACED):
            if url >= 0:
                tally[URLS] += i - url
            else:
                tally[LONGEST] = max(tally[LONGEST], i - run)
            run, url = i + 1, -1
            if kind == UNSPACED:
                alphabetic = True
            else:
                tally[TOKENS] += i > token
                tally[ALPHABETIC] += alphabetic
                token, alphabetic = i + 1, False
        elif kind == PUNCTUATION:
            point = points[i]
            if point == FULL_STOP:
                third = i >= 2 and points[i - 1] == FULL_STOP and points[i - 2] == FULL_STOP
                tally[ELLIPSES] += third and not (i >= 3 and points[i - 3] == FULL_STOP)
            elif point == SLASH and i >= run + 2 and points[i - 1] == SLASH and points[i - 2] == COLON and url < 0:
                url = i - 2
            elif point == ELLIPSIS:
                tally[ELLIPSES] += i == 0 or points[i - 1] != ELLIPSIS
            elif point == COMMA or point in OTHER_COMMAS:
                tally[COMMAS] += 1
            else:
                tally[BRACKETS] += point in CURLY
        elif kind == SYMBOL:
            tally[HASHES] += points[i] == HASH
        if i < count:
            tally[kind] += 1
    tally[LETTER] = count - many


@njit(nogil=True, cache=True)
def _fill(
    tally: npt.NDArray[np.int64],
    count: int,
    words: int,
    lengths: Lengths,
    unit: int,
    broken: int,
    dates: int,
    stops: int,
    out: Row,
) -> None:
    """Fill TEXT_FEATURES, but not the last: counts, shares of characters, shares of words, counts for each word."""
    unspaced = tally[UNSPACED]
    visible = count - tally[SPACE] - tally[NEWLINE] - tally[INVISIBLE]
    spaced_words, longest_word = words - unspaced, tally[LONGEST]
    units = spaced_words + unspaced / unit
    few = units < MIN_WORDS
    values = (
        float(count),
        units,
        (tally[BROKEN] + broken) / max(1, count),
        tally[INVISIBLE] / max(1, count),
        (tally[LETTER] + unspaced) / max(1, visible),
        tally[DIGIT] / max(1, count),
        dates / max(1, count),
        tally[URLS] / max(1, count),
        tally[SYMBOL] / max(1, count),
        tally[PUNCTUATION] / max(1, count),
        (tally[SPACE] + tally[NEWLINE]) / max(1, count),
        tally[BRACKETS] / max(1, count),
        float(tally[PLACEHOLDERS]),
        float(longest_word),
        (lengths[:words].sum() - unspaced) / spaced_words if spaced_words >= MIN_WORDS else np.nan,
        tally[ALPHABETIC] / tally[TOKENS] if tally[TOKENS] >= MIN_WORDS else np.nan,
        np.nan if few or stops < 0 else (stops / unit if unit > 1 else stops) / units,
        np.nan if few else tally[HASHES] / units,
        np.nan if few else tally[ELLIPSES] / units,
        np.nan if few else tally[COMMAS] / units,
    )
    for k, value in enumerate(values):
        out[k] = value


@njit(nogil=True, cache=True)
def _measure_rows(
    data: npt.NDArray[np.uint8],
    offsets: npt.NDArray[np.int64],
    codes: Lengths,
    units: Lengths,
    short_lines: Lengths,
    stops: Hashes,
    table: Kinds,
    marked: Kinds,
    low: Points,
    latin: Kinds,
    out: npt.NDArray[np.float64],
) -> None:
    """Fill one row of FEATURES for each text; NaN where a text is too short for a feature."""
    longest = (offsets[1:] - offsets[:-1]).max() + 8
    points, kind, level = np.empty(longest, np.uint32), np.empty(longest, np.uint8), np.empty(longest, np.uint8)
    hashes, sums = np.empty(longest, np.uint64), np.empty(longest, np.uint64)
    breaks, lengths = np.empty(longest, np.int32), np.empty(longest, np.int32)
    spots, slots = np.empty(longest, np.int32), np.empty(longest, np.int32)
    seen = np.empty(4 * longest, np.uint64)
    tally = np.empty(PLACEHOLDERS + 1, np.int64)
    for row in range(len(offsets) - 1):
        code = codes[row]
        count = decode_kinds(data, offsets[row], offsets[row + 1], table, points, kind)
        many = _find_breaks(kind, count, breaks)
        _survey(points, kind, count, breaks, many, tally)
        line_shares(
            points, kind, count, breaks, many, short_lines[code], marked,
            spots, slots, lengths, level, hashes, seen, out[row, LINES:NGRAMS],
        )  # fmt: skip
        broken = count_mojibake(points, count, latin)
        dates = count_dates(points, kind, count, breaks, many)
        words = split_words(points, kind, count, low, hashes, lengths)
        known = count_stop_words(hashes, words, units[code] > 1, stops[code])
        _fill(tally, count, words, lengths, units[code], broken, dates, known, out[row])
        out[row, FRAGMENT] = np.nan if out[row, LINES] else out[row, 1]
        ngram_shares(hashes, lengths, words, units[code], sums, spots, slots, level, seen, out[row, NGRAMS:])


def measure(texts: pa.Array, codes: npt.NDArray[np.int32], scales: Sequence[Scale]) -> Row:
    """FEATURES of each text [n, F]; NaN where a text is too short for one.

    Args:
        texts: valid UTF-8 strings [n], no nulls.
        codes: which of the scales is each text's [n].
    """
    out = np.zeros((len(texts), len(FEATURES)))
    if len(texts):
        units = np.array([scale.unit for scale in scales], np.int32)
        short_lines = np.array([scale.short_line for scale in scales], np.int32)
        stops = np.stack([stop_table(scale.language) for scale in scales])
        _measure_rows(*buffers(texts), codes, units, short_lines, stops, kinds(), marks(), lower(), latin_bytes(), out)
    return out
