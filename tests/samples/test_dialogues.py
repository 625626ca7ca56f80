"""Dialogues and clips: right parts, right answers, the same each time, held-out facets on the test side alone."""

from __future__ import annotations

import pytest

from caravan import samples
from caravan.core.errors import RecipeError
from caravan.recipe.samples import SamplesConfig
from caravan.records import LANGUAGES, AudioPart, Dialogue, ImagePart
from caravan.samples.dialogues import Plan, cells_of, plan_clip, plan_dialogue
from caravan.samples.speakers import VOICES
from caravan.samples.words import words
from caravan.samples.world import COMBINATIONS, HANDS_OF, SPLITS, SPOKEN, STYLES_OF, Split


def plans(split: Split, count: int) -> list[Plan]:
    per_task = count // len(cells_of(LANGUAGES, SPOKEN))
    return [plan_dialogue(0, split, number, LANGUAGES, SPOKEN, per_task) for number in range(count)]


def test_training_never_meets_what_is_held_out() -> None:
    for plan in plans("train", 2000):
        assert plan.group == ""
        if plan.utterance is not None:
            assert plan.utterance.voice in VOICES["train"]
        if plan.scene is not None and plan.scene.kind == "digit":
            assert plan.scene.style in HANDS_OF["train"]
        elif plan.scene is not None:
            assert not plan.scene.colour or (plan.scene.colour, plan.scene.shape) in COMBINATIONS["train"]
            assert plan.scene.colour or not {turn.kind for turn in plan.turns} & {"object", "colour"}
            assert plan.scene.style in STYLES_OF["train"]
        for turn in plan.turns:
            held_out = {forms[-1] for forms in words(plan.language).questions.values()}
            assert turn.question not in held_out


@pytest.mark.parametrize("split", ["validation", "test"])
def test_a_held_out_row_is_new_in_what_its_group_says(split: Split) -> None:
    for plan in plans(split, 52 * 12):
        assert plan.group
        if plan.utterance is not None:
            assert plan.utterance.voice in VOICES[split]
        if plan.scene is None:
            continue
        new_style = plan.scene.style in STYLES_OF[split]
        if "hand" in plan.group:
            assert plan.scene.style in HANDS_OF[split]
        if "combination" in plan.group:
            assert (plan.scene.colour, plan.scene.shape) in COMBINATIONS[split]
        assert new_style == ("style" in plan.group)
        if plan.group == "unseen phrasing":
            assert plan.turns[0].question == words(plan.language).questions[plan.turns[0].kind][-1]


def test_the_test_split_has_the_same_number_for_each_task_and_language() -> None:
    config = SamplesConfig(dialogues=1, test=2, languages=["en", "th"], spoken=["en"])
    rows = list(samples.dialogues(config, 0, "test"))
    assert sorted((row.task, row.language) for row in rows) == sorted(
        cell for cell in [("chat", "en"), ("chat", "th"), ("picture", "en"), ("picture", "th"), ("speech", "en"),
                          ("both", "en")] for _ in range(2)
    )  # fmt: skip


def test_the_validation_side_gives_other_test_rows() -> None:
    config = SamplesConfig(dialogues=1, test=1, languages=["en"], spoken=[])
    other = config.model_copy(update={"heldout": "validation"})
    chosen, reported = (list(samples.dialogues(each, 0, "test")) for each in (other, config))
    assert [row.task for row in chosen] == [row.task for row in reported]
    assert {row.id for row in chosen}.isdisjoint(row.id for row in reported)
    assert list(samples.dialogues(other, 0, "train")) == list(samples.dialogues(config, 0, "train"))


def test_some_spoken_questions_are_asked_back_in_training_alone() -> None:
    trained = [plan for plan in plans("train", 2000) if plan.utterance is not None]
    back = [plan for plan in trained if len(plan.turns) == 2]
    assert 0.15 < len(back) / len(trained) < 0.25
    for plan in back:
        assert plan.turns[1].question in words(plan.language).repeat
        assert plan.turns[1].answer == plan.turns[0].question
    assert all(len(plan.turns) == 1 for plan in plans("test", 52 * 12))


def parts(dialogue: Dialogue) -> set[str]:
    return {part.type for part in dialogue.messages[0].content}


def test_each_task_has_its_parts() -> None:
    config = SamplesConfig(dialogues=60)
    rows = list(samples.dialogues(config, 1, "train"))
    expected = {"chat": {"text"}, "picture": {"text", "image"}, "speech": {"audio"}, "both": {"audio", "image"}}
    assert {row.task for row in rows} == set(expected)
    for row in rows:
        assert parts(row) == expected[row.task]
        assert [message.role for message in row.messages] == ["user", "assistant"] * (len(row.messages) // 2)
        assert all(message.text for message in row.messages if message.role == "assistant")
        assert all(media.read()[:4] == b"RIFF" for media in row.audios)
        assert all(media.read()[:4] == b"\x89PNG" for media in row.images)
    assert len({row.id for row in rows}) == len(rows)


def test_dialogues_are_the_same_each_time_and_for_any_length() -> None:
    short = list(samples.dialogues(SamplesConfig(dialogues=12), 5, "train"))
    assert short == list(samples.dialogues(SamplesConfig(dialogues=20), 5, "train"))[:12]
    assert short != list(samples.dialogues(SamplesConfig(dialogues=12), 6, "train"))


def test_without_spoken_languages_no_speech_is_asked_for() -> None:
    config = SamplesConfig(dialogues=40, clips=5, spoken=[], test=1)
    assert {row.task for row in samples.dialogues(config, 0, "train")} == {"chat", "picture"}
    assert {row.task for row in samples.dialogues(config, 0, "test")} == {"chat", "picture"}
    assert list(samples.clips(config, 0, "train")) == []


def test_no_dialogues_means_no_test_dialogues() -> None:
    config = SamplesConfig(dialogues=0, clips=0, pictures=0)
    for split in ("train", "test"):
        assert list(samples.dialogues(config, 0, split)) == []
        assert list(samples.clips(config, 0, split)) == []
        assert list(samples.pictures(config, 0, split)) == []


@pytest.mark.parametrize("split", SPLITS)
def test_clips_take_the_spoken_languages_in_turn(split: Split) -> None:
    planned = [plan_clip(0, split, number, SPOKEN) for number in range(64)]
    assert {utterance.language for _, utterance in planned} == set(SPOKEN)
    assert {utterance.voice for _, utterance in planned} <= set(VOICES[split])
    assert all(text == utterance.text and '"' not in text for text, utterance in planned)


def test_a_clip_says_its_text() -> None:
    (clip,) = samples.clips(SamplesConfig(clips=1, spoken=["de"]), 0, "train")
    assert clip.language == "de"
    assert clip.audio[:4] == b"RIFF"
    assert clip.text == plan_clip(0, "train", 0, ("de",))[0]


def test_an_unknown_language_is_an_error_that_names_it() -> None:
    with pytest.raises(RecipeError, match="xx"):
        list(samples.documents(SamplesConfig(documents=1, languages=["en", "xx"]), 0))


def test_clips_carry_their_words_and_pictures_their_names_in_every_language() -> None:
    config = SamplesConfig(dialogues=40, languages=["en", "de"], spoken=["en"])
    for number, dialogue in enumerate(samples.dialogues(config, 7, "train")):
        plan = plan_dialogue(7, "train", number, ["en", "de"], ["en"])
        for part in dialogue.messages[0].content:
            if isinstance(part, AudioPart):
                assert part.text == plan.turns[0].question
            if isinstance(part, ImagePart):
                assert part.text.split("\n") == [words(code).caption(plan.scene) for code in ("en", "de")]
