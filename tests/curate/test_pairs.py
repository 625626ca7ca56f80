from __future__ import annotations

import pyarrow as pa
import pytest

from caravan.curate.language import Identifier
from caravan.curate.pairs import PairStep, similarity
from caravan.curate.shards import PAIR_SCHEMA
from caravan.recipe.curate import LanguageRule
from caravan.recipe.pairs import PairLimits

LANGUAGES = ("en", "de", "zh", "fr", "th")
ENGLISH = "The caravan carries letters from city to city, and nobody knows how long the road to the sea is."
GERMAN = "Die Karawane trägt Briefe von Stadt zu Stadt, und niemand weiß, wie lang der Weg zum Meer ist."
CHINESE = "商队把信从一座城市送到另一座城市，没有人知道通往大海的路有多长。"


@pytest.fixture(scope="module")
def step() -> PairStep:
    return PairStep(PairLimits(), Identifier(LANGUAGES, LanguageRule()))


@pytest.mark.parametrize(
    ("languages", "sides", "reason", "value"),
    [
        (("de", "en"), (GERMAN, ENGLISH), None, None),
        (("en", "zh"), (ENGLISH, CHINESE), None, None),
        (("de", "en"), ("Peru", "Peru"), None, None),
        (("de", "en"), ("  ", ENGLISH), "empty side", 0),
        (("de", "en"), ("Seite 1-18", "1-18"), "few letters", 0),
        (("de", "en"), ("C++", "C++ programs"), None, None),
        (("de", "en"), (ENGLISH, ENGLISH.upper()), "copied side", 1),
        (("de", "en"), (ENGLISH + " Ja.", ENGLISH), "copied side", 1 - 4 / 100),
        (("en", "zh"), (ENGLISH, ENGLISH[:-26] + "通往大海的路有多长。"), "shared words", 11 / 15),
        (("de", "en"), (GERMAN + " 12.11.1938", ENGLISH + " 4/5/69"), "numbers differ", 2 / 12),
        (("de", "en"), (GERMAN + " 12.11.1938", ENGLISH + " 11/12/1938"), None, None),
        (("en", "th"), ("since the year 2013", "ตั้งแต่ พ.ศ. 2556"), None, None),
        (("de", "en"), (GERMAN, "La caravane porte des lettres de ville en ville, et nul ne sait où va la route."),
         "another language than stated", None),
    ],
)  # fmt: skip
def test_pairs_are_judged(
    step: PairStep, languages: tuple[str, str], sides: tuple[str, str], reason: str | None, value: float | None
) -> None:
    values = [1, "id", *languages, *sides, "test"]
    batch = pa.RecordBatch.from_pylist([dict(zip(PAIR_SCHEMA.names, values, strict=True))], PAIR_SCHEMA)
    verdict = step.judge(batch)
    assert verdict.reason.to_pylist() == [reason]
    if value is not None:
        assert verdict.value.to_pylist() == pytest.approx([value])


def test_similarity_is_the_edit_distance_over_the_longer_side() -> None:
    sides = [pa.array(["Tea time", "tea", "", "tea"]), pa.array(["tee TIMES", "milk", "", "tea"])]
    worth = [True, True, True, False]
    alike = similarity(sides, pa.array(worth).to_numpy(zero_copy_only=False), 0.5)
    assert alike.tolist() == pytest.approx([1 - 2 / 9, 0, 1, 0])
