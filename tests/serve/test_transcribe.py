from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from caravan.media.audio import SAMPLE_RATE, AudioLimits, encode_wav
from caravan.serve.transcribe import LEAST_SECONDS, MOST_SECONDS, Segment, cut, cuts, subtitles


def noise(seconds: float) -> np.ndarray:
    return np.random.default_rng(7).normal(0, 0.1, int(seconds * SAMPLE_RATE)).astype(np.float32)


@settings(derandomize=True, deadline=None, max_examples=20)
@given(st.floats(0.1, 100))
def test_pieces_are_the_clip_and_none_is_too_long(seconds: float) -> None:
    wave = noise(seconds)
    pieces = cuts(wave)
    assert [start for start, _ in pieces] == [0, *(end for _, end in pieces[:-1])]
    assert pieces[-1][1] == len(wave)
    assert all(end - start <= MOST_SECONDS * SAMPLE_RATE for start, end in pieces)
    assert all(end - start >= LEAST_SECONDS * SAMPLE_RATE for start, end in pieces[:-1])


def test_cuts_stand_in_pauses() -> None:
    wave = noise(60)
    for pause in (20.0, 41.5):
        wave[int(pause * SAMPLE_RATE) : int((pause + 0.3) * SAMPLE_RATE)] *= 0.01
    ends = [end / SAMPLE_RATE for _, end in cuts(wave)]
    assert ends == [pytest.approx(20.15, abs=0.15), pytest.approx(41.65, abs=0.15), 60.0]


def test_a_short_file_is_left_as_it_is() -> None:
    data = encode_wav(noise(2))
    (clip,) = cut(data, AudioLimits())
    assert clip.data is data
    assert [round(one.end - one.start) for one in cut(encode_wav(noise(40)), AudioLimits())] != [40]


def test_subtitles() -> None:
    segments = [Segment(0, 1.5, "eins"), Segment(3599.9996, 3661.25, "zwei")]
    assert subtitles(segments, "srt") == (
        "1\n00:00:00,000 --> 00:00:01,500\neins\n\n2\n01:00:00,000 --> 01:01:01,250\nzwei\n"
    )
    assert subtitles(segments, "vtt").startswith("WEBVTT\n\n00:00:00.000 --> 00:00:01.500\neins\n")
