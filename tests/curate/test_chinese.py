from __future__ import annotations

import pyarrow as pa
import pytest

from caravan.curate.chinese import ChineseStep, count_ways, variants
from caravan.recipe.curate import LanguageRule

SIMPLIFIED, TRADITIONAL = "我们在这里说话，他们听见了。", "我們在這個地方談話，他們聽見了。"


@pytest.mark.parametrize(
    ("text", "tag"),
    [
        (SIMPLIFIED, "zh-Hans"),
        (TRADITIONAL, "zh-Hant"),
        ("我們在這裡說話，談話", "zh-Hant-TW"),
        ("我們在這裏談話", "zh-Hant-HK"),
        ("中文", None),
        ("words", None),
        ("", None),
    ],
)
def test_the_way_of_writing(text: str, tag: str | None) -> None:
    assert variants(count_ways(pa.array([text]))).to_pylist() == [tag]


def test_counts_are_of_characters_that_one_way_alone_has() -> None:
    assert count_ways(pa.array(["们們马"]))[0].tolist() == [2, 1, 0, 0]


@pytest.mark.parametrize(
    ("wanted", "dropped"),
    [("any", [False, False, False, False]), ("simplified", [False, True, False, False]),
     ("traditional", [True, False, False, False])],
)  # fmt: skip
def test_the_other_way_goes_where_one_is_wanted(wanted: str, dropped: list[bool]) -> None:
    rows = {"text": [SIMPLIFIED, TRADITIONAL, "中文", SIMPLIFIED], "language": ["zh", "zh", "zh", "ja"]}
    step = ChineseStep(LanguageRule.model_validate({"chinese": wanted}))
    verdict = step.judge(pa.RecordBatch.from_pydict(rows))
    assert [reason is not None for reason in verdict.reason.to_pylist()] == dropped
    assert verdict.columns["variant"].to_pylist() == ["zh-Hans", "zh-Hant", None, None]
