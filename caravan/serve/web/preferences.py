"""Which of two models was preferred: counted, and written to a file of the operator's if there is one."""

from __future__ import annotations

import json
import os
from collections import Counter
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from caravan.core.errors import ServeError

FILE = "preferences.jsonl"
TIE, NEITHER = "tie", "neither"


class Preferences:
    """Choices between two models.

    Args:
        names: of the models.
        folder: where FILE is added to; None for nowhere. What stands in it already is counted.
        content: whether what was asked and answered is written, too.

    Raises:
        ServeError: the folder cannot be written to, or a line of the file is none of ours.
    """

    def __init__(self, names: tuple[str, str], folder: Path | None = None, content: bool = False) -> None:
        self.names, self.content = names, content
        self.file = folder / FILE if folder else None
        self.counts: Counter[str] = Counter()
        if self.file is not None:
            self._open(self.file)

    def _open(self, file: Path) -> None:
        number = 0
        try:
            file.parent.mkdir(parents=True, exist_ok=True)
            with file.open("a+", encoding="utf-8") as stream:
                stream.seek(0)
                for line in stream:
                    number += 1
                    self._count_line(json.loads(line))
        except OSError as error:
            raise ServeError(
                "preferences cannot be written", where=str(file), expected="a folder of yours", got=error.strerror
            ) from error
        except (ValueError, KeyError, TypeError) as error:
            raise ServeError(
                "a line of the preferences cannot be read",
                where=f"{file}:{number}",
                expected='{"left": ..., "right": ..., "preferred": ...}',
                got=str(error),
                fix="mend or remove the line, or name another folder",
            ) from error

    def _count_line(self, row: dict[str, Any]) -> None:
        if {row["left"], row["right"]} == {*self.names}:
            self.counts[row["preferred"]] += 1

    def add(self, sides: Sequence[str], preferred: str, talks: Sequence[Any] = ()) -> None:
        """Count a choice, and write it down.

        Args:
            sides: the names of the models that stood left and right.
            preferred: one of the names, TIE or NEITHER.
            talks: both conversations, in JSON; written only if `content` says so.
        """
        self.counts[preferred] += 1
        if self.file is None:
            return
        row: dict[str, Any] = {"time": datetime.now(UTC).isoformat(timespec="seconds")}
        row |= {"left": sides[0], "right": sides[1], "preferred": preferred}
        if self.content:
            row["conversations"] = [*talks]
        with self.file.open("a", encoding="utf-8") as stream:
            stream.write(json.dumps(row, ensure_ascii=False) + "\n")
            stream.flush()
            os.fsync(stream.fileno())

    def table(self) -> str:
        """The tally, in Markdown. A share counts ties as half, and leaves out where neither was good."""
        first, second = (self.counts[name] for name in self.names)
        decided = first + second + self.counts[TIE]
        half = self.counts[TIE] / 2
        rows = [
            f"| {name} | {won} | {(won + half) / decided:.0%} |" if decided else f"| {name} | {won} | |"
            for name, won in zip(self.names, (first, second), strict=True)
        ]
        rest = [f"| {words} | {self.counts[key]} | |" for words, key in (("tie", TIE), ("neither", NEITHER))]
        return "\n".join(["| | preferred | share |", "|---|---|---|", *rows, *rest])
