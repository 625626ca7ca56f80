from __future__ import annotations

from collections import Counter
from typing import Any

import pytest

from caravan import samples as world_samples
from caravan.instruct import samples, stage
from caravan.recipe.instruct import InstructConfig, SampleSource
from caravan.records import Dialogue
from caravan.samples import Clip, Picture

NAMES = {"en": "red circle", "de": "roter Kreis", "zh": "红圆", "fr": "rond rouge"}


@pytest.fixture
def fixed(world: Any, monkeypatch: pytest.MonkeyPatch) -> Any:
    """The sample world with its generators replaced: their speed and words are not what is tested here."""
    wav, png = world.wav(0.2), world.png(1)

    def clips(config: Any, seed: int, split: str) -> Any:
        return (Clip(wav, f"{split} words {i}", "de", f"voice {i}") for i in range(config.clips))

    def pictures(config: Any, seed: int, split: str) -> Any:
        return (Picture(png, NAMES, split, {}, "h" if split == "test" else "") for _ in range(config.pictures))

    def dialogues(config: Any, seed: int, split: str) -> Any:
        assert config.languages == ["en", "de", "zh"]
        return (Dialogue(f"{split}-{i}", "en", "chat", (), "samples", "g") for i in range(config.dialogues))

    for make in (clips, pictures, dialogues):
        monkeypatch.setattr(world_samples, make.__name__, make)
    return world


def test_clips_are_transcribed_and_pictures_named_in_turn(fixed: Any) -> None:
    source = SampleSource.model_validate({"samples": {"dialogues": 2, "clips": 5, "pictures": 9}, "captions": 2})
    items = list(samples.read(source, fixed.context(), "00-samples"))
    counts = Counter((item.split, item.dialogue.task, item.dialogue.group) for item in items)
    assert counts == {
        ("train", "chat", "g"): 2,
        ("train", "transcribe", ""): 5,
        ("train", "caption", ""): 18,
        ("test", "chat", "g"): 2,
        ("test", "transcribe", "unseen voice"): 5,
        ("test", "caption", "h"): 18,
    }
    captions = [item.dialogue for item in items if item.dialogue.task == "caption" and item.split == "train"]
    assert Counter(row.language for row in captions) == {"en": 6, "de": 6, "zh": 6}, "languages of the run, in turn"
    assert all(row.messages[1].text == NAMES[row.language] for row in captions)
    assert len({item.dialogue.id for item in items}) == len(items)


def test_the_real_sample_world_becomes_dialogues(world: Any) -> None:
    config = InstructConfig.model_validate(
        {"sources": [{"samples": {"dialogues": 6, "clips": 2, "pictures": 2, "test": 1, "spoken": ["en"]}}]}
    )
    counts = stage.run(config, world.context(languages=("en", "th")))
    assert counts["broken"] == 0
    rows = {split: world.dialogues("out", split) for split in ("train", "test")}
    assert {row.task for row in rows["train"]} >= {"transcribe", "caption"}
    assert all(row.group.startswith("unseen") for row in rows["test"])
    assert {row.language for row in rows["train"] + rows["test"]} <= {"en", "th"}
