"""What readers give: rows, rows that are broken, and files that are."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import NamedTuple

LISTED = 1000


class Broken(NamedTuple):
    """A row that was set aside, or, without a row, a whole file."""

    file: str
    row: int | None
    problem: str


class Row(NamedTuple):
    """A document as a file has it; `row` counts from 1."""

    row: int
    text: str
    id: str | None = None
    language: str | None = None
    source: str | None = None


class BrokenFileError(Exception):
    """A file, or the rest of it, cannot be read."""


@dataclass
class Damage:
    """Broken rows of a shard: all are counted, the first LISTED are listed."""

    name: str
    rows: int = 0
    listed: list[Broken] = field(default_factory=list)

    def add(self, row: int, problem: str) -> None:
        self.rows += 1
        if len(self.listed) < LISTED:
            self.listed.append(Broken(self.name, row, problem))
