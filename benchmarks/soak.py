"""The whole server under mixed traffic: nothing is lost, everything is answered or refused in words, memory stays flat.

    python benchmarks/soak.py MODEL [--minutes 30] [--clients 4] [--kills 5] [--out FILE.json] [SETTING ...]

MODEL as for `caravan serve`, which this starts on a free port; settings go to it. Clients send questions in text, with
pictures and with speech, whole and streamed; one in ten is malformed, one in ten hangs up before the end; meanwhile the
engine is killed so many times, evenly. Every request ends in one of the outcomes that a request may end in; any other
is a fault, and the exit status is 1. Memory is that of the front end and of each engine, every two seconds; "flat" is
the growth from the median of the second quarter of the time to that of the last.
"""

from __future__ import annotations

import argparse
import asyncio
import base64
import contextlib
import io
import json
import random
import statistics
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import psutil
import soundfile
from PIL import Image

CHAT = "/v1/chat/completions"
MALFORMED, HANGS_UP = 0.1, 0.1
SAMPLE_SECONDS = 2.0
GROWTH = 1.10  # of the front end's resident memory


def picture(draw: random.Random) -> bytes:
    """A PNG of random size and colour."""
    buffer = io.BytesIO()
    size = draw.randint(32, 800), draw.randint(32, 800)
    Image.new("RGB", size, tuple(draw.randbytes(3))).save(buffer, "PNG")
    return buffer.getvalue()


def clip(draw: random.Random) -> bytes:
    """A WAV of random length, rate and pitch."""
    rate, seconds = draw.choice((8_000, 16_000, 44_100)), draw.uniform(0.3, 6.0)
    wave = 0.3 * np.sin(2 * np.pi * draw.uniform(100, 900) * np.arange(int(rate * seconds)) / rate)
    buffer = io.BytesIO()
    soundfile.write(buffer, wave, rate, format="WAV", subtype="PCM_16")
    return buffer.getvalue()


