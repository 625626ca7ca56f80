"""Speech from text: espeak-ng on this machine, any OpenAI-compatible `/audio/speech`, or Azure's.

Each clip is a pure function of its request as far as the service is one.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Protocol
from xml.sax.saxutils import escape, quoteattr

import numpy as np

from caravan.core.endpoint import Endpoint, as_they_come, key_of
from caravan.core.errors import CaravanError, MediaError
from caravan.media.audio import SAMPLE_RATE, SPEECH_LEVEL, Wave, decode_audio, encode_flac
from caravan.recipe.speak import AzureVoices, EspeakVoices, OpenAIVoices, SpeakConfig
from caravan.samples.speakers import VOICES
from caravan.samples.voices import Utterance, require_speech, speak

AZURE_FORMAT = "riff-24khz-16bit-mono-pcm"
AZURE_LOCALES: Mapping[str, str] = {
    "zh": "zh-CN", "en": "en-US", "ru": "ru-RU", "es": "es-ES", "fr": "fr-FR", "pt": "pt-BR", "de": "de-DE",
    "it": "it-IT", "nl": "nl-NL", "pl": "pl-PL", "ar": "ar-EG", "tr": "tr-TR", "he": "he-IL", "ja": "ja-JP",
    "ko": "ko-KR", "th": "th-TH", "vi": "vi-VN", "id": "id-ID",
}  # fmt: skip
ESPEAK_RATE, ESPEAK_PITCH, PITCH_STEPS = 165, 50, 5
OPENAI_SPEEDS = (0.25, 4.0)
Clip = tuple[int, bytes | MediaError]


@dataclass(frozen=True, slots=True)
class Request:
    """A text, and how it is to be said.

    Attributes:
        speed: times the usual one. pitch: semitones up or down.
        noise: decibels below the speech, None for none. seed: of the noise.
    """

    text: str
    language: str
    voice: str
    speed: float = 1.0
    pitch: float = 0.0
    noise: float | None = None
    seed: int = 0


class Synthesiser(Protocol):
    """What speaks.

    Attributes:
        name: of the service and its model, part of what a clip is kept by.
    """

    name: str

    def voices(self, language: str, split: str) -> Sequence[str]:
        """Its voices in a language for `train` or `test`; none if it does not speak it."""

    def clips(self, requests: Sequence[Request]) -> Iterator[Clip]:
        """A clip for each request, without its noise, or what is wrong with it; with its place, as they come."""


def drawn(text: str, language: str, voices: Sequence[str], config: SpeakConfig, seed: int) -> Request:
    """How a text is said: drawn from the recipe's ranges by a seed."""
    rng = random.Random(seed)
    noise = rng.uniform(*config.noise_decibels) if rng.random() < config.noise else None
    speed, pitch = round(rng.uniform(*config.speed), 2), round(rng.uniform(*config.pitch), 1)
    return Request(text, language, voices[rng.randrange(len(voices))], speed, pitch, noise, seed)


def finished(clip: bytes, request: Request) -> bytes:
    """A synthesised clip as FLAC, 16 kHz, mono, its speech at one level, in white noise if the request has some.

    Raises:
        MediaError: the clip cannot be decoded, or holds nothing but silence.
    """
    wave = decode_audio(clip)
    if not wave.size or float(np.abs(wave).max()) < 1e-3:
        raise MediaError("the clip is silent", expected="speech", got=f"{wave.size / SAMPLE_RATE:.2f} s of silence")
    if request.noise is not None:
        noise = np.random.default_rng(request.seed).normal(0.0, 1.0, wave.size).astype(np.float32)
        wave = np.clip(wave + noise * np.float32(SPEECH_LEVEL * 10 ** (-request.noise / 20)), -1.0, 1.0)
    return encode_flac(wave)


class Espeak:
    """espeak-ng in processes of its own."""

    name = "espeak-ng"

    def __init__(self, config: EspeakVoices) -> None:
        # The list begins with voices that were made by hand; drawn ones follow. Those of the test stay held out.
        self._voices = {"train": VOICES["train"][: config.espeak], "test": VOICES["test"]}

    def voices(self, language: str, split: str) -> Sequence[str]:
        return self._voices[split]

    def clips(self, requests: Sequence[Request]) -> Iterator[Clip]:
        said = [
            Utterance(
                request.text,
                request.language,
                request.voice,
                rate=round(ESPEAK_RATE * request.speed),
                pitch=min(99, max(0, round(ESPEAK_PITCH + PITCH_STEPS * request.pitch))),
                seed=request.seed,
            )
            for request in requests
        ]
        require_speech()
        done = 0
        try:
            for place, clip in speak(enumerate(said)):
                yield place, clip
                done += 1
        except CaravanError:
            # One text that it cannot say ends the process; each of the rest gets its own.
            yield from ((place, _alone(said[place])) for place in range(done, len(said)))


