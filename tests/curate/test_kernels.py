from __future__ import annotations

import math
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from caravan.curate.kernels import FEATURES, buffers, decode, measure

ANY_TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=120)


def features(text: str, unit: int = 1) -> dict[str, float]:
    measured = measure(pa.array([text]), np.array([unit], np.int32))
    return {name: float(values[0]) for name, values in measured.items()}


@settings(deadline=None, derandomize=True)
@given(ANY_TEXT)
def test_decoding_agrees_with_python(text: str) -> None:
    data, offsets = buffers(pa.array([text]))
    points = np.empty(len(text) + 1, np.uint32)
    count = decode(data, offsets[0], offsets[1], points)
    assert points[:count].tolist() == [ord(character) for character in text]


@settings(max_examples=60, deadline=None, derandomize=True)
@given(st.lists(ANY_TEXT, min_size=1, max_size=5), st.integers(1, 6))
def test_shares_stay_within_bounds_whatever_the_text(texts: list[str], unit: int) -> None:
    measured = measure(pa.array(texts), np.full(len(texts), unit, np.int32))
    assert tuple(measured) == FEATURES
    assert measured["characters"].tolist() == [len(text) for text in texts]
    for name in set(FEATURES) - {"characters", "longest_word", "mean_word"}:
        values = measured[name][~np.isnan(measured[name])]
        assert ((values >= 0) & (values <= 1)).all(), name


@pytest.mark.parametrize(
    ("text", "feature", "expected"),
    [
        ("abc 12345", "digits", 5 / 9),
        ("a # b", "symbols", 1 / 5),
        ("ab\u200b\u200bcd", "invisible", 2 / 6),
        ("ab\ufffd.", "broken", 1 / 4),
        ("see https://a.example/x now", "urls", 14 / 27),
        ("x" * 30 + " y", "longest_word", 30.0),
        ("一二三四五六七八九十", "longest_word", 1.0),
        ("same line\nother one\nsame line", "repeated_lines", 8 / 24),
        ("one…\ntwo...\nthree", "ellipsis_lines", 2 / 3),
        ("a b c d e f g h i jj", "mean_word", 11 / 10),
    ],
)
def test_features_measure_what_they_say(text: str, feature: str, expected: float) -> None:
    assert features(text)[feature] == pytest.approx(expected)


@pytest.mark.parametrize("codec", ["latin-1", "cp1252"])
@pytest.mark.parametrize("text", ["Größe über Maß", "Привет, как дела", "文字化け文字化け"])
def test_utf8_read_through_the_wrong_codec_counts_as_broken(text: str, codec: str) -> None:
    shown = text.encode().decode(codec, errors="replace")
    assert features(shown)["broken"] > 0.1
    assert features(text)["broken"] == 0


def test_french_typography_is_not_mojibake() -> None:
    assert features("Ç’a été dit : « voilà\u00a0», puis « été\u00a0…")["broken"] == 0


@pytest.mark.parametrize(("unit", "text"), [(1, "ha ho " * 20), (4, "哈哈呵呵嘿嘿嗨嗨" * 20), (6, "ฮาฮาฮาฮาฮาฮา" * 20)])
def test_repetition_is_seen_in_words_and_in_scripts_without_spaces(unit: int, text: str) -> None:
    measured = features(text, unit)
    assert measured["top_2gram"] > 0.5
    assert measured["repeated_5gram"] > 0.8


def test_two_mentions_are_no_repetition() -> None:
    measured = features("a red cat met a red cat")
    assert measured["top_2gram"] == measured["top_3gram"] == 0


def test_too_short_for_a_feature_is_not_a_number() -> None:
    measured = features("two words…")
    assert math.isnan(measured["ellipsis_lines"])
    assert math.isnan(measured["mean_word"])


def test_slices_of_an_array_are_measured_as_such() -> None:
    texts: Any = pa.array(["zero", "one one", "two two two"])
    assert measure(texts[1:], np.ones(2, np.int32))["characters"].tolist() == [7, 11]
