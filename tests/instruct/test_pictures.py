from __future__ import annotations

from collections import Counter
from typing import Any

import pytest

from caravan.core.errors import DataError
from caravan.instruct import pictures
from caravan.recipe.instruct import PictureSource
from caravan.records import Dialogue, ImagePart

SOURCE: dict[str, Any] = {
    "pictures": "pictures_*.parquet",
    "image": "png",
    "names": "names.parquet",
    "heldout": {"style": ["ink"]},
}


def read(world: Any, **keys: Any) -> dict[str, list[Dialogue]]:
    items = list(pictures.read(PictureSource.model_validate(SOURCE | keys), world.context(), "00-pictures"))
    return {split: [item.dialogue for item in items if item.split == split] for split in ("train", "test")}


def test_names_answer_in_the_language_of_the_question(world: Any) -> None:
    world.pictures()
    rows = read(world, captions=3, questions=3)["train"]
    stems = {"en": "thing ", "de": "Ding ", "zh": "东西"}
    for row in rows:
        assert row.messages[1].text.startswith(stems[row.language])
        assert sum(isinstance(part, ImagePart) for part in row.messages[0].content) == 1
        assert len(row.messages[0].content) == 2
    # 6 keys in 2 styles and 3 languages; one name is missing.
    assert Counter(row.task for row in rows) == {"caption": 34, "picture": 34}
    places = {isinstance(row.messages[0].content[0], ImagePart) for row in rows}
    assert places == {True, False}, "the instruction stands before or after the picture"


def test_a_held_out_style_never_trains(world: Any) -> None:
    world.pictures()
    split = read(world)
    train, test = ({row.images[0].read() for row in rows} for rows in split.values())
    assert len(train) == 12
    assert len(test) == 6
    assert not train & test
    assert {row.group for row in split["test"]} == {"unseen style"}
    assert {row.group for row in split["train"]} == {""}


def test_keys_drawn_in_most_styles_come_first(world: Any) -> None:
    world.pictures()
    world.parquet("pictures_rare.parquet", [{"key": "k4", "style": "rare", "png": world.png(1)}])
    world.parquet("pictures_odd.parquet", [{"key": "k9", "style": "odd", "png": world.png(2)}])
    rows = read(world, keys=1)
    assert {row.id.split(":")[1] for row in rows["train"]} == {"k4"}
    assert {row.messages[1].text for row in read(world, where={"kind": ["odd"]}, captions=3)["test"]} == {
        f"{word}{i}" for i in (1, 3, 5) for word in ("thing ", "Ding ", "东西")
    }


def test_no_key_in_common_is_an_error(world: Any) -> None:
    world.pictures()
    world.parquet("names.parquet", [{"key": "other", "name_en": "a", "name_de": "b", "name_zh": "c"}])
    with pytest.raises(DataError, match="none in common"):
        read(world)


def test_a_corrupt_picture_is_named(world: Any) -> None:
    world.pictures()
    rows = [{"key": f"k{i}", "style": "new", "png": world.png(i)} for i in range(3)]
    rows[1]["png"] = rows[1]["png"][:40]
    world.parquet("pictures_new.parquet", rows)
    source = PictureSource.model_validate(SOURCE)
    faults = [item for item in pictures.read(source, world.context(), "p") if isinstance(item, DataError)]
    assert [str(fault.where).split("/")[-1] for fault in faults] == ["pictures_new.parquet, row 1, field png"]
