"""Files of rows: Parquet, JSON, JSON lines, CSV and TSV, compressed or not, one row after the other."""

from __future__ import annotations

import csv
import io
import itertools
import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from caravan.core.errors import DataError, MissingDependencyError
from caravan.instruct.media import kind_of
from caravan.instruct.rows import BrokenRowError, Item, Row

COMPRESSIONS = frozenset({".gz", ".zst", ".bz2"})
BATCH_ROWS = 256
BLOCK = 1 << 18
LONGEST_CELL = 1 << 26
Rows = Iterator[Row | DataError]


def suffix_of(file: Path) -> str:
    """The suffix that tells what a file holds, `.jsonl` of `a.jsonl.gz`."""
    return (file.with_suffix("") if file.suffix.lower() in COMPRESSIONS else file).suffix.lower()


def read_rows(file: Path, columns: Sequence[str] = (), optional: Sequence[str] = ()) -> Rows:
    """The rows of one file, in order; a line that cannot be parsed comes as its error.

    Args:
        columns: that the file must have, checked for Parquet, where each row otherwise names what it lacks.
        optional: that are read as well; with no `columns` all are.

    Raises:
        DataError: the file cannot be read, lacks a column or is of no known kind.
    """
    reader = READERS.get(suffix_of(file))
    if reader is None:
        raise DataError(
            "no file of rows",
            where=str(file),
            expected=f"a suffix of {' '.join(READERS)}, also with {' '.join(sorted(COMPRESSIONS))}",
            got=file.name,
            fix="name the format of this source, or give its files another name",
        )
    if reader is _parquet:
        yield from _parquet(file, columns, optional)
    else:
        yield from reader(file)


def opened(file: Path) -> io.BufferedReader:
    """The bytes of a file, unpacked as its name says."""
    return io.BufferedReader(pa.input_stream(str(file), compression="detect"), BLOCK)


def broken_file(file: Path, place: str, expected: str, error: Exception) -> DataError:
    """A file of which this and all that follows is lost."""
    return DataError(
        "the file cannot be read",
        where=f"{file}, {place}" if place else str(file),
        expected=expected,
        got=(str(error).splitlines() or [type(error).__name__])[0],
        fix="fetch or write it again",
    )


def _parquet(file: Path, columns: Sequence[str] = (), optional: Sequence[str] = ()) -> Rows:
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
        present = [*columns, *(column for column in optional if column in names)] if columns else None
        for batch in table.iter_batches(batch_size=BATCH_ROWS, columns=present):
            for values in batch.to_pylist():
                yield Row(file, number, values, "row")
                number += 1
    except (pa.ArrowException, OSError) as error:
        raise broken_file(file, f"row {number}", "a complete Parquet file", error) from error


def _json_lines(file: Path) -> Rows:
    number = 0
    try:
        with opened(file) as stream:
            for number, line in enumerate(stream, 1):
                if line.strip():
                    yield _parse(file, number, line)
    except (pa.ArrowException, OSError, EOFError) as error:
        raise broken_file(file, f"line {number}", "complete JSON lines (.jsonl, .jsonl.gz)", error) from error


def _parse(file: Path, number: int, line: bytes) -> Row | DataError:
    where = f"{file}, line {number}"
    try:
        values = json.loads(line)
    except (ValueError, RecursionError) as error:
        return DataError(
            "not JSON", where=where, expected="a JSON object in UTF-8", got=str(error)[:120], fix="correct the line"
        )
    return Row(file, number, values, "line") if isinstance(values, dict) else not_an_object(where, values)


def not_an_object(where: str, value: Any) -> DataError:
    return DataError(
        "not a JSON object", where=where, expected="{…}", got=type(value).__name__, fix="one object for each row"
    )


