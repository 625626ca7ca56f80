"""Real pictures, voices and chats become dialogues, and nothing held out is trained on."""

from __future__ import annotations

import itertools
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from caravan.core.stage import StageContext
from caravan.instruct import formats, pictures, speech
from caravan.recipe.instruct import DataSource, PictureSource, SpeechSource, SpokenPictureSource
from caravan.records import LANGUAGES

DATA = Path(__file__).parents[2].parent / "shared/data"
pytestmark = pytest.mark.skipif(not DATA.is_dir(), reason="no real data beside the repository: ../shared/data")
DIGITS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")


@pytest.fixture
def context(tmp_path: Path) -> StageContext:
    return StageContext(tmp_path, {}, DATA, 7, LANGUAGES, "instruct")


def by_split(items: Any) -> dict[str, list[Any]]:
    rows: dict[str, list[Any]] = {"train": [], "test": []}
    for item in items:
        rows[item.split].append(item.dialogue)
    return rows


def test_emoji_in_an_unseen_style(context: StageContext) -> None:
    source = PictureSource(
        pictures="emoji/emoji_*.parquet",
        image="png",
        names="emoji/emoji_names.parquet",
        where={"group": ["Animals & Nature"]},
        keys=40,
        heldout={"style": ["blob"]},
    )
    rows = by_split(pictures.read(source, context, "00-pictures"))
    styles = {split: {row.id.split(":")[2] for row in rows[split]} for split in rows}
    assert styles["test"] == {"blob"}
    assert styles["train"] == {"fluent_3d", "fluent_flat", "fluent_mono", "noto", "openmoji", "twemoji"}
    keys = {split: {row.id.split(":")[1] for row in rows[split]} for split in rows}
    assert keys["train"] == keys["test"]
    assert len(keys["test"]) == 40
    assert {row.language for row in rows["train"]} == set(LANGUAGES)
    assert not {row.images[0].read() for row in rows["train"]} & {row.images[0].read() for row in rows["test"]}


def test_digits_of_an_unseen_speaker(context: StageContext) -> None:
    source = SpeechSource(speech="speech/fsdd_en_digits.parquet", heldout={"speaker": ["fsdd_theo"]})
    rows = by_split(speech.read(source, context, "01-speech"))
    assert len(rows["test"]) == 2 * 500
    assert len(rows["train"]) == 2 * 1499
    assert not any("theo" in row.id for row in rows["train"])
    assert not {r.audios[0].read() for r in rows["train"]} & {r.audios[0].read() for r in rows["test"]}
    assert {row.messages[1].text for row in rows["train"]} == set(DIGITS)


def test_a_spoken_digit_and_a_photograph_of_a_hand(context: StageContext) -> None:
    source = SpokenPictureSource(
        spoken_pictures="speech/fsdd_en_digits.parquet",
        pictures="emoji/sign_digits_photos.parquet",
        image="jpg",
        label="digit",
        words={word: str(digit) for digit, word in enumerate(DIGITS)},
        heldout={"speaker": ["fsdd_theo"]},
    )
    rows = by_split(speech.read_spoken_pictures(source, context, "02-both"))
    assert len(rows["test"]) == 500
    assert not {r.images[0].read() for r in rows["train"]} & {r.images[0].read() for r in rows["test"]}
    answers = Counter(row.messages[1].text for row in rows["train"])
    assert min(answers.values()) > 0.45 * sum(answers.values())


def test_chats_in_many_languages(context: StageContext) -> None:
    source = DataSource(path="instruct/chat*.jsonl.gz", limit=60)
    items = list(itertools.islice(formats.read(source, context, "03-path"), 2_000))
    rows = by_split(item for item in items if not isinstance(item, Exception))
    assert len({row.language for row in rows["train"]}) == 15
    assert max(Counter(row.language for row in rows["train"] + rows["test"]).values()) == 60
    assert [str(item) for item in items if isinstance(item, Exception)] == []