def _alone(utterance: Utterance) -> bytes | MediaError:
    try:
        return next(clip for _, clip in speak([(None, utterance)]))
    except CaravanError as error:
        return MediaError("espeak-ng cannot say it", got=f"{error.problem}: {utterance.text}"[:120])


class _Service:
    """Voices behind an address; several requests at a time."""

    def __init__(self, name: str, voices: Mapping[str, Sequence[str]], at_once: int, ask: Callable[[Request], bytes]):
        self.name, self._voices, self._ask = name, voices, ask
        self._pool = ThreadPoolExecutor(at_once)

    def voices(self, language: str, split: str) -> Sequence[str]:
        return self._voices.get(language, ())

    def clips(self, requests: Sequence[Request]) -> Iterator[Clip]:
        return as_they_come(self._pool, self._clip, requests)

    def _clip(self, request: Request) -> bytes | MediaError:
        try:
            return self._ask(request)
        except MediaError as error:
            return error


def openai_voices(config: OpenAIVoices) -> Synthesiser:
    """OpenAI's `/audio/speech`, which has no pitch: a clip is asked for that much slower, and resampled."""
    key = key_of(config.key, config.url)
    headers = {"Authorization": f"Bearer {key}"} if key else {}
    endpoint = Endpoint(config.url, headers, config.seconds, config.tries)

    def ask(request: Request) -> bytes:
        higher = 2.0 ** (request.pitch / 12)
        speed = min(max(request.speed / higher, OPENAI_SPEEDS[0]), OPENAI_SPEEDS[1])
        said = {"model": config.model, "voice": request.voice, "input": request.text, "response_format": "wav"}
        return shifted(endpoint.post(json=said | {"speed": round(speed, 3)}).content, higher)

    known = config.voices
    voices = known if isinstance(known, dict) else dict.fromkeys(AZURE_LOCALES, known)
    return _Service(f"{config.url} {config.model}", voices, config.at_once, ask)


def azure_voices(config: AzureVoices) -> Synthesiser:
    """Azure AI Speech, asked in SSML, with speed and pitch of its own."""
    key = key_of(config.key, config.azure)
    address = f"https://{config.azure}.tts.speech.microsoft.com/cognitiveservices/v1"
    url = config.azure if "://" in config.azure else address
    headers = {
        "Content-Type": "application/ssml+xml",
        "X-Microsoft-OutputFormat": AZURE_FORMAT,
        "Ocp-Apim-Subscription-Key": key,
        "User-Agent": "caravan",
    }
    endpoint = Endpoint(url, headers, config.seconds, config.tries)

    def ask(request: Request) -> bytes:
        return endpoint.post(content=ssml(request).encode()).content

    return _Service(f"azure {config.azure}", config.voices, config.at_once, ask)


def ssml(request: Request) -> str:
    """A request as Azure wants it."""
    speed, pitch = f"{100 * (request.speed - 1):+.0f}%", f"{request.pitch:+.1f}st"
    return (
        f'<speak version="1.0" xmlns="http://www.w3.org/2001/10/synthesis" '
        f"xml:lang={quoteattr(AZURE_LOCALES[request.language])}><voice name={quoteattr(request.voice)}>"
        f'<prosody rate="{speed}" pitch="{pitch}">{escape(request.text)}</prosody></voice></speak>'
    )


def shifted(clip: bytes, higher: float) -> bytes:
    """A clip at so many times its pitch, and its speed.

    Raises:
        MediaError: it cannot be decoded.
    """
    if abs(higher - 1) < 1e-3:
        return clip
    import soxr

    wave: Wave = soxr.resample(decode_audio(clip), SAMPLE_RATE * higher, SAMPLE_RATE)
    return encode_flac(wave)


def open_synthesiser(config: SpeakConfig) -> Synthesiser:
    """What the recipe names.

    Raises:
        EndpointError: the environment has no key.
    """
    match config.voices:
        case EspeakVoices() as voices:
            return Espeak(voices)
        case OpenAIVoices() as voices:
            return openai_voices(voices)
        case AzureVoices() as voices:
            return azure_voices(voices)
