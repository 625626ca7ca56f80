"""Rows of Parquet and JSONL files, each knowing where it stands, so that every fault names file, row and field."""

from __future__ import annotations

import gzip
import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import pyarrow as pa
import pyarrow.parquet as pq

from caravan.core.errors import DataError
from caravan.records import LANGUAGES, Dialogue

BATCH_ROWS = 256


class Item(NamedTuple):
    """A dialogue for the `train` or the `test` split."""

    split: str
    dialogue: Dialogue


@dataclass(frozen=True, slots=True)
class Row:
    """One row of a data file; `number` counts from 0 in Parquet and from 1, the line, in JSONL."""

    file: Path
    number: int
    values: dict[str, Any]

    def where(self, field: str = "") -> str:
        place = f"{self.file}, {'row' if self.file.suffix == '.parquet' else 'line'} {self.number}"
        return f"{place}, field {field}" if field else place

    def text(self, field: str) -> str:
        """A text that is not empty.

        Raises:
            DataError: missing, empty or no text.
        """
        value = self.values.get(field)
        if isinstance(value, str) and value.strip():
            return value.strip()
        raise DataError("no text", where=self.where(field), expected="text that is not empty", got=repr(value)[:80])

    def media(self, field: str) -> bytes:
        """The encoded bytes of a clip or picture.

        Raises:
            DataError: missing, empty, or a path that cannot be read.
        """
        return media_bytes(self.values.get(field), self.file.parent, self.where(field))

    def language(self, field: str, languages: Sequence[str]) -> str | None:
        """The row's language, None where the run does not have it; a language's code as `field` holds for all rows."""
        language = field if field in LANGUAGES else self.text(field)
        return language if language in languages else None

    def heldout(self, columns: dict[str, list[str]]) -> str:
        """The group of the test that the row belongs to, such as `unseen speaker`; empty for training."""
        unseen = [column for column, values in columns.items() if str(self.values.get(column)) in values]
        return f"unseen {'+'.join(unseen)}" if unseen else ""


def media_bytes(value: Any, folder: Path, where: str) -> bytes:
    """The bytes of a media cell: bytes, a path relative to the data file, or a struct of both.

    Raises:
        DataError: no bytes and no file that can be read.
    """
    if isinstance(value, dict):
        value = value.get("bytes") or value.get("path")
    if isinstance(value, str) and value:
        try:
            return (folder / value).read_bytes()
        except OSError as error:
            raise DataError("a media file cannot be read", where=where, got=f"{value}: {error.strerror}") from error
    if isinstance(value, bytes) and value:
        return value
    raise DataError("missing media", where=where, expected="bytes or the path of a file", got=repr(value)[:80])


def read_rows(file: Path, columns: Sequence[str], optional: Sequence[str] = ()) -> Iterator[Row | DataError]:
    """The rows of one file, in order, with `columns` and those of `optional` that it has.

    A line that cannot be parsed comes as its error.

    Raises:
        DataError: the file cannot be read or lacks a column.
    """
    if file.suffix == ".parquet":
        yield from _parquet_rows(file, columns, optional)
    else:
        yield from _json_lines(file)


def _parquet_rows(file: Path, columns: Sequence[str], optional: Sequence[str]) -> Iterator[Row]:
    number = 0
    try:
        table = pq.ParquetFile(file)
        names = table.schema_arrow.names
        if missing := [column for column in columns if column not in names]:
            raise DataError(
                f"no column {missing[0]}",
                where=str(file),
                expected=f"columns {', '.join(columns)}",
                got=f"columns {', '.join(names)}",
                fix="name the columns of this file in the source of the recipe",
            )
        present = [*columns, *(column for column in optional if column in names)]
        for batch in table.iter_batches(batch_size=BATCH_ROWS, columns=present):
            for values in batch.to_pylist():
                yield Row(file, number, values)
                number += 1
    except (pa.ArrowException, OSError) as error:
        raise DataError(
            "the file cannot be read",
            where=f"{file}, row {number}",
            expected="a complete Parquet file",
            got=str(error).splitlines()[0],
            fix="fetch or write it again",
        ) from error


def _json_lines(file: Path) -> Iterator[Row | DataError]:
    number = 0
    try:
        with gzip.open(file) if file.suffix == ".gz" else file.open("rb") as stream:
            for number, line in enumerate(stream, 1):
                if line.strip():
                    yield _parse(file, number, line)
    except (OSError, EOFError) as error:
        raise DataError(
            "the file cannot be read",
            where=f"{file}, line {number}",
            expected="complete JSON lines (.jsonl, .jsonl.gz)",
            got=str(error),
            fix="fetch or write it again",
        ) from error


def _parse(file: Path, number: int, line: bytes) -> Row | DataError:
    where = f"{file}, line {number}"
    try:
        values = json.loads(line)
    except ValueError as error:
        return DataError("not JSON", where=where, expected="a JSON object in UTF-8", got=str(error)[:120])
    if not isinstance(values, dict):
        return DataError("not a JSON object", where=where, expected="{…}", got=type(values).__name__)
    return Row(file, number, values)


def each_row(
    files: Iterable[Path], columns: Sequence[str], build: Callable[[Row], list[Item]], optional: Sequence[str] = ()
) -> Iterator[Item | DataError]:
    """What `build` makes of every row of the files; a row that cannot be used comes as its error."""
    for file in files:
        for row in read_rows(file, columns, optional):
            if isinstance(row, DataError):
                yield row
                continue
            try:
                items = build(row)
            except DataError as error:
                yield error
            else:
                yield from items
