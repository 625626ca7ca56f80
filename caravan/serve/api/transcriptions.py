"""OpenAI's transcriptions, by the model itself: its answer to a clip and "write down what is said"."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict
from typing import Annotated, Any, Literal

import anyio.to_thread
from fastapi import FastAPI, File, Form, Request, UploadFile
from fastapi.responses import JSONResponse, PlainTextResponse, Response

from caravan.media.audio import AudioLimits
from caravan.records import LANGUAGES
from caravan.serve.api.base import check_model
from caravan.serve.api.streams import Event, streamed, unless_gone, whole
from caravan.serve.assistant import Assistant
from caravan.serve.errors import RequestError
from caravan.serve.question import Piece, Sampling
from caravan.serve.transcribe import Segment, cut, subtitles, transcribed

# What is none of these would change the answer, and is refused.
FIELDS = frozenset(
    {
        "file", "model", "language", "prompt", "response_format", "temperature", "stream", "timestamp_granularities[]",
        "chunking_strategy",
    }
)  # fmt: skip


def add(app: FastAPI, assistant: Assistant) -> None:
    """Offer POST /v1/audio/transcriptions."""

    @app.post("/v1/audio/transcriptions")
    async def transcribe(
        request: Request,
        file: Annotated[UploadFile, File(description="WAV, FLAC, OGG or MP3")],
        model: Annotated[str | None, Form()] = None,
        language: Annotated[str | None, Form(description="of the speech, as ISO 639-1 has it")] = None,
        prompt: Annotated[str, Form(description="added to the instruction", max_length=4000)] = "",
        response_format: Annotated[Literal["json", "text", "srt", "verbose_json", "vtt"], Form()] = "json",
        temperature: Annotated[float | None, Form(ge=0, le=1, allow_inf_nan=False)] = None,
        stream: Annotated[bool, Form()] = False,
        # Neutral values only.
        granularities: Annotated[Sequence[Literal["segment"]], Form(alias="timestamp_granularities[]")] = (),
        chunking_strategy: Annotated[Literal["auto"] | None, Form()] = None,
    ) -> Response:
        check_model(model, assistant.name)
        if unknown := sorted((await request.form()).keys() - FIELDS):
            raise RequestError("there is no such field", param=unknown[0][:80], expected=", ".join(sorted(FIELDS)))
        if language is not None and language not in LANGUAGES:
            raise RequestError(
                "there is no instruction in this language",
                param="language",
                expected=", ".join(LANGUAGES),
                got=language[:20],
                fix="leave it out",
            )
        limits = AudioLimits(max_seconds=assistant.config.limits.seconds)
        data = await file.read()
        clips = await anyio.to_thread.run_sync(cut, data, limits)
        segments: list[Segment] = []
        sampling = Sampling(temperature=temperature)
        pieces = transcribed(assistant, clips, language, prompt, sampling, segments)
        if stream:
            return await streamed(request, pieces, _Events())
        said = await unless_gone(request, whole(pieces))
        text = "".join(piece.text for piece in said).strip()
        if response_format in ("srt", "vtt"):
            return PlainTextResponse(subtitles(segments, response_format))
        if response_format == "text":
            return PlainTextResponse(f"{text}\n")
        body = {"text": text, "usage": _usage(said[-1])}
        return JSONResponse(body | (_verbose(language, segments) if response_format == "verbose_json" else {}))


def _verbose(language: str | None, segments: list[Segment]) -> Event:
    told = [{"id": number} | asdict(segment) for number, segment in enumerate(segments)]
    return {"task": "transcribe", "language": language or "", "duration": segments[-1].end, "segments": told}


class _Events:
    """The events of a streamed transcription."""

    def __init__(self) -> None:
        self.text = ""

    def __call__(self, piece: Piece) -> Iterator[Event]:
        self.text += piece.text
        if piece.text:
            yield {"type": "transcript.text.delta", "delta": piece.text}
        if piece.finish:
            yield {"type": "transcript.text.done", "text": self.text.strip(), "usage": _usage(piece)}


def _usage(last: Piece) -> dict[str, Any]:
    return {
        "type": "tokens",
        "input_tokens": last.prompt_tokens,
        "output_tokens": last.completion_tokens,
        "total_tokens": last.prompt_tokens + last.completion_tokens,
    }
