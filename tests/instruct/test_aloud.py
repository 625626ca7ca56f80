from __future__ import annotations

import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from caravan.instruct.aloud import chinese_number, number_words, parsed, say
from caravan.records import LANGUAGES


@pytest.mark.parametrize(
    ("language", "written", "said"),
    [
        ("en", "It is 5 km, 20% or $3", "It is five kilometers, twenty percent or three US dollars"),
        ("en", "born in 1984, on 2023-05-01", "born in nineteen eighty-four, on May first twenty twenty-three"),
        ("en", "1,234.5 kg", "one thousand, two hundred and thirty-four point five kilograms"),
        ("en", "room 007", "room zero zero seven"),
        ("de", "3,5 km in 2 h", "drei Komma fünf Kilometer in zwei Stunden"),
        ("de", "am 2023-05-01", "am erster Mai zweitausenddreiundzwanzig"),
        ("zh", "我有3.5公里，5%，1984年", "我有三点五公里，百分之五，一九八四年"),
        ("zh", "12 km 10500", "十二公里 一万零五百"),
        ("ja", "5%", "五パーセント"),
        ("ko", "5%", "오 퍼센트"),
        ("vi", "3,5 km", "ba phẩy năm kilômét"),
        ("ru", "2 km", "два километра"),
        ("fr", "14:30", "quatorze trente"),
        ("ar", "3.5 km", "ثلاثة فاصلة خمسة كيلومتر"),
        ("tr", "20%", "yüzde yirmi"),
        ("pl", "-5", "minus pięć"),
        ("he", "5%", "חמש אחוז"),
        ("en", "covid19 and b2b stay one word", "covid19 and b2b stay one word"),
    ],
)
def test_written_text_as_it_is_said(language: str, written: str, said: str) -> None:
    assert say(written, language) == said


@pytest.mark.parametrize("language", LANGUAGES)
def test_numbers_units_dates_and_money_leave_no_digit_in_any_language(language: str) -> None:
    point = {"ru", "es", "fr", "pt", "de", "it", "nl", "pl", "tr", "vi", "id"}
    half = "3,5" if language in point else "3.5"
    text = f"7 km, {half} kg, 20%, $9, 2023-05-01, 14:30, 1984, 100, 0042, -8"
    assert not re.search(r"\d|%|\$", say(text, language)), say(text, language)


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 10**16 - 1))
def test_chinese_numbers_are_read_back(value: int) -> None:
    assert read_back(chinese_number(value)) == value


def read_back(said: str) -> int:
    """A number from its Mandarin words: another way than the one that made them."""
    digits, units = dict(zip("零一二三四五六七八九", range(10), strict=True)), {"十": 10, "百": 100, "千": 1000}
    total = section = digit = 0
    for character in said:
        if character in digits:
            digit = digits[character]
        elif character in units:
            section += (digit or 1) * units[character]
            digit = 0
        else:
            section += digit
            digit = 0
            if character == "亿":
                total, section = (total + section) * 10**8, 0
            else:
                total, section = total + section * 10**4, 0
    return total + section + digit


@pytest.mark.parametrize(
    ("value", "said"),
    [(0, "零"), (10, "十"), (110, "一百一十"), (10001, "一万零一"), (100100, "十万零一百"), (-2.5, "负二点五")],
)
def test_chinese_numbers(value: float, said: str) -> None:
    assert chinese_number(value) == said


@pytest.mark.parametrize(
    ("number", "language", "value"),
    [("1,234", "en", 1234), ("1.234", "de", 1234), ("3.5", "de", 3.5), ("1 234,5", "fr", 1234.5), ("−2", "en", -2)],
)
def test_numbers_are_read_as_the_language_writes_them(number: str, language: str, value: float) -> None:
    assert parsed(number, language) == value


@settings(max_examples=25, deadline=None)
@given(st.text(max_size=40), st.sampled_from(LANGUAGES))
def test_any_text_can_be_normalised(text: str, language: str) -> None:
    assert isinstance(say(text, language), str)
    assert number_words(3, language) != ""
