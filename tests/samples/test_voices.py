"""Speech: WAV of the stated form, the same whatever was said before, and clear errors."""

from __future__ import annotations

import io
import wave
from dataclasses import replace

import numpy as np
import pytest

from caravan.core.errors import CaravanError, MissingDependencyError
from caravan.samples import voices
from caravan.samples.speakers import VOICES
from caravan.samples.voices import Utterance, draw_utterance, speak
from caravan.samples.world import SPLITS, SPOKEN, stream

HELLO = Utterance("What month comes after May?", "en", "m3", seed=1)


def decoded(data: bytes) -> np.ndarray:
    with wave.open(io.BytesIO(data)) as file:
        assert (file.getframerate(), file.getnchannels(), file.getsampwidth()) == (16_000, 1, 2)
        return np.frombuffer(file.readframes(file.getnframes()), "<i2") / 32768


def test_every_language_and_voice_speaks_audibly() -> None:
    utterances = [Utterance("2, 3, 4", code, "m1") for code in SPOKEN]
    utterances += [replace(HELLO, voice=voice) for split in SPLITS for voice in VOICES[split][:100]]
    said = list(speak((utterance, utterance) for utterance in utterances))
    assert [utterance for utterance, _ in said] == utterances
    for utterance, data in said:
        wave_ = decoded(data)
        assert 0.4 < len(wave_) / 16_000 < 4.0, utterance
        assert 0.06 < np.sqrt(np.mean(wave_**2)) < 0.1, utterance
    assert len({data for _, data in said}) == len(said)


def test_a_clip_does_not_depend_on_what_was_said_before_or_on_how_many_speak() -> None:
    others = [draw_utterance(stream(i), "seven", "en", "train") for i in range(6)]
    (alone,) = [data for _, data in speak([(0, HELLO)])]
    in_company = dict(speak([*enumerate(others), (99, HELLO)], processes=1))
    assert in_company[99] == alone


def test_rows_without_speech_pass_in_order_and_start_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(voices, "_Worker", None)
    assert list(speak((i, None) for i in range(100))) == [(i, b"") for i in range(100)]


def test_speech_is_levelled_and_noise_is_added() -> None:
    quiet, noisy = replace(HELLO, level=0.03), replace(HELLO, level=0.03, noise=0.01)
    (_, a), (_, b) = speak([(0, quiet), (1, noisy)])
    assert np.sqrt(np.mean(decoded(a) ** 2)) == pytest.approx(0.03, rel=0.05)
    assert np.std(decoded(b) - decoded(a)) == pytest.approx(0.01, rel=0.1)


def test_a_language_that_espeak_lacks_ends_in_one_clear_error(capfd: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(CaravanError, match="synthesiser ended"):
        list(speak([(0, replace(HELLO, language="xx"))]))
    assert "no voice xx+m3" in capfd.readouterr().err


def test_without_espeak_the_error_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(MissingDependencyError, match=r"caravan\[speech\]"):
        list(speak([(0, HELLO)]))
