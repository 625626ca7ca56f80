from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from caravan.curate import blemishes
from caravan.curate.repairs import RepairStep
from caravan.recipe.curate import CurateConfig, RepairConfig

LANGUAGE = pa.array(["en"])
# Spaces, breaks, controls and invisible characters, what surrounds them in UTF-8, and what makes words and mojibake.
ODD = "\t\n\r\x0b\x1c\x7f\x80\x85\x9f\xa0\xad\u061b\u061c\u1680\u180d\u180e\u2000\u200a\u200b\u200d\u200f"
ODD += "\u2010\u2027\u2028\u2029\u202a\u202f\u2030\u205f\u2060\u206f\u3000\u3001\ufeff\ufff9\ufffc ÃÂâ€žã¶¤xyz:/."
PIECES = st.one_of(
    st.sampled_from([*ODD, "http://x", "www.x", " ", "\n", "xx"]), st.characters(exclude_categories=("Cs",))
)
TEXTS = st.lists(PIECES, max_size=12).map("".join)


def marked(text: str, longest_word: int = 100) -> set[int]:
    return set(np.flatnonzero(blemishes.marks(pa.array([text]), longest_word)[0]).tolist()) - {blemishes.ANY}


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Plain words — “as usual”.\n\nAnd more: 漢字、かな。", set()),
        ("", set()),
        ("cafÃ© au lait", {blemishes.MOJIBAKE}),
        ("a\r\nb", {blemishes.LINE_BREAK}),
        ("a\u2028b", {blemishes.LINE_BREAK}),
        ("a\u200bb", {blemishes.INVISIBLE}),
        ("a\n  https://example.com\nb", {blemishes.URL_LINE, blemishes.WHITESPACE}),
        ("a https://example.com\nb", set()),
        ("a  b", {blemishes.WHITESPACE}),
        ("a \nb", {blemishes.WHITESPACE}),
        ("a\n\n\nb", {blemishes.WHITESPACE}),
        (" a", {blemishes.WHITESPACE}),
        ("a\u3000", {blemishes.WHITESPACE}),
        ("x" * 101, {blemishes.LONG_WORD}),
        ("字" * 100, set()),
    ],
)
def test_marks(text: str, expected: set[int]) -> None:
    assert marked(text) == expected


@settings(max_examples=600, deadline=None)
@given(TEXTS)
def test_a_text_without_a_mark_is_one_that_the_repair_leaves_as_it_is(text: str) -> None:
    step = RepairStep(CurateConfig(repairs=RepairConfig(max_word=4)))
    found = marked(text, 4)
    for name, (mark, repair) in step.repairs.items():
        if mark not in {*found, blemishes.ANY}:
            assert repair(pa.array([text]), LANGUAGE).to_pylist() == [text], name


def test_rows_are_apart() -> None:
    texts = ["a  b", "plain", "\u200b", "plain"]
    together = blemishes.marks(pa.array(["x", *texts]).slice(1), 100)
    np.testing.assert_array_equal(together, np.concatenate([blemishes.marks(pa.array([text]), 100) for text in texts]))
