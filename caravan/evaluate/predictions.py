"""Answers on disk: each batch is appended and synced, so that a killed evaluation asks nothing twice."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from caravan.core.progress import track
from caravan.evaluate.rows import Row

Answer = Callable[[Sequence[Row]], list[str]]


class Predictions:
    """The journal `predictions.jsonl`: lines of `by` (who answered), `id` and `answer`.

    A last line that a kill has torn is cut off when the journal is opened.
    """

    def __init__(self, file: Path) -> None:
        self.file = file
        self.answers: dict[str, dict[str, str]] = {}
        whole = 0
        lines = file.read_bytes().splitlines(keepends=True) if file.exists() else []
        for line in lines:
            if not line.endswith(b"\n"):
                break
            record = json.loads(line)
            self.answers.setdefault(record["by"], {})[record["id"]] = record["answer"]
            whole += len(line)
        if lines:
            os.truncate(file, whole)

    def of(self, by: str) -> Mapping[str, str]:
        """Answers by row id."""
        return self.answers.get(by, {})

    def missing(self, by: str, rows: Sequence[Row]) -> bool:
        return any(row.id not in self.of(by) for row in rows)

    def add(self, by: str, answers: Mapping[str, str]) -> None:
        """Append answers and sync them to the disk."""
        lines = [
            json.dumps({"by": by, "id": identity, "answer": answer}, ensure_ascii=False) + "\n"
            for identity, answer in answers.items()
        ]
        with self.file.open("ab") as stream:
            stream.write("".join(lines).encode())
            stream.flush()
            os.fsync(stream.fileno())
        self.answers.setdefault(by, {}).update(answers)

    def fill(self, by: str, rows: Sequence[Row], answer: Answer, batch: int) -> None:
        """Ask for every answer that is missing.

        Batches are cut from all rows, answered or not: rounding depends on the batch, and a resumed run then gives
        what an uninterrupted one gives.
        """
        with track(f"evaluate {by}", len(rows), "answer") as bar:
            for start in range(0, len(rows), batch):
                part = rows[start : start + batch]
                if self.missing(by, part):
                    given = dict(zip((row.id for row in part), answer(part), strict=True))
                    self.add(by, {identity: text for identity, text in given.items() if identity not in self.of(by)})
                bar.advance(len(part))
