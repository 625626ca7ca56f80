"""A look at a corpus: some of what was kept, or of what was dropped, by reason, language and step."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import duckdb

from caravan.core.errors import ArtifactError, UsageError
from caravan.curate.corpus import PARTS, SAMPLE, create_tables, rows_of


@dataclass(frozen=True)
class Choice:
    """Which rows: kept ones, or dropped ones for a reason; None is any."""

    reason: str | None = None
    step: str | None = None
    language: str | None = None
    kept: bool = False
    pairs: bool = False

    @property
    def table(self) -> str:
        return "pairs" if self.pairs else "documents"

    def there(self, folder: Path) -> bool:
        """Whether a folder is a corpus with such rows."""
        return any((folder / part).is_dir() for part in PARTS[self.table])

    @property
    def named(self) -> dict[str, str]:
        """Columns and the values that they must have."""
        columns = {"reason": self.reason, "step": self.step, "language": self.language}
        return {name: value for name, value in columns.items() if value is not None}


def sample(folder: Path, choice: Choice, count: int) -> list[dict[str, Any]]:
    """Some of the rows chosen, the same each time.

    Args:
        folder: a corpus, finished or not.
        count: of each reason, the most frequent first; of kept rows, of each language.

    Raises:
        ArtifactError: no corpus.
        UsageError: a reason, step or language of which there is nothing; those that exist are named.
    """
    if choice.kept and (choice.reason or choice.step):
        raise UsageError("what was kept has no reason and no step", fix="leave out --kept, or --reason and --step")
    if not choice.there(folder):
        raise ArtifactError(
            f"there are no {choice.table} to show",
            where=str(folder),
            expected=f"a corpus with a folder {' or '.join(PARTS[choice.table])}",
            got="neither",
            fix="name the folder `curate` of a run that curated such text",
        )
    with duckdb.connect() as connection:
        create_tables(connection, folder)
        _need_some(connection, folder, choice)
        where = " AND ".join([_state(choice), *(f"{name} = ${name}" for name in choice.named)])
        group = "language" if choice.kept else "step, reason"
        query = f"""
            SELECT * EXCLUDE (many) FROM (
                SELECT count(*) AS many, {SAMPLE.format(row=choice.table, count=count)} FROM {choice.table}
                WHERE {where} GROUP BY {group}
            ) ORDER BY many DESC, {group}, hash(id)
        """
        return rows_of(connection.execute(query, choice.named))


def _state(choice: Choice) -> str:
    return f"reason IS {'' if choice.kept else 'NOT '}NULL"


def _need_some(connection: duckdb.DuckDBPyConnection, folder: Path, choice: Choice) -> None:
    """See that there is something with the reason, then of that with the step, and then in the language."""
    before: dict[str, str] = {}
    for name, value in choice.named.items():
        where = " AND ".join([_state(choice), *(f"{other} = ${other}" for other in before)])
        query = f"SELECT {name}, count(*) FROM {choice.table} WHERE {where} GROUP BY ALL ORDER BY count(*) DESC, {name}"
        there = connection.execute(query, before).fetchall()
        if value not in dict(there):
            raise UsageError(
                f"nothing was {'kept' if choice.kept else 'dropped'} with {name} {value!r}",
                where=str(folder),
                expected=", ".join(f"{found} ({many:,})" for found, many in there) or "nothing there at all",
                got=value,
                fix=f"choose one of these with --{name}",
            )
        before[name] = value
