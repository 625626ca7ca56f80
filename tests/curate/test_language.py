from __future__ import annotations

import pyarrow as pa
import pytest

from caravan.curate.language import Identifier, LanguageStep, longer
from caravan.recipe.curate import LanguageRule

WANTED = ("zh", "en", "ru", "es", "fr", "pt", "de", "it", "nl", "pl", "ar", "tr", "he", "ja", "ko", "th", "vi", "id")
TEXT = {
    "zh": "我今天早上喝茶。", "en": "I drink tea this morning.", "ru": "Сегодня утром я пью чай.",
    "es": "Esta mañana bebo té con mi hermano.", "fr": "Ce matin je bois du thé.",
    "pt": "Esta manhã eu bebo chá com leite.", "de": "Heute Morgen trinke ich Tee.", "it": "Questa mattina bevo il tè.",
    "nl": "Vanochtend drink ik thee.",
    "pl": "Dziś rano piję herbatę.", "ar": "أشرب الشاي هذا الصباح.", "tr": "Bu sabah çay içiyorum.",
    "he": "הבוקר אני שותה תה.", "ja": "今朝はお茶を飲みます。", "ko": "오늘 아침에 차를 마십니다.",
    "th": "เช้านี้ฉันดื่มชา", "vi": "Sáng nay tôi uống trà.", "id": "Pagi ini saya minum teh dengan adik saya.",
}  # fmt: skip
SWEDISH = "Karavanen bär brev från stad till stad, och ingen vet hur lång vägen är till havet."
ENGLISH = "The caravan carries letters from city to city, and nobody knows how long the road to the sea is."


@pytest.fixture(scope="module")
def identifier() -> Identifier:
    return Identifier(WANTED, LanguageRule())


def guess(identifier: Identifier, text: str) -> tuple[str, float]:
    (language,), (probability,) = identifier.identify(pa.array([text]))
    return str(language), float(probability)


def judge(identifier: Identifier, *rows: tuple[str, str | None]) -> tuple[list[str | None], list[str | None]]:
    texts, languages = zip(*rows, strict=True)
    batch = pa.RecordBatch.from_pydict({"text": list(texts), "language": pa.array(languages, pa.string())})
    verdict = LanguageStep(identifier).judge(batch)
    return verdict.columns["language"].to_pylist(), verdict.reason.to_pylist()


def test_a_short_sentence_of_each_language_is_recognised(identifier: Identifier) -> None:
    assert identifier.identify(pa.array(TEXT.values()))[0].tolist() == list(TEXT)


def test_lines_are_read_as_one_text(identifier: Identifier) -> None:
    assert guess(identifier, "Heute Morgen\ntrinke ich\nTee.")[0] == "de"


def test_text_without_letters_has_no_language_of_its_own(identifier: Identifier) -> None:
    assert guess(identifier, "")[1] < 0.5
    assert guess(identifier, "12 + 30 = 42")[1] < 0.5


def test_unknown_language_is_found_and_what_is_not_wanted_goes(identifier: Identifier) -> None:
    languages, reasons = judge(identifier, (ENGLISH, None), (SWEDISH, None))
    assert languages == ["en", "sv"]
    assert reasons == [None, "language not wanted"]


def test_a_stated_language_is_doubted_only_on_long_text(identifier: Identifier) -> None:
    languages, reasons = judge(identifier, (ENGLISH, "de"), ("Hello my friend", "de"), (TEXT["de"], "de"))
    assert languages == ["de", "de", "de"]
    assert reasons == ["another language than stated", None, None]


def test_a_stated_language_outside_the_run_goes(identifier: Identifier) -> None:
    assert judge(identifier, (SWEDISH, "sv"))[1] == ["language not wanted"]


def test_restricted_to_the_wanted_languages_nothing_else_is_answered() -> None:
    identifier = Identifier(("en", "de"), LanguageRule(restrict=True))
    assert guess(identifier, SWEDISH)[0] in ("en", "de")


def test_a_long_text_is_looked_at_in_three_places() -> None:
    identifier = Identifier(WANTED, LanguageRule(window=200))
    assert guess(identifier, ENGLISH * 3 + SWEDISH * 40)[0] == "sv"


@pytest.mark.parametrize(("share", "reason"), [(0.7, "lines in other languages"), (0.3, None), (0.0, None)])
def test_a_text_of_mixed_lines_goes_where_its_own_language_has_too_few(share: float, reason: str | None) -> None:
    identifier = Identifier(WANTED, LanguageRule(min_line_share=share, contradiction=1))
    mixed = "\n".join([ENGLISH, SWEDISH, "OK", ENGLISH, ENGLISH, SWEDISH])
    batch = pa.RecordBatch.from_pydict({"text": [mixed, ENGLISH], "language": ["en", "en"]})
    verdict = LanguageStep(identifier).judge(batch)
    assert verdict.reason.to_pylist() == [reason, None]
    assert [value for value in verdict.value.to_pylist() if value] == (
        [pytest.approx(0.63, abs=0.03)] if reason else []
    )


def test_a_text_of_short_lines_is_not_measured_by_them() -> None:
    identifier = Identifier(WANTED, LanguageRule(min_line_share=0.9))
    assert judge(identifier, ("Yes\nNo\nBread\nWater", "en"))[1] == [None]


@pytest.mark.parametrize("characters", [0, 1, 3, 399, 1600])
def test_longer_is_by_characters_whatever_their_bytes(characters: int) -> None:
    texts = [letter * count for letter in "aé大😀" for count in (0, 1, 3, 4, 399, 400, 401, 1601)]
    assert longer(pa.array(texts), characters).tolist() == [len(text) > characters for text in texts]
    assert longer(pa.array([], pa.string()), characters).tolist() == []
