from __future__ import annotations

from typing import Any

import pytest

from caravan.core.errors import DataError, PlaceholderError
from caravan.records import (
    AudioPart,
    Dialogue,
    ImagePart,
    Media,
    Message,
    dialogue_from_row,
    dialogue_to_row,
    dialogues_to_table,
)

DIALOGUE = Dialogue(
    id="d1",
    language="en",
    task="both",
    messages=(
        Message.of(
            "user",
            ImagePart(Media(b"png"), text="circle\nKreis"),
            "what is it?",
            AudioPart(Media(path="clip.wav"), text="name it"),
        ),
        Message.of("assistant", "a circle"),
    ),
    group="unseen voice",
)


def row(**changes: Any) -> dict[str, Any]:
    return {**dialogue_to_row(DIALOGUE), **changes}


def test_round_trip_through_arrow() -> None:
    table = dialogues_to_table([DIALOGUE])
    assert dialogue_from_row(table.to_pylist()[0]) == DIALOGUE


@pytest.mark.parametrize("field", ["audios", "images"])
@pytest.mark.parametrize("count", [0, 2])
def test_placeholders_and_media_must_match(field: str, count: int) -> None:
    media = [{"bytes": b"x", "path": None}] * count
    with pytest.raises(PlaceholderError, match="do not match") as caught:
        dialogue_from_row(row(**{field: media}))
    assert "dialogue d1" in str(caught.value)
    assert caught.value.got == str(count)


def test_unknown_roles_and_parts_are_named() -> None:
    turn = {"role": "wizard", "content": [{"type": "text", "text": "x"}]}
    with pytest.raises(DataError, match="unknown role"):
        dialogue_from_row(row(messages=[turn], audios=[], images=[]))
    turn = {"role": "user", "content": [{"type": "smell", "text": None}]}
    with pytest.raises(DataError, match="unknown content type"):
        dialogue_from_row(row(messages=[turn], audios=[], images=[]))


def test_a_missing_media_file_is_named() -> None:
    with pytest.raises(DataError, match="nowhere.wav"):
        Media(path="nowhere.wav").read()
