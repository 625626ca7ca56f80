"""Sounds without speech, at the level of speech: what a recogniser must not find words in."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np

from caravan.media.audio import SAMPLE_RATE, SPEECH_LEVEL, Wave

_SEMITONES = (0, 3, 5, 7, 10, 12)  # a pentatonic scale: any two of its notes go together
_NOTE_SECONDS, _LOWEST = 0.25, 220.0


def silence(samples: int, rng: np.random.Generator) -> Wave:
    """Nothing: float32 [samples]."""
    return np.zeros(samples, dtype=np.float32)


def noise(samples: int, rng: np.random.Generator) -> Wave:
    """Pink noise, of equal power in every octave: float32 [samples] at an RMS of SPEECH_LEVEL."""
    spectrum = np.fft.rfft(rng.normal(size=samples))
    spectrum /= np.sqrt(np.maximum(np.arange(spectrum.size), 1))
    return _levelled(np.fft.irfft(spectrum, samples))


def music(samples: int, rng: np.random.Generator) -> Wave:
    """Plucked notes of a pentatonic scale, two at a time, four a second: float32 [samples], RMS SPEECH_LEVEL."""
    wave = np.zeros(samples)
    step = int(_NOTE_SECONDS * SAMPLE_RATE)
    for start in range(0, samples, step):
        seconds = np.arange(samples - start)[: 4 * step] / SAMPLE_RATE
        for semitones in rng.choice(_SEMITONES, size=2, replace=False):
            hertz = _LOWEST * 2 ** (semitones / 12)
            tones = sum(np.sin(2 * np.pi * hertz * k * seconds) / k**2 for k in range(1, 6))
            wave[start : start + seconds.size] += tones * np.exp(-3 * seconds) * np.minimum(1, seconds / 0.005)
    return _levelled(wave)


SOUNDS: Mapping[str, Callable[[int, np.random.Generator], Wave]] = {"silence": silence, "noise": noise, "music": music}


def _levelled(wave: np.ndarray) -> Wave:
    level = max(float(np.sqrt(np.mean(wave**2))), 1e-9)
    return np.clip(wave * (SPEECH_LEVEL / level), -1, 1).astype(np.float32)
