"""Clips and pictures as clients send them."""

from __future__ import annotations

import io
from collections.abc import Callable

import numpy as np
import pytest
import soundfile
from PIL import Image


@pytest.fixture(scope="session")
def wav() -> Callable[[int, int], bytes]:
    """WAV files with a tone: samples and rate."""

    def make(samples: int = 24_000, rate: int = 16_000) -> bytes:
        buffer = io.BytesIO()
        tone = 0.3 * np.sin(2 * np.pi * 330 * np.arange(samples) / rate)
        soundfile.write(buffer, tone, rate, format="WAV", subtype="PCM_16")
        return buffer.getvalue()

    return make


@pytest.fixture(scope="session")
def png() -> Callable[[int, int], bytes]:
    """PNG files, one bit a pixel: width and height."""

    def make(width: int = 80, height: int = 60) -> bytes:
        buffer = io.BytesIO()
        Image.new("1", (width, height), 1).save(buffer, "PNG")
        return buffer.getvalue()

    return make
