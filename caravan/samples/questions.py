"""One turn of a conversation: a question and its answer, made from the words of a language.

The last phrasing of every kind of question is held out of training.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass

from caravan.samples.words import Words, words
from caravan.samples.world import (
    COLOURS,
    COUNTRIES,
    NUMBERS,
    SHAPES,
    SUMS,
    Scene,
    Split,
    held_out_translation,
)

CHAT_KINDS = (
    "add", "month_after", "month_before", "day_after", "day_before", "translate", "in_words", "in_digits", "country",
    "greet",
)  # fmt: skip
_CHAT_WEIGHTS = (6, 4, 4, 3, 3, 4, 1, 1, 1, 1)
SPOKEN_KINDS = ("add", "month_after", "month_before", "day_after", "day_before", "translate", "greet")
_SPOKEN_WEIGHTS = (5, 3, 3, 3, 3, 3, 1)
PICTURE_KINDS = {
    "one": (("object", "colour", "shape", "position", "count"), (60, 10, 10, 14, 6)),
    "many": (("count", "colour", "shape"), (60, 20, 20)),
    "digit": (("digit", "object"), (75, 25)),
}
CONCEPTS = (*COLOURS, *SHAPES)
_FACTS_HELD_OUT = {"add": "unseen sum", "translate": "unseen translation", "in_words": "unseen number",
                   "in_digits": "unseen number"}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Turn:
    """A question, its answer, what kind it is and what of it training has not seen."""

    kind: str
    question: str
    answer: str
    group: str = ""


def phrase(rng: random.Random, language: Words, kind: str, split: Split) -> str:
    """A phrasing of a question from the given side of the split."""
    forms = language.questions[kind]
    return rng.choice(forms[:-1]) if split == "train" else forms[-1]


def scene_kind(rng: random.Random, scene: Scene) -> str:
    """What to ask about a scene; of a colour without a name, nothing."""
    kinds, weights = PICTURE_KINDS[scene.kind]
    while True:
        kind = rng.choices(kinds, weights)[0]
        if scene.colour or kind not in ("object", "colour"):
            return kind


def scene_answer(language: Words, scene: Scene, kind: str) -> str:
    """The answer to a question of `kind` about a scene, a bare phrase."""
    if kind == "object" and scene.kind == "digit":
        return language.digit(scene.digit)
    if kind == "object":
        return language.objects[scene.colour, scene.shape]
    if kind == "colour":
        return language.colours[scene.colour]
    if kind == "shape":
        return language.shapes[scene.shape]
    if kind == "position":
        return language.positions[scene.position]
    return language.counts[scene.count - 1] if kind == "count" else language.numbers[scene.digit]


def scene_turn(rng: random.Random, language: Words, scene: Scene, phrasing: Split = "train") -> Turn:
    """A question about a scene."""
    kind = scene_kind(rng, scene)
    return Turn(kind, phrase(rng, language, kind, phrasing), scene_answer(language, scene, kind))


def chat_turn(rng: random.Random, language: Words, split: Split, *, casual: bool = True) -> Turn:
    """A question without a picture; not in training, a held-out phrasing or a held-out fact, never both.

    `casual` lets a part of the training questions go without quotation marks, capitals and final stops.
    """
    askable = len(CHAT_KINDS) - (split != "train")  # there is nothing to hold out of a greeting, the last kind
    kind = rng.choices(CHAT_KINDS[:askable], _CHAT_WEIGHTS[:askable])[0]
    facts: Split = split if split != "train" and kind in _FACTS_HELD_OUT and rng.random() < 0.6 else "train"
    phrasing: Split = split if facts == "train" else "train"
    question, answer = _chat(rng, language, kind, facts, phrasing, as_digits=rng.random() < 0.5)
    group = "" if split == "train" else "unseen phrasing" if phrasing != "train" else _FACTS_HELD_OUT[kind]
    if split == "train" and casual:
        question = _casual(rng, question)
    return Turn(kind, question, answer, group)


def spoken_turn(rng: random.Random, language: Words, spoken: Sequence[str]) -> Turn:
    """A question to be spoken: number words in place of digits, no quotation marks."""
    kind = rng.choices(SPOKEN_KINDS, _SPOKEN_WEIGHTS)[0]
    if kind == "translate" and len(spoken) < 2:
        kind = "add"
    question, answer = _chat(rng, language, kind, "train", "train", as_digits=False, targets=spoken)
    return Turn(kind, question.replace('"', ""), answer)


def _casual(rng: random.Random, question: str) -> str:
    """As people type: some questions go without quotation marks, some without capital and final stop."""
    if rng.random() < 0.3:
        question = question.replace('"', "")
    if rng.random() < 0.12:
        question = question.rstrip(".?!。？！؟ ")
        question = question[0].lower() + question[1:]
    return question


def _chat(
    rng: random.Random,
    language: Words,
    kind: str,
    facts: Split,
    phrasing: Split,
    *,
    as_digits: bool,
    targets: Sequence[str] = (),
) -> tuple[str, str]:
    if kind == "greet":
        return rng.choice(language.greetings)
    form = phrase(rng, language, kind, phrasing)
    if kind == "add":
        a, b = rng.choice(SUMS[facts])
        name = str if as_digits else language.numbers.__getitem__
        return form.format(a=name(a), b=name(b)), name(a + b)
    if kind == "translate":
        concept, target = translation(rng, language.code, facts, targets)
        question = form.format(w=language.concept(concept), **{"in": language.in_language[target]})
        return question, words(target).concept(concept)
    if kind in ("in_words", "in_digits"):
        n = rng.choice(NUMBERS[facts])
        if kind == "in_words":
            return form.format(n=n), language.numbers[n]
        return form.format(w=language.numbers[n]), str(n)
    if kind == "country":
        country = rng.choice(tuple(COUNTRIES))
        return form.format(c=language.countries[country]), language.languages[COUNTRIES[country]]
    cycle = language.months if kind.startswith("month") else language.days
    at = rng.randrange(len(cycle))
    step = 1 if kind.endswith("after") else -1
    return form.format(x=cycle[at]), cycle[(at + step) % len(cycle)]


def translation(rng: random.Random, source: str, facts: Split, targets: Sequence[str] = ()) -> tuple[str, str]:
    """A word of the world and a language to say it in; `targets` given means aloud, and names of colours.

    English is asked for every other language, and every other language for English.
    """
    concepts = COLOURS if targets else CONCEPTS
    others = [code for code in targets or words(source).languages if code != source]
    if source != "en" and "en" in others:
        others = ["en"]
    while True:
        concept, target = rng.choice(concepts), rng.choice(others)
        if held_out_translation(concept, source, target) == (facts != "train"):
            return concept, target
