"""A corpus as two tables: all documents and all parallel pairs that were judged, with a reason where they were dropped.

`kept` and `rejected`, `pairs` and `rejected_pairs` are views of them on disk.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import duckdb

PARTS = {"documents": ("kept", "rejected"), "pairs": ("pairs", "rejected_pairs")}
# What each table has, also where nothing was read.
NEEDED = {"bytes": "BIGINT", "value": "DOUBLE", "perplexity": "FLOAT", "quality": "FLOAT"} | dict.fromkeys(
    ("id", "language", "text", "source", "step", "reason", "duplicate_of", "repairs", "masked", "bucket"), "VARCHAR"
)
BETWEEN = "\t"  # the sides of a pair, shown as one text
# Of any rows those whose ids have the least hashes: the same each time, but in any order.
SAMPLE = "unnest(arg_min({row}, hash(id), {count}), recursive := true)"


def create_tables(connection: duckdb.DuckDBPyConnection, folder: Path) -> None:
    """Views `documents` and `pairs` of a corpus, finished or not; a pair's language is both, joined by a hyphen."""
    for table, parts in PARTS.items():
        files = [str(file) for part in parts for file in sorted((folder / part).rglob("*.parquet"))]
        connection.execute(f"CREATE VIEW {table} AS {_query(connection, files)}")


def _query(connection: duckdb.DuckDBPyConnection, files: list[str]) -> str:
    if not files:
        return f"SELECT {', '.join(f'NULL::{kind} AS {name}' for name, kind in NEEDED.items())} WHERE false"
    names = ", ".join("'" + file.replace("'", "''") + "'" for file in files)
    rows = f"read_parquet([{names}], union_by_name := true)"
    found = set(connection.sql(f"FROM {rows}").columns)
    made = {"bytes": "strlen(text)"}
    if "source_text" in found:
        made = {
            "language": "source_language || '-' || target_language",
            "text": f"source_text || '{BETWEEN}' || target_text",
            "bytes": "strlen(source_text) + strlen(target_text)",
        }
    made |= {name: f"NULL::{kind}" for name, kind in NEEDED.items() if name not in found | made.keys()}
    return f"SELECT *, {', '.join(f'{value} AS {name}' for name, value in made.items())} FROM {rows}"


def rows_of(result: duckdb.DuckDBPyConnection) -> list[dict[str, Any]]:
    """The rows of a query by the names of its columns."""
    names = [column[0] for column in result.description or ()]
    return [dict(zip(names, row, strict=True)) for row in result.fetchall()]
