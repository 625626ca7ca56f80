"""What kind of character each code point is, as tables that the kernels look up."""

from __future__ import annotations

import functools
import unicodedata

import numpy as np
import numpy.typing as npt

# Above this lie rare ideographs, tags and private use only; `kind_of` in the kernels tells them apart by range.
TABLE_SIZE = 0x20000

LETTER, UNSPACED, DIGIT, SPACE, NEWLINE, PUNCTUATION, SYMBOL, INVISIBLE, BROKEN, OTHER = range(10)
KINDS = 10

# Han, kana, Thai, Lao, Myanmar, Khmer: written without spaces, so each character counts as a word.
UNSPACED_RANGES = (
    (0x0E01, 0x0E3A), (0x0E40, 0x0E4E), (0x0E81, 0x0EDF), (0x1000, 0x109F), (0x1780, 0x17D3),
    (0x3005, 0x3007), (0x3041, 0x30FF), (0x31F0, 0x31FF), (0x3400, 0x4DBF), (0x4E00, 0x9FFF), (0xF900, 0xFAFF),
)  # fmt: skip
LINE_BREAKS = (0x0A, 0x2028, 0x2029)
BLANKS = (0x09, 0x0D, 0x0B, 0x0C, 0x85)
REPLACEMENT = 0xFFFD
# Unicode calls these punctuation; in prose they are as rare as the symbols.
MARKS = tuple(map(ord, "#*@%&\\_"))
# What a character may be in a line, as bits: one that begins an item, that ends a sentence, that may follow its end,
# and a letter of either case.
BULLET, ENDING, CLOSING, SMALL, CAPITAL = 1, 2, 4, 8, 16
BULLETS = "-*•‣◦·●○■□▪▫▶►"
ENDINGS = ".!?…。！？．｡؟۔։।॥‼⁇⁈⁉"
QUOTES = "\"'"
# Joiners are part of how emoji and many scripts are written.
JOINERS = (0x200C, 0x200D, 0xFE0F)


def _kind(point: int) -> int:
    category = unicodedata.category(chr(point))
    if category in ("Cf", "Cc"):
        return INVISIBLE
    by_class = {"L": LETTER, "M": LETTER, "N": DIGIT, "P": PUNCTUATION, "S": SYMBOL, "Z": SPACE}
    return by_class.get(category[0], OTHER)


@functools.cache
def kinds() -> npt.NDArray[np.uint8]:
    """Kind of each code point below TABLE_SIZE."""
    table = np.fromiter(map(_kind, range(TABLE_SIZE)), np.uint8, TABLE_SIZE)
    for first, last in UNSPACED_RANGES:
        span = table[first : last + 1]
        span[(span == LETTER) | (span == DIGIT)] = UNSPACED
    table[list(LINE_BREAKS)] = NEWLINE
    table[list(BLANKS)] = SPACE
    table[list(JOINERS)] = OTHER
    table[list(MARKS)] = SYMBOL
    table[REPLACEMENT] = BROKEN
    return table


@functools.cache
def marks() -> npt.NDArray[np.uint8]:
    """BULLET, ENDING, CLOSING, SMALL and CAPITAL of each code point below TABLE_SIZE."""
    table = np.zeros(TABLE_SIZE, np.uint8)
    table[list(map(ord, BULLETS))] |= BULLET
    table[list(map(ord, ENDINGS))] |= ENDING
    categories = np.array([unicodedata.category(chr(point)) for point in range(TABLE_SIZE)])
    table[np.isin(categories, ["Pe", "Pf", "Pi"])] |= CLOSING
    table[categories == "Ll"] |= SMALL
    table[categories == "Lu"] |= CAPITAL
    table[list(map(ord, QUOTES))] |= CLOSING
    return table


@functools.cache
def lower() -> npt.NDArray[np.uint32]:
    """Lower-case form of each code point below TABLE_SIZE, where that is one code point."""
    forms = (chr(point).lower() for point in range(TABLE_SIZE))
    points = (ord(form) if len(form) == 1 else point for point, form in enumerate(forms))
    return np.fromiter(points, np.uint32, TABLE_SIZE)


@functools.cache
def latin_bytes() -> npt.NDArray[np.uint8]:
    """The byte that Latin-1 or Windows-1252 writes each character below TABLE_SIZE as; 0 for ASCII and for none.

    UTF-8 that was decoded as one of these shows as a run of such characters whose bytes are valid UTF-8.
    """
    table = np.zeros(TABLE_SIZE, np.uint8)
    table[0x80:0x100] = np.arange(0x80, 0x100, dtype=np.uint8)
    for byte in range(0x80, 0xA0):
        character = bytes([byte]).decode("cp1252", errors="ignore")
        if character:
            table[ord(character)] = byte
    return table


@functools.cache
def digit_values() -> npt.NDArray[np.uint8]:
    """Value of each decimal digit below TABLE_SIZE, of any script; 0 for zeros and for all else."""
    values = (unicodedata.decimal(chr(point), 0) for point in range(TABLE_SIZE))
    return np.fromiter(values, np.uint8, TABLE_SIZE)
