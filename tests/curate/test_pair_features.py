"""The kernel against the same measured in plain Python."""

from __future__ import annotations

import unicodedata
from collections import Counter

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from caravan.curate.characters import INVISIBLE, LETTER, NEWLINE, SPACE, UNSPACED, kinds
from caravan.curate.pair_features import measure_pairs

KINDS = kinds()
ALPHABET = "abcDÉßжЖשع한글ไทย日本語かな0123456789٣٤५３ \n\t.,!?-#$%\u200b\ufffd😀"


def kind(character: str) -> int:
    return int(KINDS[ord(character)])


def words(text: str) -> list[str]:
    found, word = [], ""
    for character in text + " ":
        if kind(character) == LETTER:
            word += character.lower()
            continue
        if word:
            found.append(word)
        word = ""
        if kind(character) == UNSPACED:
            found.append(character)
    return found


def letters(text: str) -> float:
    seen = [kind(character) for character in text if kind(character) not in (SPACE, NEWLINE, INVISIBLE)]
    return sum(one in (LETTER, UNSPACED) for one in seen) / max(1, len(seen))


def digits(text: str) -> Counter[int]:
    return Counter(filter(None, (unicodedata.decimal(character, 0) for character in text)))


def reference(one: str, other: str) -> list[float]:
    first, second = set(words(one)), set(words(other))
    a, b = digits(one), digits(other)
    fewer = min(len(first), len(second))
    return [
        min(letters(one), letters(other)),
        len(first & second) / max(1, fewer),
        fewer,
        2 * (a & b).total() / (a.total() + b.total()) if a or b else 1.0,
        max(a.total(), b.total()),
    ]


@settings(deadline=None, derandomize=True)
@given(st.lists(st.tuples(st.text(ALPHABET, max_size=30), st.text(ALPHABET, max_size=30)), min_size=1, max_size=6))
def test_pairs_are_measured_as_in_plain_python(pairs: list[tuple[str, str]]) -> None:
    measured = measure_pairs(*(pa.array(side, pa.string()) for side in zip(*pairs, strict=True)))
    expected = [reference(*pair) for pair in pairs]
    np.testing.assert_array_equal(np.stack(list(measured.values()), 1), np.array(expected))


@pytest.mark.parametrize(
    ("one", "other", "share", "numbers"),
    [
        ("Der Kaffee kostet 3,50 Euro.", "Coffee is 3.50 euros.", 0, 1),
        ("the Otto Hahn school", "die Otto-Hahn-Schule", 0.5, 1),
        ("in the year ٢٠٠٣", "in the year 2003", 1, 1),
        ("1948年12月10日", "10 December 1948", 0, 10 / 12),
        ("born in 1948", "written in 2537", 1 / 2, 0),
        ("大学", "大學 university", 1 / 2, 1),
    ],
)
def test_of_words_and_numbers_what_both_sides_have_counts(one: str, other: str, share: float, numbers: float) -> None:
    measured = measure_pairs(pa.array([one]), pa.array([other]))
    assert measured["shared_words"][0] == pytest.approx(share)
    assert measured["numbers"][0] == pytest.approx(numbers)


def test_no_pairs_are_no_figures() -> None:
    assert measure_pairs(pa.array([], pa.string()), pa.array([], pa.string()))["letters"].shape == (0,)
