from __future__ import annotations

from pathlib import Path
from typing import Any

import httpx
import pytest

from caravan.records import AudioPart, ImagePart, Media, Message
from caravan.serve.web import NOT_ANSWERED, _conversation, _photographed


def said(role: str, *content: Any, **metadata: str) -> dict[str, Any]:
    parts = [
        {"type": "text", "text": item} if isinstance(item, str) else {"type": "file", "file": {"path": str(item)}}
        for item in content
    ]
    return {"role": role, "content": parts, "metadata": metadata or None}


def test_turns_that_were_not_answered_are_left_out() -> None:
    history = [
        said("user", Path("a.png"), "what"),
        said("assistant", "a cat"),
        said("user", "corrupt"),
        said("assistant", "no", title=NOT_ANSWERED),
        said("user", "stopped"),
    ]
    picture, clip = ImagePart(Media(path="a.png")), AudioPart(Media(path="b.wav"))
    assert _conversation(history, {"text": "and", "files": ["b.wav"]}) == [
        Message.of("user", picture, "what"),
        Message.of("assistant", "a cat"),
        Message.of("user", clip, "and"),
    ]


def test_a_photograph_joins_what_is_in_the_box() -> None:
    assert _photographed("c.webp", {"text": "see", "files": ["a"]}) == (None, {"text": "see", "files": ["a", "c.webp"]})


def test_the_page_names_nothing_outside(server: Any) -> None:
    page = httpx.get(server.url, trust_env=False).raise_for_status().text
    assert "tiny reads, hears and sees" in page
    for fetched in ("fonts.googleapis", "cdn.", "api.gradio.app"):
        assert fetched not in page


@pytest.mark.parametrize("path", ["/gradio_api/file=/etc/passwd", "/gradio_api/info"])
def test_gradio_opens_no_other_door(server: Any, path: str) -> None:
    reply = httpx.get(server.url + path, trust_env=False)
    assert "root:" not in reply.text
    assert reply.status_code in (403, 404) or reply.json() == {"named_endpoints": {}, "unnamed_endpoints": {}}
