"""Conversations with spoken questions: what is left out and why, resumed without asking twice, checked, reported."""

from __future__ import annotations

import json
from collections import Counter
from typing import Any

import pytest

from caravan.core.errors import EndpointError
from caravan.instruct import stage
from caravan.instruct.speech_report import markdown
from caravan.recipe.instruct import InstructConfig
from caravan.records import AudioPart

QUESTIONS = ("What is the tallest mountain on earth?", "Who wrote the book about the white whale?",
             "How many legs does a spider have, and why?", "Where do penguins live?")  # fmt: skip


def rows(count: int = 8) -> list[dict[str, Any]]:
    return [
        {
            "lang": "en",
            "instruction": f"{QUESTIONS[i % 4]} {'Tell me more. ' * (i // 4)}".strip(),
            "output": f"It is {i}.",
        }
        for i in range(count)
    ]


def config(service: Any, **keys: Any) -> InstructConfig:
    speak = {"voices": {"url": service.url("/v1/audio/speech"), "voices": ["a", "b"], "tries": 1}, **keys}
    return InstructConfig.model_validate({"sources": [{"path": "chat.jsonl", "test_share": 0.0, "speak": speak}]})


def test_questions_are_spoken_answers_stay_and_the_rest_is_counted(world: Any, service: Any) -> None:
    bad = [
        {"lang": "en", "instruction": "Run `ls -la` for me", "output": "no"},
        {"lang": "en", "instruction": "What is love?", "output": "As an AI language model, I cannot feel."},
        {"lang": "de", "instruction": "Wie hoch ist der Turm, bitte?", "output": "40 m."},
    ]
    world.lines("chat.jsonl", [*rows(4), *bad])
    voices = {"url": service.url("/v1/audio/speech"), "voices": {"en": ["a", "b"]}}
    counts = stage.run(config(service, voices=voices), world.context())
    made = world.dialogues("out", "train")
    assert [d.messages[0].content[0].text for d in made] == list(QUESTIONS)
    assert all(isinstance(d.messages[0].content[0], AudioPart) and len(d.messages[0].content) == 1 for d in made)
    assert [d.messages[1].text for d in made] == [f"It is {i}." for i in range(4)]
    assert {d.task for d in made} == {"speech"}
    assert counts["left out"] == {"code": 1, "no voice in its language": 1, "refusal": 1}
    assert counts["spoken"]["en"]["conversations"] == 4
    assert counts["spoken"]["en"]["samples"] == 4
    assert not (world.folder / "out/work").exists()
    report = (world.folder / "out/spoken.md").read_text()
    assert "| 00-path | en | 4 | 4 |" in report
    assert "| refusal | 1 |" in report


def test_numbers_are_said_as_words_and_the_transcript_keeps_its_digits(world: Any, service: Any) -> None:
    world.lines("chat.jsonl", [{"lang": "en", "instruction": "What is 12% of 50 km?", "output": "6 km."}])
    stage.run(config(service), world.context())
    assert json.loads(service.asked[0][1])["input"] == "What is twelve percent of fifty kilometers?"
    (made,) = world.dialogues("out", "train")
    assert made.messages[0].content[0].text == "What is 12% of 50 km?"


def test_a_killed_run_asks_for_nothing_twice(world: Any, service: Any) -> None:
    world.lines("chat.jsonl", rows(8))
    service.fails = 5
    with pytest.raises(EndpointError, match="out of order"):
        stage.run(config(service), world.context())
    service.fails, before = None, Counter(body for _, body in service.asked[:5])
    stage.run(config(service), world.context())
    after = Counter(body for _, body in service.asked)
    assert all(after[body] == 1 for body in before), "what had been said is not asked for again"
    assert len(world.dialogues("out", "train")) == 8
    stage.run(config(service), world.context("again"))
    assert world.dialogues("out", "train") == world.dialogues("again", "train")


def test_a_recogniser_hears_a_share_and_drops_what_it_does_not_understand(world: Any, service: Any) -> None:
    world.lines("chat.jsonl", rows(4))
    service.heard = lambda text: "something else entirely" if "penguins" in text else text.upper()
    check = {"url": service.url("/v1/audio/transcriptions"), "share": 1.0, "worst": 0.3}
    counts = stage.run(config(service, check=check, speed=[1, 1], pitch=[0, 0], noise=0.0), world.context())
    assert counts["left out"] == {"not understood": 1}
    assert len(world.dialogues("out", "train")) == 3
    asked = [body for path, body in service.asked if path.endswith("/transcriptions")]
    assert len(asked) == 4
    assert all(b'name="language"\r\n\r\nen' in body for body in asked)


def test_espeak_needs_no_service(world: Any) -> None:
    world.lines("chat.jsonl", rows(2))
    source = {"path": "chat.jsonl", "speak": {"voices": {"espeak": 10}, "turns": "first"}, "test_share": 0.0}
    stage.run(InstructConfig.model_validate({"sources": [source]}), world.context())
    made = world.dialogues("out", "train")
    assert len({d.audios[0].read() for d in made}) == 2


def test_the_report_has_a_line_for_each_source_and_language() -> None:
    sources = {
        "00-path": {"spoken": {"zh": {"conversations": 2, "samples": 3, "seconds": 7200.0}}, "dropped": {"code": 5}}
    }
    told = markdown(sources)
    assert "| 00-path | zh | 2 | 3 | 2.00 |" in told
    assert "| all | | 2 | 3 | 2.00 |" in told
    assert "| code | 5 |" in told
