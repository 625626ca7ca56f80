"""The rows of the test that are asked, and what each expects."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pyarrow.parquet as pq

from caravan.core.errors import DataError
from caravan.core.files import sha256_obj
from caravan.records import Dialogue, Message, dialogue_from_row

Cell = tuple[str, str, str]


@dataclass(frozen=True, slots=True)
class Row:
    """A held-out dialogue up to its last answer, and that answer."""

    id: str
    language: str
    task: str
    group: str
    source: str
    messages: tuple[Message, ...]
    reference: str

    @classmethod
    def of(cls, dialogue: Dialogue) -> Row:
        """Raises DataError if the dialogue does not end with an answer."""
        if len(dialogue.messages) < 2 or dialogue.messages[-1].role != "assistant":
            raise DataError(
                "a test dialogue without a last answer",
                where=f"dialogue {dialogue.id}",
                expected="a question, then an assistant message at the end",
                got=", ".join(message.role for message in dialogue.messages),
            )
        return cls(
            dialogue.id,
            dialogue.language,
            dialogue.task,
            dialogue.group,
            dialogue.source,
            dialogue.messages[:-1],
            dialogue.messages[-1].text,
        )

    @property
    def cell(self) -> Cell:
        return self.task, self.language, self.group


def choose(cells: Sequence[tuple[str, Cell]], limit: int, seed: int) -> set[str]:
    """Ids of `limit` rows of each cell, spread over it by a hash of seed and id."""
    by_cell: dict[Cell, list[str]] = defaultdict(list)
    for identity, cell in cells:
        by_cell[cell].append(identity)
    return {
        identity
        for found in by_cell.values()
        for identity in sorted(found, key=lambda identity: sha256_obj([seed, identity]))[:limit]
    }


def first_of_each_cell(rows: Sequence[Row], limit: int) -> list[Row]:
    """The first `limit` rows of each cell, in order."""
    seen: dict[Cell, int] = defaultdict(int)
    kept = []
    for row in rows:
        seen[row.cell] += 1
        if seen[row.cell] <= limit:
            kept.append(row)
    return kept


def heldout_rows(dialogues: Path, *, limit: int, seed: int, tasks: Sequence[str] | None = None) -> list[Row]:
    """Rows to ask, sorted by task, language and id; only row groups that hold one of them are read whole.

    Args:
        dialogues: folder of a `dialogues` artifact.
        limit: rows for each task, language and held-out group.
        tasks: tasks to keep; None for all.

    Raises:
        DataError: the test split has no such row, or one that cannot be used.
    """
    files = sorted((dialogues / "test").glob("*.parquet"))
    cells = []
    for file in files:
        records = pq.read_table(file, columns=["id", "task", "language", "group"]).to_pylist()
        cells += [
            (record["id"], (record["task"], record["language"], record["group"] or ""))
            for record in records
            if tasks is None or record["task"] in tasks
        ]
    wanted = choose(cells, limit, seed)
    if not wanted:
        raise DataError(
            "nothing to evaluate",
            where=str(dialogues / "test"),
            expected="test rows" + (f" of the tasks {', '.join(tasks)}" if tasks else ""),
            got=f"{len(files)} files without such rows",
            fix="hold something out in the sources of `instruct`",
        )
    rows = [Row.of(dialogue) for file in files for dialogue in _read(file, wanted)]
    return sorted(rows, key=lambda row: (row.task, row.language, row.id))


def _read(file: Path, wanted: set[str]) -> list[Dialogue]:
    parquet = pq.ParquetFile(file)
    found = []
    for group in range(parquet.num_row_groups):
        ids = parquet.read_row_group(group, columns=["id"])["id"].to_pylist()
        places = [place for place, identity in enumerate(ids) if identity in wanted]
        if places:
            found += parquet.read_row_group(group).take(places).to_pylist()
    return [dialogue_from_row(row) for row in found]
