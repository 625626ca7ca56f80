from __future__ import annotations

from collections import Counter
from typing import Any

import pytest

from caravan.core.errors import DataError
from caravan.instruct import speech
from caravan.instruct.rows import Item
from caravan.recipe.instruct import SpeechSource, SpokenPictureSource
from caravan.text.instructions import INSTRUCTIONS


def read(world: Any, **keys: Any) -> list[Item]:
    source = SpeechSource.model_validate({"speech": "clips.parquet", **keys})
    items = list(speech.read(source, world.context(), "00-speech"))
    assert all(isinstance(item, Item) for item in items)
    return items  # type: ignore[return-value]


def test_each_task_asks_in_its_own_words_and_answers_the_transcript(world: Any) -> None:
    rows = world.clips()
    world.parquet("clips.parquet", rows)
    items = read(world)
    assert Counter(item.dialogue.task for item in items) == {"transcribe": 24, "speech": 24}
    for item, row in zip(items[::2], rows, strict=True):
        assert item.dialogue.audios[0].read() == row["audio"]
        assert item.dialogue.messages[1].text == row["text"]
        assert item.dialogue.messages[0].text in INSTRUCTIONS["transcribe"]["en"]


def test_a_held_out_speaker_never_trains(world: Any) -> None:
    world.parquet("clips.parquet", world.clips())
    items = read(world, heldout={"speaker": ["s2"]}, tasks=["speech"])
    assert Counter((item.split, item.dialogue.group) for item in items) == {
        ("train", ""): 18,
        ("test", "unseen speaker"): 6,
    }


def test_a_transcript_is_on_one_side_only(world: Any) -> None:
    world.parquet("clips.parquet", [row | {"text": f"word {i % 12}"} for i, row in enumerate(world.clips())])
    items = read(world, test_share=0.4)
    train, test = ({i.dialogue.messages[1].text for i in items if i.split == split} for split in ("train", "test"))
    assert train
    assert test
    assert not train & test
    assert {item.dialogue.group for item in items if item.split == "test"} == {"unseen text"}


def test_other_languages_are_passed_over_and_a_code_names_all(world: Any) -> None:
    world.parquet("clips.parquet", [row | {"lang": "fr" if i else "de"} for i, row in enumerate(world.clips())])
    assert [item.dialogue.language for item in read(world)] == ["de", "de"]
    assert {item.dialogue.language for item in read(world, language="zh")} == {"zh"}
    assert len(read(world, language="zh", limit=3)) == 6


SPOKEN = {
    "spoken_pictures": "clips.parquet",
    "pictures": "hands.parquet",
    "image": "png",
    "words": {f"word {i}": str(i) for i in range(3)},
    "heldout": {"speaker": ["s0"]},
    "picture_share": 0.3,
}


def test_a_spoken_word_beside_its_picture_or_another(world: Any) -> None:
    world.parquet("clips.parquet", world.clips(120))
    hands = [{"label": i % 4, "png": world.png(i)} for i in range(80)]
    world.parquet("hands.parquet", hands)
    label_of = {row["png"]: str(row["label"]) for row in hands}
    word_of = {row["audio"]: row["text"] for row in world.clips(120)}
    source = SpokenPictureSource.model_validate(SPOKEN)
    items: list[Any] = list(speech.read_spoken_pictures(source, world.context(), "00-both"))
    assert len(items) == 72
    for _, row in items:
        same = f"word {label_of[row.images[0].read()]}" == word_of[row.audios[0].read()]
        assert row.messages[1].text == ("yes" if same else "no")
    yes = sum(row.messages[1].text == "yes" for _, row in items)
    assert 20 < yes < 52
    train, test = ({row.images[0].read() for s, row in items if s == split} for split in ("train", "test"))
    assert test
    assert not train & test
    with pytest.raises(DataError, match="no picture of 9"):
        wrong = SpokenPictureSource.model_validate(SPOKEN | {"words": {"word 0": "0", "word 1": "9"}})
        next(speech.read_spoken_pictures(wrong, world.context(), "00-both"))
