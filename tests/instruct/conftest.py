from __future__ import annotations

import io
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from caravan.core.stage import StageContext
from caravan.media.audio import encode_wav
from caravan.records import Dialogue, dialogue_from_row


def png(shade: int) -> bytes:
    buffer = io.BytesIO()
    Image.new("RGBA", (8, 8), (shade, 0, 0, 128)).save(buffer, "PNG")
    return buffer.getvalue()


def wav(pitch: float) -> bytes:
    return encode_wav(0.3 * np.sin(np.arange(1600, dtype=np.float32) * pitch))


@pytest.fixture
def context(tmp_path: Path) -> Callable[..., StageContext]:
    data = tmp_path / "data"
    data.mkdir()

    def make(out: str = "out", languages: tuple[str, ...] = ("en", "de", "zh"), seed: int = 3) -> StageContext:
        folder = tmp_path / out
        folder.mkdir(exist_ok=True)
        return StageContext(out=folder, inputs={}, base=data, seed=seed, languages=languages, name="instruct")

    return make


def write(file: Path, rows: list[dict[str, Any]]) -> None:
    pq.write_table(pa.Table.from_pylist(rows), file)


def write_pictures(folder: Path, keys: int = 6, styles: tuple[str, ...] = ("flat", "round", "ink")) -> None:
    """Pictures of every key in every style, and names in three languages (the first key lacks the German one)."""
    for s, style in enumerate(styles):
        rows = [{"key": f"k{i}", "style": style, "png": png(10 * i + s)} for i in range(keys)]
        write(folder / f"pictures_{style}.parquet", rows)
    names = [
        {"key": f"k{i}", "kind": "odd" if i % 2 else "even", "name_en": f"thing {i}", "name_zh": f"东西{i}"}
        | {"name_de": f"Ding {i}" if i else None}
        for i in range(keys)
    ]
    write(folder / "names.parquet", names)


def write_clips(folder: Path, broken: bool = False) -> None:
    rows = [
        {"audio": wav(0.1 + 0.01 * i), "text": f"word {i % 5}", "lang": "en", "speaker": f"s{i % 4}"} for i in range(24)
    ]
    if broken:
        rows[3]["audio"] = b"RIFF but no sound"
        rows[5]["text"] = "  "
        rows[7]["audio"] = b""
    write(folder / "clips.parquet", rows)


def dialogues(out: Path, split: str) -> list[Dialogue]:
    return list(_read(out, split))


def _read(out: Path, split: str) -> Iterator[Dialogue]:
    for file in sorted((out / split).glob("*.parquet")):
        yield from map(dialogue_from_row, pq.read_table(file).to_pylist())
