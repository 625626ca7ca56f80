"""Clips and pictures as clients send them."""

from __future__ import annotations

import base64
import io
from collections.abc import Callable, Iterator
from typing import Any

import httpx
import numpy as np
import openai
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


@pytest.fixture(scope="session")
def clip(wav: Callable[[], bytes]) -> Any:
    """A clip as a part of a message."""
    data = base64.b64encode(wav()).decode()
    return {"type": "input_audio", "input_audio": {"data": data, "format": "wav"}}


@pytest.fixture(scope="session")
def picture(png: Callable[[], bytes]) -> Any:
    """A picture as a part of a message."""
    url = f"data:image/png;base64,{base64.b64encode(png()).decode()}"
    return {"type": "image_url", "image_url": {"url": url}}


@pytest.fixture(scope="session")
def http(server: Any) -> Iterator[httpx.Client]:
    """A client of the tiny assistant's server."""
    with httpx.Client(base_url=server.url, timeout=240, trust_env=False) as client:
        yield client


@pytest.fixture(scope="session")
def client(server: Any) -> Iterator[openai.OpenAI]:
    """OpenAI's own client of the same."""
    http = httpx.Client(trust_env=False)
    with openai.OpenAI(base_url=f"{server.url}/v1", api_key="none", max_retries=0, http_client=http) as client:
        yield client
