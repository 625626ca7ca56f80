from __future__ import annotations

import re

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from caravan.curate.parts import outermost, part_hashes, parts_of, without

LANGUAGE = ["en"]


def parts(text: str, unit: str, least: int = 1) -> list[str]:
    _, places = parts_of(pa.array([text]), LANGUAGE, unit, least)
    return [text.encode()[start:end].decode() for _, start, end in places.tolist()]


def test_lines_and_paragraphs_are_cut_with_what_follows_them() -> None:
    text = "\n Öne\ntwo 一\n\n\n  three 😀 \r\n \nfour\n"
    assert parts(text, "line") == [" Öne\n", "two 一\n", "  three 😀 \r\n", "four\n"]
    assert parts(text, "paragraph") == ["\n Öne\ntwo 一\n\n\n", "  three 😀 \r\n \n", "four\n"]
    assert parts(text, "line", least=4) == ["two 一\n", "  three 😀 \r\n", "four\n"]


@settings(max_examples=80, deadline=None, derandomize=True)
@given(st.text("a一😀 \n", max_size=40), st.sampled_from(["line", "paragraph"]))
def test_parts_are_those_of_the_text_in_order(text: str, unit: str) -> None:
    separator = r"\n" if unit == "line" else r"\n(?: *\n)+"
    wanted = [piece.split() for piece in re.split(separator, text) if piece.strip()]
    assert [piece.split() for piece in parts(text, unit)] == wanted


def test_case_blanks_and_language_make_the_hash() -> None:
    texts = pa.array(["A line  of words\nother", "a LINE of\u200b words", "a line of words", "a line off words"])
    lists = part_hashes(texts, ["en", "en", "de", "en"], "line", 6).to_pylist()
    assert lists[0] == lists[1]
    assert len({value for values in lists for value in values}) == 3
    assert part_hashes(texts[:1], LANGUAGE, "paragraph", 6).to_pylist() != lists[:1]
    assert part_hashes(pa.array(["one two\n", "x", ""]), ["en"] * 3, "line", 3).value_lengths().to_pylist() == [1, 0, 0]
    assert part_hashes(pa.array(["same\nSAME\nsame"]), LANGUAGE, "line", 3).value_lengths().to_pylist() == [1]


@pytest.mark.parametrize(
    ("gone", "left"),
    [
        (["two\n"], "one\n\n\nthree\nfour"),
        (["one\n", "two\n"], "three\nfour"),
        (["\n\nthree\n"], "one\ntwo\nfour"),
        (["four"], "one\ntwo\n\n\nthree"),
    ],
)
def test_what_is_left_reads_on(gone: list[str], left: str) -> None:
    text = "one\ntwo\n\n\nthree\nfour"
    spans = [(text.index(part), text.index(part) + len(part)) for part in gone]
    found, taken = without(text, spans)
    assert found == left.replace("\n\n\n", "\n\n")
    assert taken == [part.strip() for part in gone]


def test_a_line_in_a_paragraph_that_goes_is_not_counted_again() -> None:
    assert outermost([(0, 9), (0, 4), (4, 9), (9, 12)]) == [0, 3]
