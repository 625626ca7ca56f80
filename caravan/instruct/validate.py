"""A whole data set looked at before anything is made of it: every fault of every row, with file, row and field."""

from __future__ import annotations

import contextlib
import itertools
import sqlite3
from collections import Counter
from dataclasses import dataclass, field
from hashlib import blake2b
from pathlib import Path
from typing import Any

from caravan.core.errors import CaravanError
from caravan.core.progress import track
from caravan.core.stage import StageContext
from caravan.instruct import formats
from caravan.instruct.containers import Rows, built
from caravan.instruct.rows import Item, Row, faults_of
from caravan.recipe.instruct import DataSource


@dataclass
class Findings:
    """What a data set is and what is wrong with it.

    Attributes:
        faults: the first of them; `problems`: how many there are of each kind.
        rows: rows read; `broken`: those of them that cannot be used; `passed`: in other languages, or too long.
        dialogues: by task and language. files: by format.
    """

    faults: list[CaravanError] = field(default_factory=list)
    problems: Counter[str] = field(default_factory=Counter)
    rows: int = 0
    broken: int = 0
    passed: int = 0
    dialogues: Counter[tuple[str, str]] = field(default_factory=Counter)
    files: Counter[str] = field(default_factory=Counter)

    def note(self, fault: CaravanError, limit: int) -> None:
        self.problems[fault.problem] += 1
        # One kind of fault that every row has must not hide the others.
        if len(self.faults) < limit and self.problems[fault.problem] <= max(3, limit // 4):
            self.faults.append(fault)


def examine(source: DataSource, ctx: StageContext, *, limit: int, rows: int | None = None) -> Findings:
    """Read a source, or its first rows, as the stage would, but of the media only the headers.

    A file that cannot be read does not keep the others from being looked at.
    """
    found = Findings()
    looked = source.model_copy(update={"decode": False, "limit": None})
    media = ctx.full(source.media) if source.media else ""
    # A file of SQLite's own that goes with the connection: millions of ids need no memory.
    with contextlib.closing(sqlite3.connect("", isolation_level=None)) as ids, track("validate", None, "row") as bar:
        build = _Examiner(looked, ctx, ids)
        try:
            for path, kind in formats.located(looked, ctx):
                found.files[kind] += 1
                left = None if rows is None else max(rows - found.rows, 0)
                _examine_file(path, kind, media, build, found, limit, left, bar)
        except CaravanError as error:
            found.note(error, limit)
        found.passed = build.passed
    return found


def _examine_file(
    path: Path, kind: str, media: str, build: _Examiner, found: Findings, limit: int, left: int | None, bar: Any
) -> None:
    def counted() -> Rows:
        for row in itertools.islice(formats.rows(path, kind, media), left):
            found.rows += 1
            bar.advance()
            yield row

    try:
        for item in built(counted(), build):
            if isinstance(item, Item):
                found.dialogues[item.dialogue.task, item.dialogue.language] += 1
                continue
            found.broken += 1
            for fault in faults_of(item):
                found.note(fault, limit)
    except CaravanError as error:
        found.note(error, limit)


class _Examiner(formats.Builder):
    """Builds dialogues, and sees whether an id of the data stands twice."""

    def __init__(self, source: DataSource, ctx: StageContext, seen: sqlite3.Connection) -> None:
        super().__init__(source, ctx, "validate")
        self.seen, self.passed = seen, 0
        self.seen.execute("PRAGMA journal_mode = OFF")
        self.seen.execute("CREATE TABLE ids (mark BLOB PRIMARY KEY, place TEXT) WITHOUT ROWID")

    def __call__(self, row: Row) -> list[Item]:
        items = super().__call__(row)
        self.passed += not items and not row.faults
        identity = row.values.get("id")
        if isinstance(identity, str | int) and identity != "":
            mark = blake2b(str(identity).encode("utf-8", "replace"), digest_size=12).digest()
            new = self.seen.execute("INSERT OR IGNORE INTO ids VALUES (?, ?)", (mark, row.where())).rowcount
            if not new:
                (first,) = self.seen.execute("SELECT place FROM ids WHERE mark = ?", (mark,)).fetchone()
                row.fault(
                    "duplicate id",
                    "id",
                    expected="an id of its own for each row",
                    got=f"{identity}, as in {first}",
                    fix="rename it, or take one of them out; a run tells rows apart by file and number",
                )
        return items
