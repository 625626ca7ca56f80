from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest

from caravan.core.errors import EndpointError, MediaError
from caravan.instruct.synthesis import Request, Synthesiser, drawn, finished, open_synthesiser, shifted, ssml
from caravan.media.audio import decode_audio
from caravan.recipe.speak import SpeakConfig


def config(**keys: Any) -> SpeakConfig:
    return SpeakConfig.model_validate(keys)


def spoken(synthesiser: Synthesiser, requests: list[Request]) -> list[Any]:
    """The clips in the order of the requests."""
    return [clip for _, clip in sorted(synthesiser.clips(requests), key=lambda pair: pair[0])]


def pitch_of(clip: bytes) -> float:
    wave = decode_audio(clip)
    return float(np.argmax(np.abs(np.fft.rfft(wave)))) / wave.size * 16_000


def test_espeak_speaks_the_same_each_time_and_each_voice_otherwise() -> None:
    synthesiser = open_synthesiser(config(voices={"espeak": 80}))
    voices = synthesiser.voices("en", "train")
    assert len(set(voices)) == 80
    assert not set(voices) & set(synthesiser.voices("en", "test"))
    fast = Request("good morning to all", "en", voices[0], speed=1.5)
    asked = [Request("good morning to all", "en", voices[0]), Request("早上好", "zh", voices[1]), fast]
    first = spoken(synthesiser, asked)
    assert first == spoken(synthesiser, asked)
    waves = [decode_audio(clip) for clip in first if isinstance(clip, bytes)]
    assert len(waves) == 3
    assert waves[2].size < 0.8 * waves[0].size


def test_one_text_that_espeak_cannot_say_does_not_end_the_others() -> None:
    synthesiser = open_synthesiser(config())
    voice = synthesiser.voices("en", "train")[0]
    clips = spoken(synthesiser, [Request("good", language, voice) for language in ("en", "nowhere", "de")])
    assert [isinstance(clip, bytes) for clip in clips] == [True, False, True]


def test_openai_gets_text_voice_and_speed_and_pitch_is_made_here(world: Any, service: Any) -> None:
    voices = {"url": service.url("/v1/audio/speech"), "model": "tts", "voices": ["a", "b"]}
    synthesiser = open_synthesiser(config(voices=voices))
    assert list(synthesiser.voices("th", "train")) == ["a", "b"]
    asked = [Request("x" * 40, "en", "a", speed=1.2), Request("x" * 40, "en", "b", speed=1.2, pitch=12.0)]
    plain, higher = spoken(synthesiser, asked)
    bodies = sorted((json.loads(body) for _, body in service.asked), key=lambda body: body["voice"])
    assert bodies[0] == {"model": "tts", "voice": "a", "input": "x" * 40, "response_format": "wav", "speed": 1.2}
    assert bodies[1]["speed"] == 0.6, "an octave higher plays twice as fast"
    assert isinstance(plain, bytes)
    assert isinstance(higher, bytes)
    assert pitch_of(higher) == pytest.approx(2 * pitch_of(plain), rel=0.01)


def test_azure_gets_ssml_with_its_key(service: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    voices = {"azure": service.url("/cognitiveservices/v1"), "voices": {"de": ["de-DE-KatjaNeural"]}}
    monkeypatch.delenv("AZURE_SPEECH_KEY", raising=False)
    with pytest.raises(EndpointError, match="AZURE_SPEECH_KEY"):
        open_synthesiser(config(voices=voices))
    monkeypatch.setenv("AZURE_SPEECH_KEY", "secret")
    synthesiser = open_synthesiser(config(voices=voices))
    assert list(synthesiser.voices("en", "train")) == []
    request = Request("Tom & Anna < 3", "de", "de-DE-KatjaNeural", speed=0.9, pitch=-1.5)
    (clip,) = spoken(synthesiser, [request])
    assert isinstance(clip, bytes)
    assert service.asked[0][1].decode() == ssml(request)
    assert 'xml:lang="de-DE"' in ssml(request)
    assert '<prosody rate="-10%" pitch="-1.5st">Tom &amp; Anna &lt; 3</prosody>' in ssml(request)


def test_finished_clips_are_levelled_and_noisy_as_asked(world: Any) -> None:
    clean = decode_audio(finished(world.wav(0.2), Request("x", "en", "v")))
    noisy = decode_audio(finished(world.wav(0.2), Request("x", "en", "v", noise=20.0, seed=1)))
    measured = 10 * np.log10(np.mean(clean**2) / np.mean((noisy - clean) ** 2))
    assert measured == pytest.approx(20, abs=1)
    with pytest.raises(MediaError, match="silent"):
        finished(shifted(world.wav(0.0), 1.0), Request("x", "en", "v"))


def test_how_a_text_is_said_depends_on_its_seed_alone_and_stays_in_range() -> None:
    wide = config(speed=[0.5, 2.0], pitch=[-4, 4], noise=0.5, noise_decibels=[10, 20])
    requests = [drawn("x", "en", ["a", "b", "c"], wide, seed) for seed in range(200)]
    assert requests == [drawn("x", "en", ["a", "b", "c"], wide, seed) for seed in range(200)]
    assert {request.voice for request in requests} == {"a", "b", "c"}
    assert all(0.5 <= request.speed <= 2 and -4 <= request.pitch <= 4 for request in requests)
    noisy = [request.noise for request in requests if request.noise is not None]
    assert 60 < len(noisy) < 140
    assert all(10 <= noise <= 20 for noise in noisy)
    with pytest.raises(ValueError, match="lower end"):
        config(speed=[2.0, 0.5])
