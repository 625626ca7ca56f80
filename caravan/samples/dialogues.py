"""Dialogues, clips and pictures of the sample world, each row a pure function of seed, split and number."""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

from caravan.records import AudioPart, Dialogue, ImagePart, Media, Message, Part
from caravan.samples.pictures import draw, png
from caravan.samples.questions import PICTURE_KINDS, Turn, chat_turn, phrase, scene_turn, spoken_turn
from caravan.samples.text import draw_fact, tell
from caravan.samples.voices import Utterance, draw_utterance
from caravan.samples.words import Words, words
from caravan.samples.world import HANDS_OF, Scene, Split, draw_scene, stream

TASKS = ("chat", "picture", "speech", "both")
_TASK_WEIGHTS = (10, 38, 35, 17)
_SPOKEN_TASKS = ("speech", "both")
_REPEATED = 0.2
QUESTION_KINDS = tuple(sorted({kind for kinds, _ in PICTURE_KINDS.values() for kind in kinds}))
_SCENE_GROUPS = {  # held out: combinations, styles
    "unseen combination+style": (True, True),
    "unseen combination": (True, False),
    "unseen style": (False, True),
    "unseen phrasing": (False, False),
}


@dataclass(frozen=True, slots=True)
class Clip:
    """A spoken sentence: 16 kHz mono WAV, what is said, in which language and voice."""

    audio: bytes
    text: str
    language: str
    voice: str


@dataclass(frozen=True, slots=True)
class Picture:
    """A picture: PNG, its caption in every language, its drawing style or hand, what it shows and what of it is new."""

    image: bytes
    names: dict[str, str]
    style: str
    facts: Mapping[str, Any]
    group: str = ""


@dataclass(frozen=True, slots=True)
class Plan:
    """A dialogue before its media are made. `turns` are questions and answers; media belong to the first."""

    id: str
    language: str
    task: str
    turns: tuple[Turn, ...]
    group: str
    scene: Scene | None = None
    picture_seed: int = 0
    utterance: Utterance | None = None
    picture_first: bool = True


