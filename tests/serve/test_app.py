"""The whole server, with its engine, over HTTP."""

from __future__ import annotations

import base64
import io
import json
import os
import re
import signal
import struct
import time
import zlib
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from typing import Any

import httpx
import numpy as np
import openai
import psutil
import pytest
import soundfile

Make = Callable[..., bytes]
URL = "/v1/chat/completions"


def audio(data: bytes, kind: str = "wav") -> Any:
    return {"type": "input_audio", "input_audio": {"data": base64.b64encode(data).decode(), "format": kind}}


def image(data: bytes) -> Any:
    return {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{base64.b64encode(data).decode()}"}}


def say(*parts: Any, **more: Any) -> dict[str, Any]:
    return {"messages": [{"role": "user", "content": list(parts)}], "max_tokens": 8, **more}


def text(words: str) -> Any:
    return {"type": "text", "text": words}


def test_models_and_health(client: openai.OpenAI, http: httpx.Client) -> None:
    assert [model.id for model in client.models.list()] == ["tiny"]
    assert client.models.retrieve("tiny").owned_by == "caravan"
    health = http.get("/health").raise_for_status().json()
    restarts = health.pop("engine_restarts")
    assert restarts >= 0
    assert health == {
        "status": "ok", "model": "tiny", "context": 1024, "senses": ["audio", "vision"], "engine_up": 1.0,
        "running": 0, "waiting": 0,
    }  # fmt: skip
    with pytest.raises(openai.NotFoundError, match="no such model"):
        client.chat.completions.create(model="gpt-4o", **say(text("x")))


def test_server_and_engine_listen_on_loopback_alone(server: Any) -> None:
    for process in (server.process.pid, *server.engines()):
        listening = [one for one in psutil.Process(process).net_connections() if one.status == psutil.CONN_LISTEN]
        assert {one.laddr.ip for one in listening} == {"127.0.0.1"}


def test_metrics_count_answers(client: openai.OpenAI, http: httpx.Client) -> None:
    def figure(line: str) -> float:
        found = re.findall(rf"^{re.escape(line)} (\S+)$", http.get("/metrics").raise_for_status().text, re.MULTILINE)
        return float(found[0]) if found else 0.0

    lines = (
        'caravan_answers_total{outcome="answered"}',
        'caravan_http_responses_total{route="/v1/chat/completions",status="200"}',
        'caravan_tokens_total{kind="completion"}',
        "caravan_first_piece_seconds_count",
        "caravan_answer_seconds_count",
    )
    before = [figure(line) for line in lines]
    client.chat.completions.create(model="tiny", **say(text("x")))
    assert [figure(line) - was for line, was in zip(lines, before, strict=True)] == [1, 1, 8, 1, 1]
    assert figure("caravan_engine_up") == 1
    assert figure("caravan_answers_waiting") == 0
    assert figure("process_resident_memory_bytes") > 1e7


def bomb(width: int, height: int) -> bytes:
    """A PNG of a few hundred bytes that says that it is large."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(bytes(1000))) + chunk(b"IEND", b"")
    )


def silence(seconds: int) -> bytes:
    """A FLAC file of a few kilobytes that unpacks to a hundred megabytes."""
    buffer = io.BytesIO()
    soundfile.write(buffer, np.zeros(8000 * seconds, np.int16), 8000, format="FLAC")
    assert len(buffer.getvalue()) < 100_000
    return buffer.getvalue()


def path_for_a_clip() -> Any:
    return {"type": "input_audio", "input_audio": {"data": "file:///etc/passwd", "format": "wav"}}


BAD: dict[str, tuple[Callable[[Make, Make], Any], int, str]] = {
    "one sample": (lambda wav, png: say(audio(wav(1))), 400, "too short"),
    "ten minutes": (lambda wav, png: say(audio(wav(8000 * 600, 8000))), 400, "too long"),
    "half a WAV": (lambda wav, png: say(audio(wav()[:2000])), 400, "cut off"),
    "not a WAV": (lambda wav, png: say(audio(b"RIFF....")), 400, "cannot be decoded"),
    "no sound": (lambda wav, png: say(audio(b"")), 400, "cannot be decoded"),
    "corrupt PNG": (lambda wav, png: say(image(png()[:50])), 400, "cannot be decoded"),
    "20,000 x 20,000": (lambda wav, png: say(image(png(20_000, 20_000))), 400, "40,000,000 pixels"),
    "a bomb": (lambda wav, png: say(image(bomb(60_000, 60_000))), 400, "40,000,000 pixels"),
    "a web address": (
        lambda wav, png: say({"type": "image_url", "image_url": {"url": "http://127.0.0.1/x.png"}}), 400, "not fetched",
    ),
    "a file's address": (
        lambda wav, png: say({"type": "image_url", "image_url": {"url": "file:///etc/passwd"}}), 400, "not fetched",
    ),
    "a path": (
        lambda wav, png: say({"type": "image_url", "image_url": {"url": "/etc/passwd"}}), 400, "not fetched",
    ),
    "a path for a clip": (lambda wav, png: say(path_for_a_clip()), 400, "base64"),
    "half an hour in a small file": (lambda wav, png: say(audio(silence(1800))), 400, "too long"),
    "special token": (lambda wav, png: say(text("what is <|image_pad|>?")), 400, r"<\|image_pad\|>"),
    "special token in halves": (lambda wav, png: say(text("<|image_"), text("pad|>")), 400, r"<\|image_pad\|>"),
    "longer than the context": (lambda wav, png: say(text("ab " * 1500)), 400, "at most 1024 tokens"),
    "media longer than the context": (lambda wav, png: say(*[audio(wav())] * 8), 400, "at most 1024 tokens"),
    "too much text": (lambda wav, png: say(text("a" * 300_000)), 400, "too much text"),
    "17 media": (lambda wav, png: say(*[image(png())] * 17), 400, "too many media"),
    "no question": (lambda wav, png: {"messages": [{"role": "assistant", "content": "x"}]}, 400, "not the user's"),
    "garbage": (lambda wav, png: b"\xff\xfe{", 400, "not JSON"),
    "not UTF-8": (lambda wav, png: b'{"messages": "\xff\xfe"}', 400, "not JSON.*byte 0xff.*UTF-8"),
    "half a JSON": (lambda wav, png: b'{"messages": [', 400, "not JSON"),
    "a deep JSON": (lambda wav, png: b"[" * 100_000, 400, "not JSON"),
    "another JSON": (lambda wav, png: [1, 2], 400, "dictionary|object"),
    "half a character": (lambda wav, png: b'{"messages": [{"role": "user", "content": "\\ud800"}]}', 400, "surrogate"),
    "half a character as a key": (lambda wav, png: b'{"\\ud800": 1}', 400, "unicode"),
    "half a character as a model": (
        lambda wav, png: b'{"model": "\\ud800", "messages": [{"role": "user", "content": "x"}]}', 404, "no such model",
    ),
    "70 MB": (lambda wav, png: b" " * 70_000_000, 413, "too large"),
}  # fmt: skip


def refused(http: httpx.Client, body: Any, status: int, words: str) -> None:
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    reply = http.post(URL, content=content, headers={"Content-Type": "application/json"})
    assert reply.status_code == status, reply.text
    error = reply.json()["error"]
    assert error.keys() == {"message", "type", "param", "code"}
    assert re.search(words, error["message"]), error


@pytest.mark.parametrize("name", BAD)
def test_bad_input_is_refused_in_words(server: Any, http: httpx.Client, wav: Make, png: Make, name: str) -> None:
    make, status, words = BAD[name]
    engine = server.engine()
    refused(http, make(wav, png), status, words)
    assert http.post(URL, json=say(text("hello"))).status_code == 200
    assert server.engine() == engine


@pytest.mark.parametrize("name", ["one sample", "longer than the context"])
def test_a_stream_that_cannot_begin_is_refused_alike(http: httpx.Client, wav: Make, png: Make, name: str) -> None:
    make, status, words = BAD[name]
    refused(http, make(wav, png) | {"stream": True}, status, words)


def test_what_is_not_offered_is_said_in_the_same_shape(http: httpx.Client) -> None:
    for reply in (http.get(URL), http.post("/v1/responses", json={}), http.get("/v1/models/other")):
        assert reply.status_code == 404
        assert reply.json()["error"]["type"] == "invalid_request_error"


def test_a_body_that_is_not_called_json_is_told_so(http: httpx.Client) -> None:
    reply = http.post(URL, content=json.dumps(say(text("hello"))))
    assert reply.status_code == 400
    assert "Content-Type: application/json" in reply.json()["error"]["message"]


def test_long_words_and_odd_characters_are_answered(http: httpx.Client) -> None:
    for words in ("\0", "é\u2028\r\n", "🧭" * 20, "ก็" * 50, " " * 300):
        reply = http.post(URL, json=say(text(words)))
        assert reply.status_code == 200, (words, reply.text)


@contextmanager
def held(process: int) -> Iterator[None]:
    """A process that stands still, unless it ends meanwhile."""
    os.kill(process, signal.SIGSTOP)
    try:
        yield
    finally:
        with suppress(ProcessLookupError):
            os.kill(process, signal.SIGCONT)


def busy(http: httpx.Client) -> float:
    (count,) = re.findall(r"\ncaravan_answers_in_progress (\S+)", http.get("/metrics").text)
    return float(count)


def restarts(http: httpx.Client) -> float:
    """How often the engine was started again; -1 while it is not there."""
    return float(http.get("/health").json().get("engine_restarts", -1))


def wait_for(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 120
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_a_killed_engine_is_replaced(server: Any, client: openai.OpenAI, http: httpx.Client) -> None:
    def ask(stream: bool = False) -> Any:
        return client.chat.completions.create(model="tiny", stream=stream, **say(text("hello")))

    before, engine, starts = ask().choices[0].message.content, server.engine(), restarts(http)
    with ThreadPoolExecutor(2) as pool:
        with held(engine):
            under_way = [pool.submit(ask, stream) for stream in (False, True)]
            wait_for(lambda: busy(http) == 2)
            os.kill(engine, signal.SIGKILL)
        for answer in under_way:
            with pytest.raises(openai.InternalServerError, match="engine is not available") as caught:
                answer.result()
            assert caught.value.status_code == 503
            assert caught.value.code == "engine_unavailable"
            assert caught.value.response.headers["Retry-After"]
    wait_for(lambda: restarts(http) == starts + 1)
    assert server.engine() != engine
    assert ask().choices[0].message.content == before


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])
def test_a_client_that_goes_away_frees_the_engine(server: Any, http: httpx.Client, stream: bool) -> None:
    with held(server.engine()):
        with pytest.raises(httpx.ReadTimeout):
            http.post(URL, json=say(text("hello"), stream=stream), timeout=httpx.Timeout(60, read=0.5))
        wait_for(lambda: busy(http) == 0)
    assert http.post(URL, json=say(text("hello"))).status_code == 200


def test_events_are_lines_of_json(http: httpx.Client) -> None:
    reply = http.post(URL, json=say(text("hello"), stream=True))
    assert reply.headers["content-type"].startswith("text/event-stream")
    events = [line.removeprefix("data: ") for line in reply.text.split("\n") if line]
    assert events[-1] == "[DONE]"
    assert {json.loads(event)["object"] for event in events[:-1]} == {"chat.completion.chunk"}