def image_part(data: bytes) -> dict[str, Any]:
    return {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{base64.b64encode(data).decode()}"}}


def audio_part(data: bytes) -> dict[str, Any]:
    return {"type": "input_audio", "input_audio": {"data": base64.b64encode(data).decode(), "format": "wav"}}


def asked(parts: list[Any], **more: Any) -> bytes:
    body = {"messages": [{"role": "user", "content": [*parts, {"type": "text", "text": "And?"}]}], "max_tokens": 32}
    return json.dumps(body | more).encode()


def good(draw: random.Random, senses: list[str]) -> tuple[str, bytes]:
    """A request, and what kind it is."""
    kind = draw.choice(["text", *senses, *(["both"] if len(senses) == 2 else [])])
    pictures = [image_part(picture(draw)) for _ in range(draw.randint(1, 2))] if kind in ("vision", "both") else []
    clips = [audio_part(clip(draw))] if kind in ("audio", "both") else []
    words = [{"type": "text", "text": f"Question {draw.random()}: " + "what comes then? " * draw.randint(1, 12)}]
    return kind, asked([*pictures, *clips, *words], stream=draw.random() < 0.5)


def bad(draw: random.Random) -> bytes:
    """A request that must be refused."""
    half = picture(draw)[:40]
    return draw.choice(
        (
            b"\xff\xfe{", b"[" * 5000, b'{"messages": [', b"{}", asked([image_part(half)]), asked([audio_part(half)]),
            asked([audio_part(clip(draw)[:100])]), asked([{"type": "text", "text": "<|image_pad|>"}]),
            asked([{"type": "text", "text": "x " * 100_000}]), asked([], temperature=-1), asked([], n=7),
            asked([{"type": "image_url", "image_url": {"url": "http://127.0.0.1/x.png"}}]),
            asked([], stream=True, top_p=9),
        )
    )  # fmt: skip


@dataclass
class Tally:
    """What came of the requests."""

    outcomes: Counter[str] = field(default_factory=Counter)
    faults: Counter[str] = field(default_factory=Counter)
    first: list[float] = field(default_factory=list)

    def of_good(self, kind: str, status: int, text: str, ended: bool) -> None:
        """A request that deserves an answer got this."""
        if status == 200 and ended:
            self.outcomes[f"answered: {kind}"] += 1
        elif '"engine_unavailable"' in text and status in (200, 503):
            self.outcomes["refused: the engine is being started again"] += 1
        elif '"server_busy"' in text and status == 429:
            self.outcomes["refused: busy"] += 1
        else:
            self.faults[f"{kind}: {status} {text[-200:]}"] += 1

    def of_bad(self, status: int, text: str) -> None:
        """A malformed request got this."""
        if status in (400, 413) and '"invalid_request_error"' in text:
            self.outcomes["refused: malformed"] += 1
        elif status == 503 and '"engine_unavailable"' in text:
            self.outcomes["refused: the engine is being started again"] += 1
        else:
            self.faults[f"malformed: {status} {text[:200]}"] += 1


async def client(http: httpx.AsyncClient, draw: random.Random, senses: list[str], end: float, tally: Tally) -> None:
    """Ask until the end."""
    while time.monotonic() < end:
        try:
            if draw.random() < MALFORMED:
                reply = await http.post(CHAT, content=bad(draw))
                tally.of_bad(reply.status_code, reply.text)
            elif draw.random() < HANGS_UP:
                with contextlib.suppress(httpx.TimeoutException):
                    await http.post(CHAT, content=good(draw, senses)[1], timeout=draw.uniform(0.005, 0.3))
                tally.outcomes["hung up"] += 1
            else:
                await _ask(http, *good(draw, senses), tally)
        except httpx.HTTPError as error:
            tally.faults[f"no answer: {error!r}"] += 1
        await asyncio.sleep(draw.uniform(0, 0.2))


async def _ask(http: httpx.AsyncClient, kind: str, body: bytes, tally: Tally) -> None:
    started, text = time.monotonic(), ""
    async with http.stream("POST", CHAT, content=body) as reply:
        async for piece in reply.aiter_text():
            if not text and reply.status_code == 200:
                tally.first.append(time.monotonic() - started)
            text += piece
    stream = "event-stream" in reply.headers.get("content-type", "")
    ended = text.endswith("data: [DONE]\n\n") if stream else '"finish_reason"' in text
    tally.of_good(kind, reply.status_code, text, ended)


def engine_of(server: psutil.Process) -> psutil.Process | None:
    """The engine's process, if it is there."""
    for child in server.children():
        with contextlib.suppress(psutil.Error):
            if "caravan.engine" in child.cmdline():
                return child
    return None


async def killer(server: psutil.Process, kills: int, seconds: float, tally: Tally) -> None:
    """Kill the engine so many times, evenly."""
    for _ in range(kills):
        await asyncio.sleep(seconds / (kills + 1))
        if engine := engine_of(server):
            engine.kill()
            tally.outcomes["engine killed"] += 1


async def watcher(server: psutil.Process, end: float) -> dict[str, list[float]]:
    """Resident MiB of the front end, and of each engine by its process id."""
    sizes: dict[str, list[float]] = {"front end": []}
    while time.monotonic() < end:
        sizes["front end"].append(server.memory_info().rss / 2**20)
        if engine := engine_of(server):
            with contextlib.suppress(psutil.Error):
                sizes.setdefault(f"engine {engine.pid}", []).append(engine.memory_info().rss / 2**20)
        await asyncio.sleep(SAMPLE_SECONDS)
    return sizes


def growth(sizes: list[float]) -> float:
    """The median of the last quarter over that of the second."""
    quarter = len(sizes) // 4
    return statistics.median(sizes[3 * quarter :]) / statistics.median(sizes[quarter : 2 * quarter]) if quarter else 1.0


async def soak(url: str, process: int, *, seconds: float, clients: int, kills: int, seed: int = 7) -> dict[str, Any]:
    """Ask a running server, whose process id is given, and report.

    Returns:
        counts of outcomes and of faults, seconds to the first piece, and MiB of memory.
    """
    tally, server, end = Tally(), psutil.Process(process), time.monotonic() + seconds
    headers = {"Content-Type": "application/json"}
    async with httpx.AsyncClient(base_url=url, headers=headers, timeout=300, trust_env=False) as http:
        senses = (await http.get("/health")).json()["senses"]
        asking = [client(http, random.Random(f"{seed} {number}"), senses, end, tally) for number in range(clients)]
        sizes, *_ = await asyncio.gather(watcher(server, end), killer(server, kills, seconds, tally), *asking)
        deadline = time.monotonic() + 120
        while (health := await http.get("/health")).status_code != 200 and time.monotonic() < deadline:
            await asyncio.sleep(0.2)
        if health.status_code != 200:
            tally.faults[f"at the end: {health.text[:200]}"] += 1
    first = sorted(tally.first) or [0.0]
    return {
        "requests": sum(tally.outcomes.values()) - tally.outcomes["engine killed"] + sum(tally.faults.values()),
        "outcomes": dict(sorted(tally.outcomes.items())),
        "faults": dict(tally.faults),
        "first piece, s": {"p50": first[len(first) // 2], "p95": first[int(len(first) * 0.95)]},
        "MiB": {
            name: {"first": values[0], "last": values[-1], "most": max(values), "growth": growth(values)}
            for name, values in sizes.items()
        },
    }


@contextlib.contextmanager
def serving(model: str, settings: list[str]) -> Iterator[tuple[str, int]]:
    """`caravan serve` on a free port: its URL and its process id."""
    with tempfile.TemporaryDirectory() as folder:
        ready = Path(folder) / "url"
        command = [
            sys.executable,
            "-m",
            "caravan",
            "serve",
            model,
            *settings,
            "--port",
            "0",
            "--ready-file",
            str(ready),
        ]
        with (Path(folder) / "log").open("w") as log, subprocess.Popen(command, stdout=log, stderr=log) as server:
            try:
                while not ready.exists():
                    if server.poll() is not None:
                        sys.exit((Path(folder) / "log").read_text())
                    time.sleep(0.1)
                yield ready.read_text(), server.pid
            finally:
                server.terminate()


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model")
    parser.add_argument("settings", nargs="*")
    parser.add_argument("--minutes", type=float, default=30)
    parser.add_argument("--clients", type=int, default=4)
    parser.add_argument("--kills", type=int, default=5)
    parser.add_argument("--out", type=Path)
    options = parser.parse_intermixed_args()
    with serving(options.model, options.settings) as (url, process):
        seconds = options.minutes * 60
        report = asyncio.run(soak(url, process, seconds=seconds, clients=options.clients, kills=options.kills))
    told = json.dumps(report, indent=2)
    print(told)
    if options.out:
        options.out.write_text(told)
    return 1 if report["faults"] or report["MiB"]["front end"]["growth"] > GROWTH else 0


if __name__ == "__main__":
    sys.exit(main())
