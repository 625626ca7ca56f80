"""Translations: what must survive does, doubtful ones are refused, nothing is asked for twice."""

from __future__ import annotations

import json
from collections import Counter
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from caravan.core.errors import EndpointError
from caravan.instruct import stage
from caravan.instruct.translated import doubtful, masked, restored
from caravan.recipe.instruct import InstructConfig
from caravan.recipe.translate import TranslateConfig
from caravan.records import ImagePart
from caravan.text.instructions import INSTRUCTIONS

GERMAN = {
    "A red ball lies in the green grass beside a dog.": "Ein roter Ball liegt im grünen Gras neben einem Hund.",
    "Two children ride their bicycles through the city.": "Zwei Kinder fahren mit ihren Fahrrädern durch die Stadt.",
}
CONFIG = TranslateConfig(to=["de"], names=["Anna Li"])


@pytest.mark.parametrize(
    ("text", "sent"),
    [
        ("Say `ls -la` to Anna Li", ["Say [[1]] to [[2]]"]),
        ("See https://x.org/a?b=1 and write to a@b.org", ["See [[1]] and write to [[2]]"]),
        ("Fix it:\n```python\nprint('hello')\n```\nthanks", ["Fix it:", None, None, None, "thanks"]),
        ("Dear {name}, you owe %s and $x^2$", ["Dear [[1]], you owe [[2]] and [[3]]"]),
        ("call my_function() or parseText", ["call [[1]] or [[2]]"]),
        ("42\n\n---", [None, None, None]),
        ("as in [[1]] of it", ["as in [[1]] of it"]),
    ],
)
def test_what_must_survive_is_out_of_reach(text: str, sent: list[str | None]) -> None:
    lines = masked(text, CONFIG.names)
    assert [line.text for line in lines] == sent
    assert restored(text, [line.text or "" for line in lines], CONFIG.names) == text


@settings(max_examples=80, deadline=None)
@given(
    st.lists(st.sampled_from(["word ", "`code` ", "https://x.org ", "Anna Li ", "\n", "```\n", "[[2]] ", "{a} ", "5 "]))
)
def test_any_text_comes_back_whole_from_a_translator_that_changes_nothing(parts: list[str]) -> None:
    text = "".join(parts)
    lines = [line.text or "" for line in masked(text, CONFIG.names)]
    assert restored(text, lines, CONFIG.names) == text


def test_markers_may_move_but_none_may_be_lost_or_doubled() -> None:
    text = "Say `a` to `b`"
    assert restored(text, ["Zu [[ 2 ]] sag [[1]]"]) == "Zu `b` sag `a`"
    for broken in ("Sag [[1]]", "Sag [[1]] [[1]] [[2]]", "Sag [[1]] [[3]]"):
        assert restored(text, [broken]) is None


@pytest.mark.parametrize(
    ("translation", "reason"),
    [
        ("Ein roter Ball liegt im grünen Gras neben einem Hund.", None),
        ("", "empty"),
        ("Ein Ball.", "too short"),
        ("Ein roter Ball liegt im Gras. " * 6, "too long"),
        ("A red ball lies in the green grass beside a dog.", "not translated"),
        ("Une balle rouge se trouve dans l'herbe verte.", "in another language"),
    ],
)
def test_doubtful_translations(translation: str, reason: str | None) -> None:
    assert doubtful("A red ball lies in the green grass beside a dog.", translation, "en", "de", CONFIG) == reason


def test_the_usual_length_depends_on_the_languages() -> None:
    english = "A red ball lies in the green grass beside a dog."
    assert doubtful(english, "绿草地上狗旁边有一个红球。", "en", "zh", CONFIG) is None
    assert doubtful(english, "有球", "en", "zh", CONFIG) == "too short"


def config(service: Any, **keys: Any) -> InstructConfig:
    by = {"url": service.url("/v1/chat/completions"), "model": "m", "tries": 1, "at_once": 1}
    source = {"path": "data.jsonl", "test_share": 0.0, "translate": {"to": ["de"], "by": by, **keys}}
    return InstructConfig.model_validate({"sources": [source]})


def captions(world: Any) -> None:
    (world.data / "a.png").write_bytes(world.png(1))
    world.lines("data.jsonl", [{"lang": "en", "image": "a.png", "caption": caption} for caption in GERMAN])


def test_captions_through_an_endpoint_with_instructions_of_the_pool(world: Any, service: Any) -> None:
    captions(world)
    service.answer = lambda _, text: GERMAN[text]
    counts = stage.run(config(service), world.context())
    made = world.dialogues("out", "train")
    assert Counter(d.language for d in made) == {"en": 2, "de": 2}
    german = [d for d in made if d.language == "de"]
    assert [d.messages[1].text for d in german] == list(GERMAN.values())
    for one, other in zip((d for d in made if d.language == "en"), german, strict=True):
        place = INSTRUCTIONS["caption"]["en"].index(one.messages[0].text)
        assert other.messages[0].text == INSTRUCTIONS["caption"]["de"][place]
        assert [type(p) for p in one.messages[0].content] == [type(p) for p in other.messages[0].content]
        assert other.images == one.images
        assert any(isinstance(part, ImagePart) for part in other.messages[0].content)
    assert counts["left out"] == {}
    system = json.loads(service.asked[0][1])["messages"][0]["content"]
    assert "from English to German" in system
    assert len(service.asked) == 2, "an instruction of the pool is not sent"


def test_refused_translations_are_counted_and_the_originals_stay(world: Any, service: Any) -> None:
    captions(world)
    service.answer = lambda _, text: text
    counts = stage.run(config(service), world.context())
    assert counts["left out"] == {"translation: not translated": 2}
    assert {d.language for d in world.dialogues("out", "train")} == {"en"}
    service.answer = lambda _, text: GERMAN[text]
    stage.run(config(service, keep=False), world.context("alone"))
    assert {d.language for d in world.dialogues("alone", "train")} == {"de"}


def test_a_killed_run_translates_nothing_twice(world: Any, service: Any) -> None:
    captions(world)
    service.answer = lambda _, text: GERMAN[text]
    service.fails = 1
    with pytest.raises(EndpointError, match="out of order"):
        stage.run(config(service), world.context())
    service.fails = None
    stage.run(config(service), world.context())
    asked = Counter(json.loads(body)["messages"][1]["content"] for _, body in service.asked)
    assert asked[next(iter(GERMAN))] == 1
    assert len(world.dialogues("out", "train")) == 4


def test_conversations_are_translated_and_then_spoken(world: Any, service: Any) -> None:
    question, answer = GERMAN
    world.lines("data.jsonl", [{"lang": "en", "instruction": question, "output": answer}])
    service.answer = lambda _, text: GERMAN[text]
    both = config(service).model_dump(exclude_unset=True)
    both["sources"][0]["speak"] = {"voices": {"url": service.url("/v1/audio/speech"), "voices": ["a"]}}
    counts = stage.run(InstructConfig.model_validate(both), world.context())
    assert {d.language: d.task for d in world.dialogues("out", "train")} == {"en": "speech", "de": "speech"}
    assert counts["spoken"]["de"]["samples"] == 1


def test_a_language_that_is_not_known_is_refused() -> None:
    with pytest.raises(ValueError, match="not klingon"):
        TranslateConfig(to=["de", "klingon"])
