"""Speech in many voices: what is said how, and the pool of processes that says it.

Each utterance is a pure function of its fields: text, language, voice, rate, pitch, loudness, noise and its seed.
"""

from __future__ import annotations

import importlib.util
import io
import json
import os
import random
import struct
import subprocess
import sys
import wave
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from types import TracebackType
from typing import TypeVar

import numpy as np

from caravan.core.errors import CaravanError, MissingDependencyError
from caravan.samples.speakers import choose_voice, espeak_data, voice_for
from caravan.samples.world import Split

SAMPLE_RATE = 16_000
_NATIVE_RATE = 22_050
_BATCH = 32
# Run as a file: without the rest of the package in its memory the process starts and forks much faster.
_ESPEAK = Path(__file__).with_name("espeak.py")
_LANGUAGE_VOICES = {"zh": "cmn", "en": "en-us", "pt": "pt-br"}
Row = TypeVar("Row")


@dataclass(frozen=True, slots=True)
class Utterance:
    """A sentence and how it is said. `rate` is in words a minute, `pitch` 0 to 100, `level` an RMS, full scale 1."""

    text: str
    language: str
    voice: str
    rate: int = 165
    pitch: int = 50
    level: float = 0.08
    noise: float = 0.0
    seed: int = 0


def draw_utterance(rng: random.Random, text: str, language: str, split: Split) -> Utterance:
    """A sentence in a voice of the split, at a chance pace, pitch, loudness and noise; training varies more."""
    level = rng.uniform(0.03, 0.15)
    noise = level * 10 ** (-rng.uniform(18, 40) / 20) if rng.random() < 0.5 else 0.0
    wider = 15 if split == "train" else 0
    rate, pitch = rng.randint(140 - wider, 190 + wider), rng.randint(35 - wider, 65 + wider)
    return Utterance(text, language, choose_voice(rng, split), rate, pitch, level, noise, rng.getrandbits(32))


def finish(samples: bytes, utterance: Utterance) -> bytes:
    """From espeak-ng's samples to a WAV file: 16 kHz, mono, 16 bit, levelled, with silence and noise around it."""
    import soxr

    native = np.frombuffer(samples, dtype="<i2").astype(np.float32)
    speech = np.asarray(soxr.resample(native, _NATIVE_RATE, SAMPLE_RATE))
    rng = np.random.default_rng(utterance.seed)
    before, after = rng.integers(400, 4000, size=2)
    speech = np.concatenate([np.zeros(before, np.float32), speech, np.zeros(after, np.float32)])
    speech *= utterance.level / max(1e-6, float(np.sqrt(np.mean(speech**2))))
    speech += rng.normal(0.0, 1.0, len(speech)).astype(np.float32) * utterance.noise
    pcm = (np.clip(speech, -1.0, 1.0) * 32767.0).round().astype("<i2")
    stream = io.BytesIO()
    with wave.open(stream, "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(SAMPLE_RATE)
        file.writeframes(pcm.tobytes())
    return stream.getvalue()


def require_speech() -> None:
    """Fail early, with the line that installs what is missing.

    Raises:
        MissingDependencyError: espeakng-loader or soxr is not installed.
    """
    for package, module in (("espeakng-loader", "espeakng_loader"), ("soxr", "soxr")):
        if importlib.util.find_spec(module) is None:
            raise MissingDependencyError(package, "speech", needed_for="the speech of the sample world")


class _Worker:
    """One espeak-ng process with a queue of one batch."""

    def __init__(self, data: Path) -> None:
        self._data = data
        self._process = subprocess.Popen(
            [sys.executable, "-P", str(_ESPEAK), str(data)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
        )
        self._asked: Sequence[Utterance] = ()

    def __enter__(self) -> _Worker:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._process.kill()
        self._process.communicate()

    def ask(self, utterances: Sequence[Utterance]) -> None:
        """Start on a batch; `answer` collects it."""
        assert self._process.stdin is not None
        self._asked = utterances
        languages = (_LANGUAGE_VOICES.get(u.language, u.language) for u in utterances)
        lines = [[voice_for(self._data, language, u.voice), u.rate, u.pitch, u.text]
                 for language, u in zip(languages, utterances, strict=True)]  # fmt: skip
        try:
            self._process.stdin.write(json.dumps(lines).encode() + b"\n")
            self._process.stdin.flush()
        except BrokenPipeError as error:
            raise self._ended() from error

    def answer(self) -> Iterator[bytes]:
        """The WAV files of the batch that was asked, in order."""
        for utterance in self._asked:
            (size,) = struct.unpack("<I", self._read(4))
            yield finish(self._read(size), utterance)

    def _read(self, size: int) -> bytes:
        assert self._process.stdout is not None
        data = self._process.stdout.read(size)
        if len(data) < size:
            raise self._ended()
        return data

    def _ended(self) -> CaravanError:
        texts = ", ".join(sorted({f"{u.language}+{u.voice}" for u in self._asked}))
        return CaravanError(
            "the speech synthesiser ended while it was speaking",
            expected=f"speech for {len(self._asked)} sentences ({texts})",
            got=f"exit status {self._process.wait()}; its own words are above",
            fix="run it again; if it stays so, leave the language out of `spoken`",
        )


def speak(rows: Iterable[tuple[Row, Utterance | None]], processes: int | None = None) -> Iterator[tuple[Row, bytes]]:
    """Every row with its WAV file, in order; a row without an utterance passes with empty bytes.

    The processes start with the first utterance and end with the iterator; a batch ahead for each is in memory.

    Raises:
        MissingDependencyError: espeakng-loader or soxr is not installed.
        CaravanError: the synthesiser ended early.
    """
    count = processes or min(2, os.cpu_count() or 1)
    source = iter(rows)
    with ExitStack() as stack:
        idle: deque[_Worker] = deque()
        busy: deque[tuple[list[tuple[Row, Utterance | None]], _Worker | None]] = deque()
        while True:
            batch = list(islice(source, _BATCH)) if len(busy) < count else []
            if batch:
                busy.append((batch, _start(stack, idle, [u for _, u in batch if u is not None])))
            elif busy:
                done, worker = busy.popleft()
                clips = worker.answer() if worker else iter(())
                yield from ((row, next(clips) if utterance else b"") for row, utterance in done)
                if worker:
                    idle.append(worker)
            else:
                return


def _start(stack: ExitStack, idle: deque[_Worker], utterances: Sequence[Utterance]) -> _Worker | None:
    """Give a batch to an idle process, or to a new one; none is needed for no speech."""
    if not utterances:
        return None
    if not idle:
        require_speech()
        idle.append(stack.enter_context(_Worker(stack.enter_context(espeak_data()))))
    worker = idle.popleft()
    worker.ask(utterances)
    return worker
