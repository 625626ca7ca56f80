from __future__ import annotations

import base64
import io
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import httpx
import pytest

from caravan.core.errors import DataError
from caravan.recipe.serve import ServeConfig
from caravan.serve.chat import TerminalChat, chat

# As the server that the answers are compared with has them.
CONFIG = ServeConfig(threads=1, max_tokens=48)


@pytest.fixture(scope="module")
def media(tmp_path_factory: pytest.TempPathFactory, wav: Callable[..., bytes], png: Callable[..., bytes]) -> list[Path]:
    folder = tmp_path_factory.mktemp("media")
    (folder / "a.wav").write_bytes(wav())
    (folder / "a.png").write_bytes(png())
    return [folder / "a.wav", folder / "a.png"]


def over_http(url: str, *turns: tuple[str, Any]) -> str:
    messages = [{"role": role, "content": content} for role, content in turns]
    reply = httpx.post(f"{url}/v1/chat/completions", json={"messages": messages}, timeout=240, trust_env=False)
    return reply.raise_for_status().json()["choices"][0]["message"]["content"]


def test_one_turn_is_what_the_server_answers(
    exported: Path, server: Any, media: list[Path], capsys: pytest.CaptureFixture[str]
) -> None:
    chat(exported, CONFIG, text="hello", audios=media[:1], images=media[1:])
    sound, pixels = (base64.b64encode(path.read_bytes()).decode() for path in media)
    content = [
        {"type": "input_audio", "input_audio": {"data": sound, "format": "wav"}},
        {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{pixels}"}},
        {"type": "text", "text": "hello"},
    ]
    assert capsys.readouterr().out == over_http(server.url, ("user", content)) + "\n"


def test_a_conversation(
    exported: Path, server: Any, media: list[Path], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    lines = ["hi", "/audio none.wav", "<|end|>", "again", f"/image {media[1]}", "/new", "hi", "/quit"]
    monkeypatch.setattr("sys.stdin", io.StringIO("\n".join(lines)))
    chat(exported, CONFIG)
    said = capsys.readouterr()
    first = over_http(server.url, ("user", "hi"))
    second = over_http(server.url, ("user", "hi"), ("assistant", first), ("user", "again"))
    assert said.out.replace("> ", "") == f"{first}\n{second}\n{first}\n"
    assert "none.wav: the file cannot be read" in said.err
    assert "text contains the special token <|end|>" in said.err


def test_an_answer_that_runs_away_is_ended_and_its_stream_left() -> None:
    left: list[str] = []

    def stream(*_: Any, **__: Any) -> Any:
        try:
            yield from ["I see ", *["a dog and "] * 100]
        finally:
            left.append("left")

    engine, renderer = (
        SimpleNamespace(stream=stream),
        SimpleNamespace(prompt=lambda _: SimpleNamespace(text="", media=())),
    )
    talk = TerminalChat(cast(Any, engine), cast(Any, renderer), ServeConfig(loop_characters=60))
    assert "".join(talk.say("what?")) == "I see " + "a dog and " * 6
    assert left == ["left"]
    assert talk.messages[-1].text == "I see " + "a dog and " * 6


def test_a_file_that_is_not_there_is_named(exported: Path) -> None:
    with pytest.raises(DataError, match=r"none\.png"):
        chat(exported, text="x", images=[Path("none.png")])
