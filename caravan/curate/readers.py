"""Read documents from Parquet, JSONL, text and web archives, batch by batch; what cannot be read is named."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from caravan.core.errors import DataError
from caravan.curate.archives import archive_rows
from caravan.curate.lines import BATCH_ROWS, first_line, in_lists, json_records, numbered_lines
from caravan.curate.rows import BrokenFileError, Damage, Row
from caravan.curate.shards import DOCUMENT_SCHEMA, Shard, format_of
from caravan.recipe.curate import TextSource

KEY_BITS = 40
ROW_SCHEMA = pa.schema([(name, pa.int64() if name == "row" else pa.string()) for name in Row._fields])


def read_documents(shard: Shard, damage: Damage) -> Iterator[pa.RecordBatch]:
    """Documents of a shard in DOCUMENT_SCHEMA, `language` null where it is not known.

    Raises:
        BrokenFileError: the file, or the rest of it, cannot be read.
        DataError: the recipe names a column that is not there, or one without text.
    """
    source = shard.source
    assert isinstance(source, TextSource)
    match format_of(shard.path, source):
        case "parquet":
            batches = _parquet_rows(shard, source, damage)
        case "jsonl":
            batches = _batches(_json_rows(shard, source, damage))
        case "text":
            batches = _batches(_text_rows(shard, source, damage))
        case "warc":
            batches = _batches(archive_rows(shard, damage))
    for batch in batches:
        yield _documents(shard, batch)


def _documents(shard: Shard, batch: pa.RecordBatch) -> pa.RecordBatch:
    """Rows in DOCUMENT_SCHEMA: an id that is missing is made of file and row, a missing source is the file."""
    rows = batch["row"]
    made = pc.binary_join_element_wise(shard.name, rows.cast(pa.string()), "#")
    stated = pa.nulls(len(rows), pa.string()).fill_null(shard.language) if shard.language else batch["language"]
    columns = [
        pc.add(rows, shard.number << KEY_BITS),
        pc.coalesce(batch["id"], made),
        batch["text"],
        stated,
        pc.coalesce(batch["source"], pa.scalar(shard.name)),
    ]
    return pa.RecordBatch.from_arrays(columns, schema=DOCUMENT_SCHEMA)


def parquet_batches(shard: Shard, columns: list[str]) -> Iterator[tuple[int, pa.RecordBatch]]:
    """Batches of some columns of a Parquet file, each with the number of rows before it.

    Raises:
        BrokenFileError: not Parquet, truncated, or damaged further on.
        DataError: a column is missing.
    """
    try:
        with pq.ParquetFile(shard.path) as file:
            need_columns(shard, columns, _names(file.schema_arrow))
            rows = shard.first_row
            for batch in file.iter_batches(BATCH_ROWS, shard.groups and list(shard.groups), columns):
                yield rows, batch
                rows += batch.num_rows
    except (pa.ArrowException, OSError) as error:
        raise BrokenFileError(first_line(error)) from error


def parquet_columns(shard: Shard) -> list[str]:
    """Names of the columns of a Parquet file, and as `a.b` of their fields.

    Raises:
        BrokenFileError: not Parquet.
    """
    try:
        return _names(pq.read_schema(shard.path))
    except (pa.ArrowException, OSError) as error:
        raise BrokenFileError(first_line(error)) from error


def _names(schema: pa.Schema) -> list[str]:
    fields = (
        (kind.name, kind.type.field(i).name)
        for kind in schema
        if pa.types.is_struct(kind.type)
        for i in range(kind.type.num_fields)
    )
    return [*schema.names, *map(".".join, fields)]


def need_columns(shard: Shard, columns: Iterable[str], there: list[str]) -> None:
    """See that columns which the recipe names are there."""
    missing = [column for column in columns if column not in there]
    if missing:
        raise DataError(
            f"there is no column {' or '.join(missing)}",
            where=shard.name,
            expected=f"the columns that the recipe names: {', '.join(columns)}",
            got=", ".join(there),
            fix="name the right column in this source of the recipe",
        )


def valid_text(column: pa.Array, shard: Shard, name: str) -> tuple[pa.Array, dict[int, str]]:
    """A column as valid UTF-8 strings, null where a row has none; and why, by index.

    Raises:
        DataError: the column does not hold text.
    """
    if pa.types.is_dictionary(column.type):
        column = column.dictionary_decode()
    kinds = (
        pa.types.is_string,
        pa.types.is_large_string,
        pa.types.is_binary,
        pa.types.is_large_binary,
        pa.types.is_null,
    )
    if not any(kind(column.type) for kind in kinds):
        raise DataError(
            f"the column {name} does not hold text",
            where=shard.name,
            expected="strings",
            got=str(column.type),
            fix="name the right column in this source of the recipe",
        )
    raw = column.cast(pa.large_binary())
    problems: dict[int, str] = {}
    try:
        strings = raw.cast(pa.large_string())
    except pa.ArrowInvalid:
        values: list[str | None] = []
        for index, value in enumerate(raw.to_pylist()):
            try:
                values.append(None if value is None else value.decode())
            except UnicodeDecodeError as error:
                values.append(None)
                problems[index] = f"invalid UTF-8 at byte {error.start}"
        strings = pa.array(values, pa.large_string())
    return strings.cast(pa.string()), problems


def _parquet_rows(shard: Shard, source: TextSource, damage: Damage) -> Iterator[pa.RecordBatch]:
    optional = {"id": source.id, "language": source.language_column, "source": source.source_column}
    named = dict.fromkeys(name for name in (source.text, *optional.values()) if name)
    for before, batch in parquet_batches(shard, list(named)):
        texts, problems = valid_text(batch[source.text], shard, source.text)
        for index in np.flatnonzero(texts.is_null().to_numpy(zero_copy_only=False)).tolist():
            damage.add(before + index + 1, problems.get(index, f"no text in {source.text}"))
        columns = {"row": pa.array(range(before + 1, before + len(texts) + 1), pa.int64()), "text": texts}
        for field_name, name in optional.items():
            columns[field_name] = batch[name].cast(pa.string()) if name else pa.nulls(len(texts), pa.string())
        yield pa.RecordBatch.from_pydict(columns, ROW_SCHEMA).filter(texts.is_valid())


def _json_rows(shard: Shard, source: TextSource, damage: Damage) -> Iterator[Row]:
    optional = (source.id, source.language_column, source.source_column)
    for number, record in json_records(shard.path, damage):
        try:
            text = record[source.text]
            text.encode()
        except UnicodeEncodeError:
            damage.add(number, "half of a surrogate pair")
        except (KeyError, TypeError, AttributeError):
            damage.add(number, f"no text in {source.text}")
        else:
            values = (record.get(name) if name else None for name in optional)
            yield Row(number, text, *(None if value is None else str(value) for value in values))


def _text_rows(shard: Shard, source: TextSource, damage: Damage) -> Iterator[Row]:
    lines = numbered_lines(shard.path)
    whole = source.documents == "file"
    for number, line in [(1, b"".join(line for _, line in lines))] if whole else lines:
        try:
            text = line.decode("utf-8-sig").strip()
        except UnicodeDecodeError as error:
            damage.add(number, f"invalid UTF-8 at byte {error.start}")
            continue
        if text:
            yield Row(number, text)


def _batches(rows: Iterator[Row]) -> Iterator[pa.RecordBatch]:
    for held in in_lists(rows, lambda row: len(row.text)):
        columns = zip(*held, strict=True)
        yield pa.RecordBatch.from_pydict(dict(zip(Row._fields, columns, strict=True)), ROW_SCHEMA)