def _json(file: Path) -> Rows:
    """A JSON array, read item by item; objects on lines of their own under this name are read as JSON lines."""
    try:
        with opened(file) as stream:
            start = stream.peek(BLOCK).lstrip(b"\xef\xbb\xbf \t\r\n")[:1]
    except (pa.ArrowException, OSError, EOFError) as error:
        raise broken_file(file, "", "a JSON array, or JSON lines", error) from error
    if start != b"[":
        yield from _json_lines(_lines_of_objects(file))
        return
    try:
        import ijson
    except ImportError as error:
        raise MissingDependencyError("ijson", "data", needed_for="reading a JSON array item by item") from error
    number = 0
    try:
        with opened(file) as stream:
            if stream.peek(3)[:3] == b"\xef\xbb\xbf":
                stream.read(3)
            for number, values in enumerate(ijson.items(stream, "item", use_float=True)):
                where = f"{file}, item {number}"
                yield Row(file, number, values, "item") if isinstance(values, dict) else not_an_object(where, values)
    except (ijson.JSONError, pa.ArrowException, OSError, EOFError) as error:
        raise broken_file(file, f"after item {number}", "a complete JSON array of objects", error) from error


def _lines_of_objects(file: Path) -> Path:
    """The file, if its first line is an object of its own.

    Raises:
        DataError: the whole file is one object.
    """
    with opened(file) as stream:
        first = next((line for line in stream if line.strip()), b"{}")
    try:
        json.loads(first)
    except ValueError as error:
        raise DataError(
            "neither a JSON array nor JSON lines",
            where=str(file),
            expected="[{…}, {…}], or an object on each line",
            got=f"a first line of {first[:40].decode(errors='replace').strip()!r}",
            fix="write the list that is in it as a file of its own: jq -c '.data[]' FILE > rows.jsonl",
        ) from error
    return file


def _comma(file: Path) -> Rows:
    return _delimited(file, ",", csv.QUOTE_MINIMAL)


def _tab(file: Path) -> Rows:
    # Common Voice and most others that write TSV do not quote: a quotation mark is one.
    return _delimited(file, "\t", csv.QUOTE_NONE)


def _delimited(file: Path, delimiter: str, quoting: Any) -> Rows:
    """Rows by the names in the first line; without such a line its cells are the path of a medium, and a text."""
    csv.field_size_limit(LONGEST_CELL)
    number = 0
    try:
        with io.TextIOWrapper(opened(file), encoding="utf-8-sig", newline="") as stream:
            lines = csv.reader(stream, delimiter=delimiter, quoting=quoting, strict=quoting != csv.QUOTE_NONE)
            first = next(filter(None, lines), None)
            if first is None:
                return
            bare = kind_of(first[0]) is not None
            names = ["path", "text"] if bare else [name.strip() for name in first]
            for cells in itertools.chain([first] if bare else [], lines):
                number = max(lines.line_num, 1)
                if not cells:
                    continue
                if len(cells) == len(names):
                    yield Row(file, number, dict(zip(names, cells, strict=True)), "line")
                else:
                    yield _uneven(file, number, names, cells)
    except (csv.Error, UnicodeDecodeError, pa.ArrowException, OSError, EOFError) as error:
        kind = "TSV" if delimiter == "\t" else "CSV"
        raise broken_file(file, f"line {number + 1}", f"{kind} in UTF-8", error) from error


def _uneven(file: Path, number: int, names: list[str], cells: list[str]) -> DataError:
    return DataError(
        "a line with another number of cells than the first one",
        where=f"{file}, line {number}",
        expected=f"{len(names)}: {', '.join(names)}",
        got=f"{len(cells)}: {', '.join(cells)}"[:120],
        fix="quote cells that contain the delimiter or a line break",
    )


READERS: Mapping[str, Callable[..., Rows]] = {
    ".parquet": _parquet,
    ".jsonl": _json_lines,
    ".ndjson": _json_lines,
    ".json": _json,
    ".csv": _comma,
    ".tsv": _tab,
}


def each_row(
    files: Iterable[Path], columns: Sequence[str], build: Callable[[Row], list[Item]], optional: Sequence[str] = ()
) -> Iterator[Item | DataError]:
    """What `build` makes of every row of the files; a row that cannot be used comes as its error."""
    return built(itertools.chain.from_iterable(read_rows(file, columns, optional) for file in files), build)


def built(rows: Iterable[Row | DataError], build: Callable[[Row], list[Item]]) -> Iterator[Item | DataError]:
    """What `build` makes of every row; one that cannot be used comes as its error, with all its faults."""
    for row in rows:
        if isinstance(row, DataError):
            yield row
            continue
        try:
            items = build(row)
        except DataError as error:
            row.faults.append(error)
        if row.faults:
            yield BrokenRowError(row.faults)
        else:
            yield from items
