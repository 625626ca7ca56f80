from __future__ import annotations

import pytest

from caravan.records import LANGUAGES
from caravan.text.languages import identify, written_in

LONG = {
    "en": "the weather is rather cold today",
    "de": "heute ist das Wetter ziemlich kalt",
    "nl": "vandaag is het weer behoorlijk koud",
    "pl": "dzisiaj jest raczej zimna pogoda",
}


@pytest.mark.parametrize(
    ("text", "language", "expected"),
    [
        ("красный", "ru", True),
        ("red", "ru", False),
        ("赤い丸", "zh", False),
        ("红色的圆", "zh", True),
        ("赤い丸", "ja", True),
        ("红色的圆", "ja", None),
        ("빨간 원", "ko", True),
        ("rot", "de", None),
        ("12 !", "de", None),
        ("", "en", None),
        ("USB kabel 3 м", "ru", False),
    ],
)
def test_scripts_tell_and_few_letters_of_a_shared_one_do_not(text: str, language: str, expected: bool | None) -> None:
    assert written_in(text, language, LANGUAGES) is expected


@pytest.mark.parametrize("language", LONG)
def test_longer_texts_of_one_script_are_told_apart(language: str) -> None:
    assert identify(LONG[language], LANGUAGES) == language
    assert [code for code in LONG if written_in(LONG[language], code, LANGUAGES)] == [language]


def test_a_script_that_one_language_of_the_run_has_needs_no_length() -> None:
    assert written_in("rot", "de", ("de", "zh", "ru")) is True
    assert written_in("红", "ja", ("ja", "de")) is True
