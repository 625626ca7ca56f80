"""The language tables: complete, well formed, agreeing."""

from __future__ import annotations

import string
import unicodedata

import pytest
import yaml

from caravan.records import LANGUAGES
from caravan.samples.dialogues import QUESTION_KINDS
from caravan.samples.questions import CHAT_KINDS, CONCEPTS
from caravan.samples.words import TABLES, words
from caravan.samples.world import COLOURS, POSITIONS, SHAPES, THINGS, Scene

FIELDS = {
    "add": {"a", "b"}, "month_after": {"x"}, "month_before": {"x"}, "day_after": {"x"}, "day_before": {"x"},
    "translate": {"w", "in"}, "in_words": {"n"}, "in_digits": {"w"}, "country": {"c"},
}  # fmt: skip
STATEMENT_FIELDS = {
    "order": {"x", "y"}, "add": {"a", "b", "c"}, "translate": {"w", "v", "in"}, "number": {"n", "w"},
    "country": {"c", "l"}, "scene": {"o", "p"}, "many": {"o", "n"},
}  # fmt: skip
# The script that nearly all letters of a language's own tables are in.
SCRIPTS = {"zh": "CJK", "ja": "CJK HIRAGANA KATAKANA", "ko": "HANGUL", "ru": "CYRILLIC", "ar": "ARABIC",
           "he": "HEBREW", "th": "THAI"}  # fmt: skip


def fields(form: str) -> set[str]:
    return {name for _, name, _, _ in string.Formatter().parse(form) if name}


@pytest.mark.parametrize("code", LANGUAGES)
def test_every_kind_has_three_phrasings_or_more_with_the_right_fields(code: str) -> None:
    language = words(code)
    assert set(language.questions) == {*QUESTION_KINDS, *CHAT_KINDS} - {"greet"}
    for kind, forms in language.questions.items():
        assert len(set(forms)) == len(forms) >= 3, kind
        assert all(fields(form) == FIELDS.get(kind, set()) for form in forms), kind
    assert set(language.statements) == set(STATEMENT_FIELDS)
    for kind, forms in language.statements.items():
        assert len(set(forms)) == len(forms) == 2, kind
        assert all(fields(form) == STATEMENT_FIELDS[kind] for form in forms), kind
    assert len(language.prose) == 8
    assert len(language.greetings) == 5


@pytest.mark.parametrize("code", LANGUAGES)
def test_no_question_could_have_two_answers(code: str) -> None:
    language = words(code)
    assert len({language.concept(concept) for concept in CONCEPTS}) == len(CONCEPTS)
    assert len(set(language.objects.values())) == len(COLOURS) * (len(SHAPES) + len(THINGS))
    assert len(set(language.numbers)) == 100
    assert len(set(language.months)) == 12
    assert len(set(language.days)) == 7
    assert len(set(language.counts)) == 5
    assert set(language.positions) == set(POSITIONS)
    assert len(set(language.positions.values())) == len(POSITIONS)
    assert len({form for forms in language.questions.values() for form in forms}) == sum(
        len(forms) for forms in language.questions.values()
    )
    assert len(set(language.languages.values())) == len(LANGUAGES)


@pytest.mark.parametrize("code", LANGUAGES)
def test_words_are_normal_and_in_the_script_of_the_language(code: str) -> None:
    language = words(code)
    texts = [*language.objects.values(), *language.numbers, *language.months, *language.days, *language.prose,
             *language.counts, *language.positions.values(), *language.in_language.values()]  # fmt: skip
    for text in texts:
        assert text == text.strip()
        assert text == unicodedata.normalize("NFC", text)
        assert not any(unicodedata.category(letter).startswith("C") for letter in text)
    letters = [unicodedata.name(letter) for text in texts for letter in text if letter.isalpha()]
    scripts = SCRIPTS.get(code, "LATIN").split()
    assert all(any(name.startswith(script) for script in scripts) for name in letters)


@pytest.mark.parametrize(
    ("code", "colour", "shape", "phrase"),
    [
        ("en", "red", "circle", "red circle"), ("de", "red", "circle", "roter Kreis"),
        ("de", "blue", "heart", "blaues Herz"), ("nl", "red", "square", "rood vierkant"),
        ("nl", "red", "star", "rode ster"), ("es", "red", "star", "estrella roja"),
        ("fr", "white", "moon", "lune blanche"), ("it", "black", "arrow", "freccia nera"),
        ("pt", "yellow", "cross", "cruz amarela"), ("ru", "blue", "star", "синяя звезда"),
        ("ru", "green", "heart", "зелёное сердце"), ("pl", "black", "circle", "czarne koło"),
        ("ar", "red", "circle", "دائرة حمراء"), ("ar", "red", "square", "مربع أحمر"),
        ("he", "red", "circle", "עיגול אדום"), ("tr", "white", "moon", "beyaz ay"),
        ("zh", "red", "circle", "红色圆形"), ("ja", "green", "star", "緑の星"), ("ja", "red", "star", "赤い星"),
        ("ko", "red", "star", "빨간 별"), ("ko", "purple", "star", "보라색 별"), ("th", "red", "circle", "วงกลมสีแดง"),
        ("de", "black", "house", "schwarzes Haus"), ("ar", "red", "tree", "شجرة حمراء"),
        ("pl", "white", "tree", "białe drzewo"),
        ("vi", "red", "circle", "hình tròn màu đỏ"), ("id", "red", "circle", "lingkaran merah"),
    ],
)  # fmt: skip
def test_colours_agree_with_shapes(code: str, colour: str, shape: str, phrase: str) -> None:
    assert words(code).objects[colour, shape] == phrase


@pytest.mark.parametrize(
    ("code", "n", "word"),
    [("zh", 10, "十"), ("zh", 11, "十一"), ("zh", 20, "二十"), ("zh", 99, "九十九"), ("tr", 11, "on bir"),
     ("tr", 40, "kırk"), ("ar", 21, "واحد وعشرون"), ("de", 21, "einundzwanzig"), ("fr", 71, "soixante et onze"),
     ("vi", 15, "mười lăm"), ("th", 21, "ยี่สิบเอ็ด"), ("he", 11, "אחת עשרה")],
)  # fmt: skip
def test_number_words(code: str, n: int, word: str) -> None:
    assert words(code).numbers[n] == word


def test_languages_are_named_as_an_answer_and_as_an_adverb() -> None:
    assert words("ru").in_language["de"] == "по-немецки"
    assert words("ru").in_language["he"] == "на иврите"
    assert words("pl").in_language["de"] == "po niemiecku"
    assert words("id").languages["pl"] == "bahasa Polandia"
    assert words("vi").in_language["de"] == "bằng tiếng Đức"


def test_captions_tell_place_number_or_digit() -> None:
    english = words("en")
    assert english.caption(Scene("one", "red", "flat", "star", position="middle")) == "red star, in the middle"
    assert english.caption(Scene("many", "red", "flat", "star", count=3)) == "red star, three"
    assert english.caption(Scene("one", "", "flat", "star", position="middle")) == "star, in the middle"
    assert english.caption(Scene("digit", "red", "pen", digit=7)) == "digit seven"


def test_sentences_begin_with_a_capital_of_the_language() -> None:
    assert words("tr").sentence("ilk önce") == "İlk önce"
    assert words("fr").sentence("étoile") == "Étoile"
    assert words("th").sentence("ดาว") == "ดาว"


def test_tables_hold_strings_alone() -> None:
    table = yaml.load((TABLES / "tr.yaml").read_text(encoding="utf-8"), Loader=yaml.BaseLoader)
    assert table["shapes"]["arrow"] == "ok"