def plan_dialogue(
    seed: int, split: Split, number: int, languages: Sequence[str], spoken: Sequence[str], per_task: int = 0
) -> Plan:
    """What dialogue `number` will be.

    In training, task and language are drawn; a held-out split goes through them in turn, `per_task` rows of each.
    """
    rng = stream(seed, "dialogue", split, number)
    if split != "train":
        task, code = cells_of(languages, spoken)[number // per_task]
    else:
        tasks = [task for task in TASKS if spoken or task not in _SPOKEN_TASKS]
        task = rng.choices(tasks, [_TASK_WEIGHTS[TASKS.index(name)] for name in tasks])[0]
        code = rng.choice(spoken if task in _SPOKEN_TASKS else languages)
    make = {"chat": _plan_chat, "picture": _plan_picture, "speech": _plan_speech, "both": _plan_both}[task]
    return make(f"samples-{split}-{number}", rng, words(code), split, spoken)


def cells_of(languages: Sequence[str], spoken: Sequence[str]) -> list[tuple[str, str]]:
    """Every task with every language that has it."""
    return [(task, code) for task in TASKS for code in (spoken if task in _SPOKEN_TASKS else languages)]


def _plan_chat(name: str, rng: random.Random, language: Words, split: Split, spoken: Sequence[str]) -> Plan:
    turns = [chat_turn(rng, language, split)]
    if split == "train" and rng.random() < 0.1:
        turns.append(chat_turn(rng, language, split))
    return Plan(name, language.code, "chat", tuple(turns), turns[0].group)


def _plan_picture(name: str, rng: random.Random, language: Words, split: Split, spoken: Sequence[str]) -> Plan:
    scene, group = _scene(rng, split)
    if split == "train":
        turns = [scene_turn(rng, language, scene) for _ in range(2 if rng.random() < 0.15 else 1)]
        first = rng.random() < 0.75
    else:
        turns = [scene_turn(rng, language, scene, split if group == "unseen phrasing" else "train")]
        first = True
    return Plan(name, language.code, "picture", tuple(turns), group, scene, rng.getrandbits(32), picture_first=first)


def _plan_speech(name: str, rng: random.Random, language: Words, split: Split, spoken: Sequence[str]) -> Plan:
    turn = spoken_turn(rng, language, spoken)
    utterance = draw_utterance(rng, turn.question, language.code, split)
    group = "" if split == "train" else "unseen voice"
    return Plan(name, language.code, "speech", (turn, *_repeat(rng, language, turn, split)), group, utterance=utterance)


def _plan_both(name: str, rng: random.Random, language: Words, split: Split, spoken: Sequence[str]) -> Plan:
    scene = draw_scene(rng, split, split, nameless=split == "train")
    turn = scene_turn(rng, language, scene)
    utterance = draw_utterance(rng, turn.question, language.code, split)
    group = "" if split == "train" else f"unseen voice+{_new(scene)}"
    turns = (turn, *_repeat(rng, language, turn, split))
    return Plan(name, language.code, "both", turns, group, scene, rng.getrandbits(32), utterance)


def _repeat(rng: random.Random, language: Words, turn: Turn, split: Split) -> tuple[Turn, ...]:
    """In some of the training, a second turn that asks what was said: it teaches to hear every word of it."""
    if split != "train" or not language.repeat or rng.random() >= _REPEATED:
        return ()
    return (Turn("repeat", rng.choice(language.repeat), turn.question),)


def _new(scene: Scene) -> str:
    """What is new in a scene of a held-out side: a digit has no combination of colour and shape, but a hand."""
    return "hand" if scene.kind == "digit" else "combination+style"


def _scene(rng: random.Random, split: Split) -> tuple[Scene, str]:
    """A scene and what of it is held out; most held-out scenes are both a new combination and in a new style."""
    if split == "train":
        return draw_scene(rng, "train", "train", nameless=True), ""
    what = rng.choices(tuple(_SCENE_GROUPS), (64, 10, 10, 16))[0]
    new_combination, new_style = _SCENE_GROUPS[what]
    scene = draw_scene(rng, split if new_combination else "train", split if new_style else "train")
    if scene.kind == "digit" and what != "unseen phrasing":
        return replace(scene, style=rng.choice(HANDS_OF[split])), "unseen hand"
    return scene, what


def build_dialogue(plan: Plan, audio: bytes, languages: Sequence[str]) -> Dialogue:
    """The dialogue of a plan, its picture drawn and its clip in place of the words of the first question."""
    asked = plan.turns[0].question
    question: list[Part | str] = [AudioPart(Media(bytes=audio), text=asked) if plan.utterance else asked]
    if plan.scene is not None:
        image = png(draw(plan.scene, random.Random(plan.picture_seed)))
        names = "\n".join(captions(plan.scene, languages).values())
        question.insert(0 if plan.picture_first else 1, ImagePart(Media(bytes=image), text=names))
    messages = [Message.of("user", *question), Message.of("assistant", plan.turns[0].answer)]
    for turn in plan.turns[1:]:
        messages += [Message.of("user", turn.question), Message.of("assistant", turn.answer)]
    source = f"samples/{plan.task}/{plan.turns[0].kind}"
    return Dialogue(plan.id, plan.language, plan.task, tuple(messages), source, plan.group)


def plan_clip(seed: int, split: Split, number: int, spoken: Sequence[str]) -> tuple[str, Utterance]:
    """A sentence of the kinds that people say to the assistant, or that documents hold, and how it is said."""
    rng = stream(seed, "clip", split, number)
    language = words(spoken[number % len(spoken)])
    what = rng.random()
    if what < 0.5:
        text = spoken_turn(rng, language, spoken).question
    elif what < 0.85:
        text = phrase(rng, language, rng.choice(QUESTION_KINDS), "train")
    elif what < 0.9:
        text = rng.choice(language.prose)
    else:
        text = tell(language, draw_fact(rng, (language.code,), aloud=True))
    return text, draw_utterance(rng, text, language.code, split)


def captions(scene: Scene, languages: Sequence[str]) -> dict[str, str]:
    """What a scene shows, in each language."""
    return {code: words(code).caption(scene) for code in languages}


def picture(seed: int, split: Split, number: int, languages: Sequence[str]) -> Picture:
    """Picture `number` with its captions; in a held-out split an unseen combination and style, or an unseen hand."""
    rng = stream(seed, "picture", split, number)
    scene = draw_scene(rng, split, split, nameless=split == "train")
    names = captions(scene, languages)
    group = "" if split == "train" else f"unseen {_new(scene)}"
    return Picture(png(draw(scene, rng)), names, scene.style, asdict(scene), group)
