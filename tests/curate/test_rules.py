from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pyarrow as pa
import pytest

from caravan.curate.rules import MOST, RULES, RuleStep
from caravan.recipe.curate import CurateConfig
from caravan.recipe.limits import RuleLimits

CLEAN = {
    "en": "The caravan carries letters from one city to the next, and nobody knows how long the road is.",
    "zh": "商队把信从一座城市送到另一座城市，没有人知道这条路有多长。",
    "ja": "隊商は手紙を町から町へと運んでいきますが、その道がどれほど長いのかは誰も知りません。",
    "th": "กองคาราวานนำจดหมายจากเมืองหนึ่งไปยังอีกเมืองหนึ่งและไม่มีใครรู้ว่าเส้นทางยาวเท่าไร",
    "ar": "تحمل القافلة الرسائل من مدينة إلى أخرى ولا أحد يعرف كم يبلغ طول الطريق.",
    "ko": "카라반은 한 도시에서 다른 도시로 편지를 나르고 아무도 길이 얼마나 긴지 모릅니다.",
}
PROSE = " ".join(f"The {word} went home before the rain came." for word in ("old", "young", "tall", "small"))
LISTED = "one thing\nanother thing\na third thing that is longer"
PARTS = "a part\nof some lines\n\n"
# For each reason: a limit, a text that is beyond it and one that is not.
CASES: dict[str, tuple[float, str, str]] = {
    "too short": (10, "hello", "hello to you"),
    "too long": (10, "hello to you", "hello"),
    "few words": (3, "hello there", "hello to you"),
    "many words": (3, "hello to all of you", "hello to you"),
    "broken encoding": (0.02, "Die GrÃ¶Ã\x9fe der TÃ¼r", "Die Größe der Tür"),
    "invisible characters": (0.1, "a\u200bb\u200bc\u200bd text", "abcd\u200b is a text"),
    "URLs": (0.3, "see https://www.example.com/some/path", "see https://a.example for all the rest of it"),
    "long word": (50, "x" * 60 + " and more", "https://a.example/" + "x" * 60 + " and more"),
    "dates": (0.3, "2024-01-31 12:30 login\n2024-01-31 12:31 logout", "On 2024-01-31 we met by the sea and talked."),
    "digits": (0.3, "12 34 56 78 phone 90", "12 apples and 3 pears lay on the table"),
    "symbols": (0.2, "### *** ||| <<< text", "a + b is what * we want"),
    "punctuation": (0.3, "a, b, c; d: e!", "One, two, and three."),
    "few letters": (0.5, "... !!! ??? a", "Well... yes!"),
    "blanks": (0.5, "a    b    c", "a b c d e f"),
    "curly brackets": (0.1, "{{a}} {b}", "{a} is one name for what many know"),
    "placeholder text": (0, "Title\nLorem ipsum dolor sit amet", "It was called Lorem by some"),
    "hash signs": (0.5, "#a #b #c #d #e #f #g #h #i #j", "#1 of the list is a cat and #2 is a dog, who knew"),
    "ellipses": (0.2, "a... b… c... d e f g h i j", "a b c d e f g h i j k..."),
    "commas": (0.7, "bat, cat, dog, eel, fox, gnu, hen, ibis, jay, kid", PROSE + ", really, they say"),
    "ellipsis lines": (0.3, "read more…\nclick here...\nand then", "a line…\none\ntwo\nthree"),
    "bullet lines": (0.5, "- one\n• two\nand three", "- one\ntwo\nthree"),
    "javascript lines": (0.5, "JavaScript is off\nno javascript\nplease", "Learn JavaScript here\nor not\nas you like"),
    "repeated lines": (0.3, "buy it\nbuy it\nnow", LISTED),
    "characters of repeated lines": (0.3, "buy it\nbuy it\nnow", LISTED),
    "repeated paragraphs": (0.3, PARTS * 3, PARTS + "and another\n\nand more"),
    "characters of repeated paragraphs": (0.3, PARTS * 3, PARTS + "and another\n\nand more"),
    **{f"frequent {n}-gram": (0.4, "very good thing here " * 9, CLEAN["en"]) for n in range(2, 5)},
    **{f"repeated {n}-grams": (0.5, "very good thing here " * 9, CLEAN["en"]) for n in range(5, 11)},
    "short words": (2, "a b c d e f g h i j k", PROSE),
    "long words": (12, " ".join("abcdefghijklmno"[i:] + "abcdefghijklmno"[:i] for i in range(12)), PROSE),
    "few words with letters": (0.8, "a 1 b 2 c 3 d 4 e 5 f 6", PROSE),
    "few stop words": (0.1, "blue sky tree moon river stone " * 3, PROSE),
    "few sentences": (2, "One sentence ends.", "One ends. Another too."),
    "sentences that begin small": (0.5, "Home. the went! old rain. came The. tall before. the man? sun", PROSE + PROSE),
    "fragment": (4, "About this page", "Go home now."),
    "short lines": (12, "one\ntwo\nthree", LISTED),
    "long lines": (40, PROSE, LISTED),
    "many short lines": (0.5, "one\ntwo\n" + PROSE, PROSE + "\n" + PROSE + "\none"),
    "lines without an end": (0.5, LISTED, "One. Two.\nThree.\nfour"),
}


