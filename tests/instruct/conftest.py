from __future__ import annotations

import gzip
import io
import json
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


class World:
    """A small data folder, and stages that read it."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.data = folder, folder / "data"
        self.data.mkdir()

    def context(self, out: str = "out", languages: tuple[str, ...] = ("en", "de", "zh"), seed: int = 3) -> StageContext:
        (self.folder / out).mkdir(exist_ok=True)
        return StageContext(self.folder / out, {}, self.data, seed, languages, "instruct")

    def png(self, shade: int) -> bytes:
        buffer = io.BytesIO()
        Image.new("RGBA", (8, 8), (shade, 0, 0, 128)).save(buffer, "PNG")
        return buffer.getvalue()

    def wav(self, pitch: float) -> bytes:
        return encode_wav((0.3 * np.sin(np.arange(1600) * pitch)).astype(np.float32))

    def parquet(self, name: str, rows: list[dict[str, Any]]) -> Path:
        pq.write_table(pa.Table.from_pylist(rows), self.data / name)
        return self.data / name

    def lines(self, name: str, rows: list[Any]) -> Path:
        """JSON lines; a row of bytes is written as it is."""
        raw = b"".join((row if isinstance(row, bytes) else json.dumps(row).encode()) + b"\n" for row in rows)
        (self.data / name).write_bytes(gzip.compress(raw) if name.endswith(".gz") else raw)
        return self.data / name

    def pictures(self, keys: int = 6, styles: tuple[str, ...] = ("flat", "round", "ink")) -> None:
        """Pictures of every key in every style, and names in three languages; the first key lacks the German one."""
        for s, style in enumerate(styles):
            rows = [{"key": f"k{i}", "style": style, "png": self.png(10 * i + s)} for i in range(keys)]
            self.parquet(f"pictures_{style}.parquet", rows)
        kinds = ("even", "odd")
        names = [
            {"key": f"k{i}", "kind": kinds[i % 2], "name_en": f"thing {i}", "name_zh": f"东西{i}"}
            | {"name_de": f"Ding {i}" if i else None}
            for i in range(keys)
        ]
        self.parquet("names.parquet", names)

    def clips(self, count: int = 24) -> list[dict[str, Any]]:
        """Rows of clips by four speakers of five words."""
        return [
            {"audio": self.wav(0.1 + 0.01 * i), "text": f"word {i % 5}", "lang": "en", "speaker": f"s{i % 4}"}
            for i in range(count)
        ]

    def dialogues(self, out: str, split: str) -> list[Dialogue]:
        files = sorted((self.folder / out / split).glob("*.parquet"))
        return [dialogue_from_row(row) for file in files for row in pq.read_table(file).to_pylist()]


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path)
