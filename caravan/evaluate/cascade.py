"""The same items by a cascade: a recogniser writes the clip down, then a language model answers the writing.

Compared are what is right and how long it takes from the end of the clip to the first token of the answer.
"""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from statistics import median, quantiles
from typing import Any

import torch
from transformers import AutoTokenizer, WhisperForConditionalGeneration

from caravan.core.endpoint import Endpoint, key_of
from caravan.core.errors import EndpointError
from caravan.core.files import read_json, write_json
from caravan.core.stage import StageContext
from caravan.evaluate.answers import clean, torch_answers
from caravan.evaluate.metrics import CASCADE, FUSED, HEARD
from caravan.evaluate.predictions import Answer, Predictions
from caravan.evaluate.probes import written_down
from caravan.evaluate.rows import Row, first_of_each_cell
from caravan.media.audio import decode_audio, encode_flac, log_mel_windows
from caravan.models.load import load_model, load_whole
from caravan.recipe.evaluate import CascadeConfig, EvaluateConfig, Transcriptions
from caravan.records import AudioPart, ImagePart, Message, TextPart
from caravan.samples import SHIPPED, sample_encoder

LATENCIES = "latencies.json"
SELF, TRANSCRIBE = "self", "transcribe"


def ask_cascade(
    config: EvaluateConfig, ctx: StageContext, rows: Sequence[Row], predictions: Predictions, load: Callable[[], Any]
) -> tuple[list[Row], dict[str, Any]]:
    """Ask for what is missing: what is heard in the clips, what is answered to that, how long both ways take.

    Returns:
        the rows that both ways were asked, and `latencies` of some of them.

    Raises:
        ModelError: a model cannot be loaded.
        EndpointError: a service does not answer.
    """
    given = config.cascade
    assert given is not None
    spoken, times = cascade_rows(given, rows), ctx.out / LATENCIES
    if not spoken:
        return [], {}
    if times.exists() and not predictions.missing(CASCADE, spoken):
        return spoken, read_json(times)
    fused, tokenizer = load()
    model, words = load_model(ctx.located(given.model)) if given.model else (fused, tokenizer)
    hear = recogniser(given, ctx, fused, tokenizer)
    predictions.fill(HEARD, spoken, hear, config.batch)
    heard, answer = predictions.of(HEARD), torch_answers(model, words, config.max_new_tokens)

    def from_writing(part: Sequence[Row]) -> list[str]:
        asked = [row for row in part if row.task != TRANSCRIBE]
        answered = dict(zip(asked, answer([in_writing(row, heard[row.id]) for row in asked]), strict=True))
        return [answered.get(row, heard[row.id]) for row in part]

    predictions.fill(CASCADE, spoken, from_writing, config.batch)
    if not times.exists():
        direct, first = torch_answers(fused, tokenizer, 1), torch_answers(model, words, 1)
        ways = {
            FUSED: lambda row: direct([row]),
            CASCADE: lambda row: first([in_writing(row, hear([row])[0])]),
        }
        write_json(times, latencies(spoken[:: max(1, len(spoken) // given.timed)][: given.timed], ways))
    return spoken, read_json(times)


def cascade_rows(config: CascadeConfig, rows: Sequence[Row]) -> list[Row]:
    """The rows with a clip; of those with a picture too, only where the answering model is the fused one."""
    kinds = [{type(part) for message in row.messages for part in message.content} for row in rows]
    fit = [row for row, kind in zip(rows, kinds, strict=True)
           if AudioPart in kind and (config.model is None or ImagePart not in kind)]  # fmt: skip
    return first_of_each_cell(fit, config.limit)


def in_writing(row: Row, transcript: str) -> Row:
    """A row with its clips replaced by what was heard in them."""
    messages = (
        Message(
            message.role,
            tuple(TextPart(transcript) if isinstance(part, AudioPart) else part for part in message.content),
        )
        for message in row.messages
    )
    return replace(row, messages=tuple(messages))


def recogniser(config: CascadeConfig, ctx: StageContext, fused: Any, tokenizer: Any) -> Answer:
    """Who writes the clips of rows down, by the recipe's word.

    Raises:
        ModelError: no Whisper can be loaded from there.
        EndpointError: a service does not answer.
    """
    if isinstance(config.recogniser, Transcriptions):
        return _service(config.recogniser)
    if config.recogniser == SELF:
        own = torch_answers(fused, tokenizer, config.max_new_tokens)
        return lambda rows: own([written_down(row, row.language) for row in rows])
    named = config.recogniser
    folder = str(sample_encoder(SHIPPED[named])) if named in SHIPPED else ctx.located(named)
    return _whisper(folder, config.max_new_tokens)


def _clips(row: Row) -> list[AudioPart]:
    return [part for message in row.messages for part in message.content if isinstance(part, AudioPart)]


def _whisper(folder: str, longest: int) -> Answer:
    whisper: Any = load_whole(WhisperForConditionalGeneration.from_pretrained, folder).eval()
    tokenizer = AutoTokenizer.from_pretrained(folder)
    multilingual = bool(getattr(whisper.generation_config, "lang_to_id", None))

    @torch.inference_mode()
    def one(row: Row) -> str:
        given = {"language": row.language, "task": "transcribe"} if multilingual else {}
        written = []
        for clip in _clips(row):
            wave = decode_audio(clip.audio.read(), where=row.id)
            for mel_MF in torch.from_numpy(log_mel_windows(wave, whisper.config.num_mel_bins)):
                ids = whisper.generate(mel_MF[None], max_new_tokens=longest, do_sample=False, num_beams=1, **given)
                written.append(str(tokenizer.decode(ids[0], skip_special_tokens=True)).strip())
        return clean(" ".join(written))

    return lambda rows: [one(row) for row in rows]


def _service(config: Transcriptions) -> Answer:
    key = key_of(config.key, config.url)
    headers = {"Authorization": f"Bearer {key}"} if key else {}
    endpoint = Endpoint(config.url, headers, config.seconds, config.tries)

    def one(row: Row) -> str:
        written = []
        for clip in _clips(row):
            data = encode_flac(decode_audio(clip.audio.read(), where=row.id))
            reply = endpoint.post(
                files={"file": ("clip.flac", data, "audio/flac")},
                data={"model": config.model, "language": row.language},
            )
            try:
                written.append(str(reply.json()["text"]))
            except (ValueError, KeyError, TypeError) as error:
                raise EndpointError(
                    "the recogniser gives no text", where=config.url, expected='{"text": …}', got=reply.text[:120]
                ) from error
        return clean(" ".join(written))

    return lambda rows: [one(row) for row in rows]


def latencies(rows: Sequence[Row], ways: Mapping[str, Callable[[Row], object]]) -> dict[str, dict[str, float]]:
    """Seconds from the end of each clip to the first token, one clip at a time, each way in turn.

    The first row is asked once before, uncounted. `cpu` is of this process alone: on a shared machine the fairer one.
    """
    taken: dict[str, list[tuple[float, float]]] = defaultdict(list)
    for number, row in enumerate([*rows[:1], *rows]):
        for name, way in ways.items():
            wall, cpu = time.perf_counter(), time.process_time()
            way(row)
            if number:
                taken[name].append((time.perf_counter() - wall, time.process_time() - cpu))
    return {name: _spread(seconds) for name, seconds in taken.items()}


def _spread(seconds: Sequence[tuple[float, float]]) -> dict[str, float]:
    walls, cpus = zip(*seconds, strict=True)
    worst = quantiles(walls, n=10)[-1] if len(walls) > 1 else walls[0]
    return {"median": median(walls), "p90": worst, "cpu": median(cpus), "clips": len(walls)}
