"""Questions and answers: the answer follows from the question, and held-out facets stay out of training."""

from __future__ import annotations

import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from caravan.records import LANGUAGES
from caravan.samples.questions import CHAT_KINDS, CONCEPTS, chat_turn, scene_answer, spoken_turn
from caravan.samples.words import words
from caravan.samples.world import SPOKEN, SUMS, Scene, held_out_number, held_out_translation, stream


def pattern(form: str) -> str:
    return re.sub(r"\\\{(\w+)\\\}", lambda field: f"(?P<{field[1]}_>.+?)", re.escape(form)) + "$"


def parse(code: str, kind: str, question: str) -> tuple[int, dict[str, str]]:
    """Which phrasing a question is, and its fields."""
    for index, form in enumerate(words(code).questions[kind]):
        match = re.match(pattern(form), question)
        if match:
            return index, {name[:-1]: value for name, value in match.groupdict().items()}
    raise AssertionError(f"{code} {kind}: {question} is no phrasing")


def value(code: str, word: str) -> int:
    return int(word) if word.isdigit() else words(code).numbers.index(word)


def check(code: str, kind: str, fields: dict[str, str], answer: str) -> None:
    """Solve the question anew, from its text."""
    language = words(code)
    if kind == "add":
        assert value(code, fields["a"]) + value(code, fields["b"]) == value(code, answer)
    elif kind == "translate":
        (concept,) = (concept for concept in CONCEPTS if language.concept(concept) == fields["w"].strip('"'))
        (target,) = (code for code, name in language.in_language.items() if name == fields["in"])
        assert words(target).concept(concept) == answer
    elif kind in ("in_words", "in_digits"):
        assert value(code, answer) == value(code, fields.get("n") or fields["w"])
    elif kind == "country":
        assert answer in language.languages.values()
    else:
        cycle = language.months if kind.startswith("month") else language.days
        step = 1 if kind.endswith("after") else -1
        assert cycle[(cycle.index(fields["x"]) + step) % len(cycle)] == answer


@settings(max_examples=150, deadline=None)
@given(st.integers(0, 10**9), st.sampled_from(LANGUAGES))
def test_a_held_out_question_is_right_and_truly_held_out(number: int, code: str) -> None:
    turn = chat_turn(stream(number), words(code), "test")
    index, fields = parse(code, turn.kind, turn.question)
    check(code, turn.kind, fields, turn.answer)
    last = len(words(code).questions[turn.kind]) - 1
    assert (index == last) == (turn.group == "unseen phrasing")
    if turn.group == "unseen sum":
        assert (value(code, fields["a"]), value(code, fields["b"])) in SUMS["test"]
    elif turn.group == "unseen number":
        assert held_out_number(value(code, fields.get("n") or fields["w"]))
    elif turn.group == "unseen translation":
        (concept,) = (c for c in CONCEPTS if words(code).concept(c) == fields["w"])
        (target,) = (c for c, name in words(code).in_language.items() if name == fields["in"])
        assert held_out_translation(concept, code, target)


@settings(max_examples=150, deadline=None)
@given(st.integers(0, 10**9), st.sampled_from(LANGUAGES))
def test_a_training_question_is_right_and_holds_nothing_held_out(number: int, code: str) -> None:
    turn = chat_turn(stream(number), words(code), "train", casual=False)
    assert turn.group == ""
    if turn.kind == "greet":
        assert (turn.question, turn.answer) in words(code).greetings
        return
    index, fields = parse(code, turn.kind, turn.question)
    check(code, turn.kind, fields, turn.answer)
    assert index < len(words(code).questions[turn.kind]) - 1
    if turn.kind == "add":
        assert (value(code, fields["a"]), value(code, fields["b"])) in SUMS["train"]
    elif turn.kind in ("in_words", "in_digits"):
        assert not held_out_number(value(code, fields.get("n") or fields["w"]))


@pytest.mark.parametrize("code", LANGUAGES)
def test_every_language_has_every_kind(code: str) -> None:
    assert {chat_turn(stream(i), words(code), "train").kind for i in range(200)} == set(CHAT_KINDS)
    assert {chat_turn(stream(i), words(code), "test").kind for i in range(200)} == set(CHAT_KINDS) - {"greet"}


@given(st.integers(0, 10**9), st.sampled_from(SPOKEN))
def test_what_is_spoken_has_no_digits_and_no_quotation_marks(number: int, code: str) -> None:
    turn = spoken_turn(stream(number), words(code), SPOKEN)
    assert not re.search(r'[0-9"]', turn.question)
    assert not re.search(r"\d", turn.answer)


def test_one_spoken_language_asks_for_no_translation() -> None:
    assert "translate" not in {spoken_turn(stream(i), words("en"), ["en"]).kind for i in range(60)}


def test_answers_about_a_scene() -> None:
    scene = Scene("one", "red", "flat", "star", position="top_left")
    answers = {
        kind: scene_answer(words("es"), scene, kind) for kind in ("object", "colour", "shape", "position", "count")
    }
    assert answers == {
        "object": "estrella roja", "colour": "rojo", "shape": "estrella", "position": "arriba a la izquierda",
        "count": "una",
    }  # fmt: skip
    assert scene_answer(words("en"), Scene("digit", "red", "pen", digit=4), "digit") == "four"
    assert scene_answer(words("en"), Scene("digit", "red", "pen", digit=4), "object") == "digit four"
