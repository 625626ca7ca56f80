from __future__ import annotations

from collections.abc import Mapping

import pyarrow as pa
import pytest

from caravan.curate.rules import RULES, RuleStep
from caravan.recipe.curate import CurateConfig, RuleLimits

CLEAN = {
    "en": "The caravan carries letters from one city to the next, and nobody knows how long the road is.",
    "zh": "商队把信从一座城市送到另一座城市，没有人知道这条路有多长。",
    "th": "กองคาราวานนำจดหมายจากเมืองหนึ่งไปยังอีกเมืองหนึ่งและไม่มีใครรู้ว่าเส้นทางยาวเท่าไร",
    "ar": "تحمل القافلة الرسائل من مدينة إلى أخرى ولا أحد يعرف كم يبلغ طول الطريق.",
    "ko": "카라반은 한 도시에서 다른 도시로 편지를 나르고 아무도 길이 얼마나 긴지 모릅니다.",
}
JUNK = {
    "too short": "hello",
    "broken encoding": "Die GrÃ¶Ã\x9fe der TÃ¼r Ã¼ber der StraÃ\x9fe",
    "invisible characters": "a\u200bb\u200bc\u200bd\u200be\u200bf text",
    "URLs": "see https://www.example.com/some/long/path/to/a/file.html",
    "long word": "x" * 200 + " and more",
    "digits": "12 34 56 78 90 12 34 56 phone",
    "symbols": "### *** ||| <<< >>> text ~~~ $$$",
    "few letters": "... !!! ??? ,,, ;;; a :::",
    "repeated lines": "buy the thing today\n" * 6 + "a last line that differs from those",
    "ellipsis lines": "read more…\nclick here...\nand then…\nan end of it",
    "frequent 2-gram": "very good " * 12,
    "short words": "a b c d e f g h i j k l m n o p",
    "long words": " ".join(f"{'abcdefghijklmnopqrst'[i:]}{'abcdefghijklmnopqrst'[:i]}" for i in range(12)),
}


def judge(
    texts: Mapping[str, str] | list[tuple[str, str]], **settings: object
) -> tuple[list[str | None], list[float | None]]:
    pairs = list(texts.items()) if isinstance(texts, Mapping) else texts
    batch = pa.RecordBatch.from_pydict({"language": [pair[0] for pair in pairs], "text": [pair[1] for pair in pairs]})
    verdict = RuleStep(CurateConfig.model_validate(settings)).judge(batch)
    return verdict.reason.to_pylist(), verdict.value.to_pylist()


def test_clean_text_of_every_script_passes() -> None:
    assert judge(CLEAN) == ([None] * len(CLEAN), [None] * len(CLEAN))


@pytest.mark.parametrize("reason", JUNK)
def test_each_rule_gives_its_reason_and_what_it_measured(reason: str) -> None:
    reasons, values = judge([("en", JUNK[reason])])
    assert reasons == [reason]
    assert values[0] is not None


def test_every_limit_of_the_recipe_has_its_rule() -> None:
    assert {limit for _, _, limit, _ in RULES} == set(RuleLimits.model_fields) - {"unit"}


def test_a_language_has_its_own_limits() -> None:
    text = "你好吗朋友"
    assert judge([("zh", text), ("en", text)])[0] == [None, "too short"]
    assert judge([("zh", text)], overrides={"zh": {"min_characters": 6}})[0] == ["too short"]


def test_limits_of_the_recipe_apply() -> None:
    assert judge([("en", CLEAN["en"])], rules={"max_characters": 20})[0] == ["too long"]
