from __future__ import annotations

import gzip
import io
import json
import re
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Lock, Thread
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import soundfile
from PIL import Image

from caravan.core.stage import StageContext
from caravan.media.audio import encode_wav
from caravan.records import Dialogue, dialogue_from_row


class World:
    """A small data folder, and stages that read it."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.data = folder, folder / "data"
        self.data.mkdir()

    def context(self, out: str = "out", languages: tuple[str, ...] = ("en", "de", "zh"), seed: int = 3) -> StageContext:
        (self.folder / out).mkdir(exist_ok=True)
        return StageContext(self.folder / out, {}, self.data, seed, languages, "instruct")

    def png(self, shade: int) -> bytes:
        buffer = io.BytesIO()
        Image.new("RGBA", (8, 8), (shade, 0, 0, 128)).save(buffer, "PNG")
        return buffer.getvalue()

    def wav(self, pitch: float) -> bytes:
        return encode_wav((0.3 * np.sin(np.arange(1600) * pitch)).astype(np.float32))

    def parquet(self, name: str, rows: list[dict[str, Any]]) -> Path:
        pq.write_table(pa.Table.from_pylist(rows), self.data / name)
        return self.data / name

    def lines(self, name: str, rows: list[Any]) -> Path:
        """JSON lines; a row of bytes is written as it is."""
        raw = b"".join((row if isinstance(row, bytes) else json.dumps(row).encode()) + b"\n" for row in rows)
        (self.data / name).write_bytes(gzip.compress(raw) if name.endswith(".gz") else raw)
        return self.data / name

    def pictures(self, keys: int = 6, styles: tuple[str, ...] = ("flat", "round", "ink")) -> None:
        """Pictures of every key in every style, and names in three languages; the first key lacks the German one."""
        for s, style in enumerate(styles):
            rows = [{"key": f"k{i}", "style": style, "png": self.png(10 * i + s)} for i in range(keys)]
            self.parquet(f"pictures_{style}.parquet", rows)
        kinds = ("even", "odd")
        names = [
            {"key": f"k{i}", "kind": kinds[i % 2], "name_en": f"thing {i}", "name_zh": f"东西{i}"}
            | {"name_de": f"Ding {i}" if i else None}
            for i in range(keys)
        ]
        self.parquet("names.parquet", names)

    def clips(self, count: int = 24) -> list[dict[str, Any]]:
        """Rows of clips by four speakers of five words."""
        return [
            {"audio": self.wav(0.1 + 0.01 * i), "text": f"word {i % 5}", "lang": "en", "speaker": f"s{i % 4}"}
            for i in range(count)
        ]

    def dialogues(self, out: str, split: str) -> list[Dialogue]:
        files = sorted((self.folder / out / split).glob("*.parquet"))
        return [dialogue_from_row(row) for file in files for row in pq.read_table(file).to_pylist()]


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path)


class VoiceService(ThreadingHTTPServer):
    """A local service that speaks, writes down and translates as OpenAI's and Azure's do.

    Attributes:
        asked: path and body of every request. tones: a pitch for each voice.
        fails: how many requests more are answered before it is out of order; None for ever.
    """

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.asked: list[tuple[str, bytes]] = []
        self.fails: int | None = None
        self.heard: Callable[[str], str] = lambda text: text
        self.answer: Callable[[str, str], str] = lambda _, text: text
        self.said: dict[bytes, str] = {}
        self.lock = Lock()

    def url(self, path: str) -> str:
        return f"http://127.0.0.1:{self.server_port}{path}"


class _Handler(BaseHTTPRequestHandler):
    def do_POST(self) -> None:
        service = self.server
        assert isinstance(service, VoiceService)
        body = self.rfile.read(int(self.headers["content-length"]))
        with service.lock:
            service.asked.append((self.path, body))
            if service.fails is not None:
                service.fails -= 1
            broken = service.fails is not None and service.fails < 0
        reply = b"out of order" if broken else _reply(service, self.path, body)
        self.send_response(400 if broken else 200)
        self.send_header("content-length", str(len(reply)))
        self.end_headers()
        self.wfile.write(reply)

    def log_message(self, *_: object) -> None:
        pass


def _reply(service: VoiceService, path: str, body: bytes) -> bytes:
    if path.endswith("/transcriptions"):
        # The length of a clip tells which it was.
        clip = body[body.index(b"fLaC") : body.rindex(b"\r\n--")]
        seconds = soundfile.info(io.BytesIO(clip)).duration
        text = min(service.said.items(), key=lambda item: abs(len(item[1]) / 20 - seconds))[1]
        return json.dumps({"text": service.heard(text)}).encode()
    if path.endswith("/chat/completions"):
        system, user = json.loads(body)["messages"]
        content = service.answer(system["content"], user["content"])
        return json.dumps({"choices": [{"message": {"content": content}}]}).encode()
    text = json.loads(body)["input"] if body.startswith(b"{") else re.sub(r"<[^>]+>", "", body.decode())
    service.said[text.encode()] = text
    wave = 0.3 * np.sin(np.arange(int(16_000 * len(text) / 20)) * 0.2)
    return encode_wav(wave.astype(np.float32))


@pytest.fixture
def service() -> Iterator[VoiceService]:
    with VoiceService() as server:
        Thread(target=server.serve_forever, daemon=True).start()
        yield server
        server.shutdown()
