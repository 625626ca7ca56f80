"""Read a corpus batch by batch, with its split into text to learn from and text held out."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cached_property
from pathlib import Path
from typing import Any

import pyarrow.compute as pc
import pyarrow.parquet as pq

BATCH_ROWS = 1024


class Corpus:
    """The text of a corpus artifact, always in the same order.

    Args:
        folder: of the artifact, with `kept/<language>` and `pairs/<language>-<language>`.
        heldout: share of each language's documents that is held out: every k-th one.
    """

    def __init__(self, folder: Path, heldout: float) -> None:
        self.folder, self.heldout = folder, heldout

    @cached_property
    def languages(self) -> list[str]:
        """Languages with documents."""
        return sorted(path.name for path in (self.folder / "kept").glob("*") if path.is_dir())

    @cached_property
    def pairs(self) -> list[tuple[str, str]]:
        """Pairs of languages with parallel text."""
        names = sorted(path.name for path in (self.folder / "pairs").glob("*-*") if path.is_dir())
        return [(first, second) for first, _, second in (name.partition("-") for name in names)]

    def count(self, language: str) -> int:
        """Documents in a language."""
        return _count(self._kept(language))

    def count_pairs(self, pair: tuple[str, str]) -> int:
        """Parallel sentences in two languages."""
        return _count(self._parallel(pair))

    def documents(self, language: str) -> Iterator[tuple[list[str], list[str]]]:
        """Batches of documents: those to learn from, and those held out."""
        every = min(round(1 / self.heldout), self.count(language))
        place = 0
        for batch in _batches(self._kept(language), ["text"]):
            texts = batch["text"].to_pylist()
            held = [every > 1 and (place + index) % every == every - 1 for index in range(len(texts))]
            place += len(texts)
            yield (
                [text for text, out in zip(texts, held, strict=True) if not out],
                [text for text, out in zip(texts, held, strict=True) if out],
            )

    def parallel(self, pair: tuple[str, str]) -> Iterator[list[tuple[str, str]]]:
        """Batches of parallel sentences."""
        for batch in _batches(self._parallel(pair), ["source_text", "target_text"]):
            yield list(zip(batch["source_text"].to_pylist(), batch["target_text"].to_pylist(), strict=True))

    def learnt(self, language: str) -> Iterator[list[str]]:
        """Batches of all text of a language that the vocabulary may be learnt from: documents and sides of pairs."""
        for texts, _ in self.documents(language):
            yield texts
        for column, pair in self._sides(language):
            for batch in _batches(self._parallel(pair), [column]):
                yield batch[column].to_pylist()

    def bytes(self, language: str) -> int:
        """Bytes of UTF-8 in a language, documents and sides of pairs."""
        columns = [("text", self._kept(language))]
        columns += [(column, self._parallel(pair)) for column, pair in self._sides(language)]
        return sum(
            pc.sum(pc.binary_length(batch[column])).as_py() or 0
            for column, files in columns
            for batch in _batches(files, [column])
        )

    def _sides(self, language: str) -> Iterator[tuple[str, tuple[str, str]]]:
        for pair in self.pairs:
            for column, name in zip(("source_text", "target_text"), pair, strict=True):
                if name == language:
                    yield column, pair

    def _kept(self, language: str) -> list[Path]:
        return sorted((self.folder / "kept" / language).glob("*.parquet"))

    def _parallel(self, pair: tuple[str, str]) -> list[Path]:
        return sorted((self.folder / "pairs" / "-".join(pair)).glob("*.parquet"))


def _count(files: list[Path]) -> int:
    return sum(pq.read_metadata(file).num_rows for file in files)


def _batches(files: list[Path], columns: list[str]) -> Iterator[Any]:
    for path in files:
        with pq.ParquetFile(path) as file:
            yield from file.iter_batches(BATCH_ROWS, columns=columns)
