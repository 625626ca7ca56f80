from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import Any

import pytest

from caravan.core.errors import EndpointError
from caravan.core.stage import StageContext
from caravan.evaluate.cascade import cascade_rows, in_writing, latencies, recogniser
from caravan.evaluate.comparison import compared
from caravan.evaluate.metrics import CASCADE, FP32, HEARD
from caravan.evaluate.rows import Row
from caravan.recipe.evaluate import CascadeConfig, Transcriptions
from caravan.recipe.samples import SamplesConfig
from caravan.records import AudioPart, Media, Message
from caravan.samples import clips


def spoken(row: Any, identity: str, data: bytes, text: str, reference: str = "x", language: str = "en") -> Row:
    part = AudioPart(Media(bytes=data), text=text)
    return replace(row(identity, reference, "speech", language), messages=(Message.of("user", part, "Well?"),))


def test_what_was_heard_takes_the_clip_s_place(row: Any, wav: bytes, png: bytes) -> None:
    both = row("1", "x", audio=wav, image=png)
    asked = in_writing(both, "how many")
    assert [part.type for part in asked.messages[0].content] == ["text", "text", "image"]
    assert asked.messages[0].content[1].text == "how many"


def test_rows_with_clips_are_compared_and_pictures_need_the_fused_model(row: Any, wav: bytes, png: bytes) -> None:
    rows = [row("a", "x", audio=wav), row("b", "x", image=png), row("c", "x", "both", audio=wav, image=png)]
    assert [one.id for one in cascade_rows(CascadeConfig(), rows)] == ["a", "c"]
    assert [one.id for one in cascade_rows(CascadeConfig(model="other"), rows)] == ["a"]
    many = [row(str(i), "x", audio=wav) for i in range(9)]
    assert len(cascade_rows(CascadeConfig(limit=2), many)) == 2


def context(tmp_path: Any) -> StageContext:
    return StageContext(tmp_path, {}, tmp_path, 7, ("en",), "evaluate")


def test_a_whisper_writes_clips_down(row: Any, tmp_path: Any) -> None:
    (clip, *_) = clips(SamplesConfig(clips=1, languages=["es"], spoken=["es"]), 3, "train")
    hear = recogniser(CascadeConfig(recogniser="sample-whisper"), context(tmp_path), None, None)
    asked = spoken(row, "1", clip.audio, clip.text)
    (heard,) = hear([asked])
    answers = {HEARD: {"1": heard}, FP32: {"1": "x"}, CASCADE: {"1": "y"}}
    (found,) = compared([asked], answers)
    assert (found.fused, found.cascade) == (1, 0)
    assert found.heard is not None
    assert found.heard < 0.5, f"{heard!r} for {clip.text!r}"


class Listener(BaseHTTPRequestHandler):
    bodies: list[bytes] = []  # noqa: RUF012

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.bodies.append(body)
        self.send_response(200)
        self.end_headers()
        answer = {"text": " two dogs "} if b"fLaC" in body else {"error": "no"}
        self.wfile.write(json.dumps(answer if b"broken" not in body else {"no": "text"}).encode())

    def log_message(self, *_: Any) -> None:
        pass


@pytest.fixture
def url() -> Iterator[str]:
    listening = HTTPServer(("127.0.0.1", 0), Listener)
    thread = threading.Thread(target=listening.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{listening.server_port}/v1/audio/transcriptions"
    listening.shutdown()
    thread.join()
    listening.server_close()


def test_a_service_hears_flac_and_is_told_the_language(row: Any, wav: bytes, url: str, tmp_path: Any) -> None:
    hear = recogniser(CascadeConfig(recogniser=Transcriptions(url=url)), context(tmp_path), None, None)
    assert hear([spoken(row, "1", wav, "two dogs", language="th")]) == ["two dogs"]
    assert b'name="language"\r\n\r\nth' in Listener.bodies[-1]
    broken = recogniser(
        CascadeConfig(recogniser=Transcriptions(url=url, model="broken")), context(tmp_path), None, None
    )
    with pytest.raises(EndpointError, match="gives no text"):
        broken([spoken(row, "1", wav, "two dogs")])


def test_the_first_clip_is_asked_once_more_uncounted(row: Any, wav: bytes) -> None:
    calls: list[str] = []
    rows = [row(str(i), "x", audio=wav) for i in range(3)]
    found = latencies(rows, {"fused": lambda one: calls.append(one.id), "cascade": lambda one: calls.append("c")})
    assert calls == ["0", "c", "0", "c", "1", "c", "2", "c"]
    assert {name: line["clips"] for name, line in found.items()} == {"fused": 3, "cascade": 3}
    assert all(0 <= line["median"] <= line["p90"] * 1.01 for line in found.values())
