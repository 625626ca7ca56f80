"""Read documents from Parquet, JSONL, text and web archives, batch by batch; what cannot be read is named."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from caravan.curate.archives import archive_rows
from caravan.curate.columns import JOINT, column_at, joined_text, plain_text, valid_text, value_at
from caravan.curate.lines import in_lists, json_records, numbered_lines, whole_file
from caravan.curate.rows import Damage, Row
from caravan.curate.shards import DOCUMENT_SCHEMA, Shard, format_of
from caravan.curate.tables import parquet_batches
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


def key_range(judged: Path) -> tuple[int, int]:
    """First key of the documents of a judged shard, and the first one beyond them."""
    first = int(judged.stem) << KEY_BITS
    return first, first + (1 << KEY_BITS)


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


def _parquet_rows(shard: Shard, source: TextSource, damage: Damage) -> Iterator[pa.RecordBatch]:
    texts, others = source.columns.texts, source.columns.others
    named = dict.fromkeys(name for name in (*texts, *others.values()) if name)
    for before, batch in parquet_batches(shard, list(named)):
        found = [valid_text(column_at(batch, name), shard, name) for name in texts]
        problems = {index: problem for _, broken in found for index, problem in broken.items()}
        sound = pa.array([index not in problems for index in range(batch.num_rows)], pa.bool_())
        text = pc.if_else(sound, joined_text([text for text, _ in found]), pa.scalar(None, pa.string()))
        for index in np.flatnonzero(text.is_null().to_numpy(zero_copy_only=False)).tolist():
            damage.add(before + index + 1, problems.get(index, f"no text in {', '.join(texts)}"))
        columns = {"row": pa.array(range(before + 1, before + len(text) + 1), pa.int64()), "text": text}
        for field, name in others.items():
            columns[field] = (
                plain_text(column_at(batch, name), shard, name) if name else pa.nulls(len(text), pa.string())
            )
        yield pa.RecordBatch.from_pydict(columns, ROW_SCHEMA).filter(text.is_valid())


def _json_rows(shard: Shard, source: TextSource, damage: Damage) -> Iterator[Row]:
    texts, others = source.columns.texts, tuple(source.columns.others.values())
    for number, record in json_records(shard, damage):
        try:
            text = _joined([value_at(record, name) for name in texts])
            text.encode()
        except UnicodeEncodeError:
            damage.add(number, "half of a surrogate pair")
        except (TypeError, AttributeError):
            damage.add(number, f"no text in {', '.join(texts)}")
        else:
            yield Row(number, text, *(name and _plain(value_at(record, name)) for name in others))


def _joined(texts: list[Any]) -> str:
    """The texts of several fields as one; raises TypeError where there is none, or where one is no string."""
    if all(text is None for text in texts):
        raise TypeError
    return texts[0] if len(texts) == 1 else JOINT.join(filter(None, texts))


def _plain(value: Any) -> str | None:
    """An id or the like; what is empty, or no valid text, counts as missing."""
    text = str(value) if isinstance(value, str | int | float) else ""
    try:
        text.encode()
    except UnicodeEncodeError:
        return None
    return text or None


def _text_rows(shard: Shard, source: TextSource, damage: Damage) -> Iterator[Row]:
    read = whole_file if source.documents == "file" else numbered_lines
    for number, line in read(shard, damage):
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
