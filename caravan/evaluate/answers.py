"""Three ways to an answer: torch in fp32, the exported model in this process, and the server over HTTP."""

from __future__ import annotations

import base64
import contextlib
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import httpx
import numpy as np
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from caravan.core.errors import ServeError
from caravan.engine import Engine, EngineRequestError
from caravan.evaluate.predictions import Answer
from caravan.evaluate.rows import Row
from caravan.media.audio import decode_audio, encode_wav
from caravan.media.features import MediaSpec, audio_features, image_features
from caravan.media.image import decode_image, encode_png
from caravan.models.generate import generate
from caravan.models.load import media_spec
from caravan.records import AudioPart, ImagePart, Message, Part, TextPart
from caravan.text.chat import encode, prompt_text
from caravan.text.repetition import cut_loop

START_SECONDS = 120.0
STOP_SECONDS = 20.0
ANSWER_SECONDS = 300.0
# Stands for the answer to a row that the engine cannot take, such as one longer than its context.
REFUSED = "(refused)"


def clean(text: str) -> str:
    """An answer without space around it, and without the piece of a character at which a length limit cuts."""
    return text.rstrip("\ufffd").strip()


def torch_answers(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, max_new_tokens: int, *, guard: bool = False
) -> Answer:
    """Greedy answers of a model in torch; with `guard`, those that run away are ended, and cut down to one unit."""
    spec = MediaSpec(**media_spec(model.config))

    def answer(rows: Sequence[Row]) -> list[str]:
        prompts, audio, image = [], [], []
        for row in rows:
            clips = [audio_features(clip, spec, where=row.id) for clip in _media(row, AudioPart)]
            pictures = [image_features(picture, spec, where=row.id) for picture in _media(row, ImagePart)]
            text = prompt_text(tokenizer, row.messages, where=row.id)
            audio_tokens = [len(windows) * spec.audio_tokens_per_window for windows in clips]
            prompts.append(encode(tokenizer, text, audio_tokens, [spec.image_tokens] * len(pictures), where=row.id))
            audio.append(np.concatenate(clips) if clips else None)
            image.append(np.stack(pictures) if pictures else None)
        written = generate(model, tokenizer, prompts, audio, image, max_new_tokens, guard=guard)
        texts = [clean(str(tokenizer.decode(ids, skip_special_tokens=True))) for ids in written]
        return [clean(cut_loop(text)) for text in texts] if guard else texts

    return answer


def _media(row: Row, kind: type[AudioPart] | type[ImagePart]) -> list[bytes]:
    """The encoded media of one kind, in order."""
    parts = (part for message in row.messages for part in message.content if isinstance(part, kind))
    return [part.audio.read() if isinstance(part, AudioPart) else part.image.read() for part in parts]


def engine_answers(engine: Engine, tokenizer: PreTrainedTokenizerBase, max_new_tokens: int) -> Answer:
    """Greedy answers of an exported model in this process."""

    def one(row: Row) -> str:
        media = [_plain(part) for message in row.messages for part in message.content if part.type != "text"]
        prompt = prompt_text(tokenizer, row.messages, where=row.id)
        try:
            return clean(engine.complete(prompt, media, max_tokens=max_new_tokens).text)
        except EngineRequestError:
            return REFUSED

    return lambda rows: [one(row) for row in rows]


def _plain(part: Part) -> bytes:
    """A medium as the engine takes it: 16 kHz mono WAV or PNG."""
    if isinstance(part, AudioPart):
        return encode_wav(decode_audio(part.audio.read()))
    if isinstance(part, ImagePart):
        return encode_png(decode_image(part.image.read()))
    raise TypeError(part.type)


def http_answers(url: str, max_new_tokens: int) -> Answer:
    """Greedy answers of a server, as any client of OpenAI's chat completions would ask for them."""

    def answer(rows: Sequence[Row]) -> list[str]:
        with httpx.Client(base_url=url, trust_env=False, timeout=ANSWER_SECONDS) as client:
            return [clean(_ask(client, request(row.messages, max_new_tokens))) for row in rows]

    return answer


def request(messages: Sequence[Message], max_tokens: int) -> dict[str, Any]:
    """The body of a chat completion request."""
    turns = [{"role": message.role, "content": [_json_part(part) for part in message.content]} for message in messages]
    # What the engine remembers of other rows may tip a near tie.
    return {"messages": turns, "max_tokens": max_tokens, "temperature": 0, "cache_prompt": False}


def _json_part(part: Part) -> dict[str, Any]:
    match part:
        case TextPart():
            return {"type": "text", "text": part.text}
        case AudioPart():
            data = base64.b64encode(part.audio.read()).decode()
            return {"type": "input_audio", "input_audio": {"data": data, "format": "wav"}}
        case ImagePart():
            data = base64.b64encode(part.image.read()).decode()
            return {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{data}"}}


def _ask(client: httpx.Client, body: dict[str, Any]) -> str:
    where = str(client.base_url)
    try:
        reply = client.post("/v1/chat/completions", json=body)
    except httpx.TransportError as error:
        raise ServeError("the server does not answer", where=where, got=str(error)) from error
    if reply.status_code == 400:
        return REFUSED
    if reply.status_code != 200:
        raise ServeError("the server refused a test row", where=where, got=f"{reply.status_code}: {reply.text[:300]}")
    return str(reply.json()["choices"][0]["message"]["content"])


@contextlib.contextmanager
def server(model: Path, mmproj: Path | None) -> Iterator[str]:
    """`caravan serve` as a process of its own on a free port; yields its URL and ends it afterwards.

    Raises:
        ServeError: it does not come up; its last words are in the error.
    """
    with tempfile.TemporaryDirectory() as folder:
        ready, words = Path(folder) / "url", Path(folder) / "log"
        command = [sys.executable, "-m", "caravan", "serve", str(model), "--port", "0", "--ready-file", str(ready)]
        with words.open("wb") as log:
            process = subprocess.Popen(
                [*command, *(["--mmproj", str(mmproj)] if mmproj else [])],
                stdout=log,
                stderr=subprocess.STDOUT,
                env=os.environ | {"GRADIO_ANALYTICS_ENABLED": "False"},
            )
        try:
            yield _url(process, ready, words)
        finally:
            process.terminate()
            try:
                process.wait(STOP_SECONDS)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def _url(process: subprocess.Popen[bytes], ready: Path, words: Path) -> str:
    """Wait until the server says where it listens."""
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline and process.poll() is None:
        if ready.exists():
            return ready.read_text().strip().rstrip("/")
        time.sleep(0.1)
    raise ServeError(
        "the server did not come up",
        expected=f"its address within {START_SECONDS:.0f} s",
        got=f"exit status {process.poll()}: {words.read_text(errors='replace')[-800:]}",
        fix="run `caravan serve` on the exported folder by hand",
    )