def judge(
    texts: Mapping[str, str] | list[tuple[str, str]], **settings: object
) -> tuple[list[str | None], list[float | None]]:
    pairs = list(texts.items()) if isinstance(texts, Mapping) else texts
    batch = pa.RecordBatch.from_pydict({"language": [pair[0] for pair in pairs], "text": [pair[1] for pair in pairs]})
    verdict = RuleStep(CurateConfig.model_validate(settings)).judge(batch)
    return verdict.reason.to_pylist(), verdict.value.to_pylist()


def open_limits() -> dict[str, Any]:
    """Limits beyond which nothing is."""
    shares = {name for name, info in RuleLimits.model_fields.items() if "Le(le=1)" in str(info.metadata)}
    return {rule.limit: 0 if rule.direction != MOST else 1 if rule.limit in shares else 10**9 for rule in RULES}


def test_clean_text_of_every_script_passes() -> None:
    assert judge(CLEAN) == ([None] * len(CLEAN), [None] * len(CLEAN))


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.reason)
def test_each_rule_drops_what_is_beyond_its_limit_with_its_reason_and_what_it_measured(rule: Any) -> None:
    limit, beyond, within = CASES[rule.reason]
    settings = {**open_limits(), rule.limit: limit}
    reasons, values = judge([("en", beyond), ("en", within)], rules=settings)
    assert reasons == [rule.reason, None]
    assert values[0] is not None
    assert (values[0] - limit) * rule.direction > 0
    assert values[1] is None


def test_every_limit_of_the_recipe_has_its_rule() -> None:
    assert {rule.limit for rule in RULES} == set(RuleLimits.model_fields) - {"unit", "short_line"}
    assert len({rule.reason for rule in RULES}) == len(RULES)


def test_a_language_has_its_own_limits() -> None:
    text = "你好吗朋友"
    assert judge([("zh", text), ("en", text)])[0] == [None, "too short"]
    assert judge([("zh", text)], overrides={"zh": {"min_characters": 6}})[0] == ["too short"]
    assert judge([("zh", text)], limits={"zh": {"min_characters": 6}})[0] == ["too short"]


def test_languages_with_and_without_spaces_are_told_apart_within_a_batch() -> None:
    laughter = "哈哈呵呵嘿嘿嗨嗨" * 20
    mixed = [("en", "ha ho " * 30), ("zh", laughter), *CLEAN.items()]
    reasons, _ = judge(mixed)
    assert [reason is not None for reason in reasons] == [True, True] + [False] * len(CLEAN)


def test_limits_of_the_recipe_apply() -> None:
    assert judge([("en", CLEAN["en"])], rules={"max_characters": 20})[0] == ["too long"]
