"""Speech to text by the model itself: a long clip in pieces, cut where it is quietest, each asked for in turn."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from dataclasses import dataclass, replace

import numpy as np

from caravan.media.audio import SAMPLE_RATE, AudioLimits, Wave, decode_audio, encode_wav
from caravan.records import AudioPart, Media, Message
from caravan.serve.assistant import Assistant
from caravan.serve.question import Piece, Question, Sampling, Turn
from caravan.text.instructions import INSTRUCTIONS

# The encoder hears 30 seconds at a time; from 29.99 s it would start a second window.
MOST_SECONDS, LEAST_SECONDS = 29.5, 15.0
_FRAME = SAMPLE_RATE // 20
# Their sentences are joined without a space.
UNSPACED = frozenset({"zh", "ja", "th"})


@dataclass(frozen=True)
class Clip:
    """A sound file, and from where to where it stands in a longer one, in seconds."""

    data: bytes
    start: float
    end: float


@dataclass(frozen=True)
class Segment:
    """What was said between two moments, in seconds."""

    start: float
    end: float
    text: str


def cut(data: bytes, limits: AudioLimits) -> list[Clip]:
    """A sound file as clips that the encoder hears at once; one that it can is left as it is.

    Raises:
        MediaError: it cannot be decoded, or exceeds a limit.
    """
    wave = decode_audio(data, where="file", limits=limits)
    pieces = [(start, end, start / SAMPLE_RATE, end / SAMPLE_RATE) for start, end in cuts(wave)]
    if len(pieces) == 1:
        return [Clip(data, *pieces[0][2:])]
    return [Clip(encode_wav(wave[start:end]), *seconds) for start, end, *seconds in pieces]


def cuts(wave: Wave) -> list[tuple[int, int]]:
    """Where to cut a clip [n]: samples from and to, each piece of at most MOST_SECONDS.

    A cut stands in the middle of the quietest 50 ms between LEAST_SECONDS and MOST_SECONDS after the one before.
    """
    pieces, start = [], 0
    while len(wave) - start > MOST_SECONDS * SAMPLE_RATE:
        first, last = (start + int(seconds * SAMPLE_RATE) for seconds in (LEAST_SECONDS, MOST_SECONDS))
        frames = wave[first : first + (last - first) // _FRAME * _FRAME].reshape(-1, _FRAME)
        quietest = int(np.square(frames, dtype=np.float64).sum(axis=1).argmin())
        end = first + quietest * _FRAME + _FRAME // 2
        pieces.append((start, end))
        start = end
    return [*pieces, (start, len(wave))]


async def transcribed(
    assistant: Assistant,
    clips: Sequence[Clip],
    language: str | None,
    hint: str,
    sampling: Sampling,
    segments: list[Segment],
) -> AsyncGenerator[Piece, None]:
    """What is said in clips that follow each other, as it is written down. Raises as `Assistant.answer`.

    Args:
        assistant: who hears.
        clips: from `cut`.
        language: of the instruction; None for English.
        hint: added to the instruction.
        sampling: how the text is drawn.
        segments: grows by one with each clip.
    """
    words = INSTRUCTIONS["transcribe"][language or "en"][0] + (f"\n{hint}" if hint else "")
    total = Piece("")
    for number, clip in enumerate(clips):
        question = Question((Turn.of(Message.of("user", AudioPart(Media(bytes=clip.data)), words)),), sampling)
        text, last = "", number == len(clips) - 1
        async with aclosing(assistant.answer(question)) as pieces:
            async for piece in pieces:
                joint = " " if number and not text and piece.text and language not in UNSPACED else ""
                text += piece.text
                total = _added(total, piece)
                shown = joint + piece.text
                yield replace(total, text=shown) if last else Piece(shown)
        segments.append(Segment(clip.start, clip.end, text.strip()))


def _added(total: Piece, piece: Piece) -> Piece:
    return Piece(
        "",
        piece.finish,
        total.prompt_tokens + piece.prompt_tokens,
        total.completion_tokens + piece.completion_tokens,
        total.cached_tokens + piece.cached_tokens,
    )


def subtitles(segments: Sequence[Segment], form: str) -> str:
    """Segments as SubRip ("srt") or WebVTT ("vtt")."""
    comma = "," if form == "srt" else "."
    cues = [
        (f"{number}\n" if form == "srt" else "")
        + f"{_clock(one.start, comma)} --> {_clock(one.end, comma)}\n{one.text}\n"
        for number, one in enumerate(segments, start=1)
    ]
    return ("" if form == "srt" else "WEBVTT\n\n") + "\n".join(cues)


def _clock(seconds: float, comma: str) -> str:
    thousandths = round(seconds * 1000)
    minutes, rest = divmod(thousandths, 60_000)
    return f"{minutes // 60:02}:{minutes % 60:02}:{rest // 1000:02}{comma}{rest % 1000:03}"
