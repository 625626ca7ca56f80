"""What the recipe's column map names, in tables and in JSON objects: strings in valid UTF-8, or null and why."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from caravan.core.errors import DataError
from caravan.curate.lines import too_long
from caravan.curate.shards import Shard

JOINT = "\n\n"  # between the texts of several columns
STRINGS = (
    pa.types.is_string, pa.types.is_large_string, pa.types.is_string_view, pa.types.is_binary, pa.types.is_large_binary,
    pa.types.is_binary_view, pa.types.is_fixed_size_binary, pa.types.is_null,
)  # fmt: skip


def column_names(schema: pa.Schema) -> list[str]:
    """Names of the columns of a table, and as `a.b` of the fields of those that have fields."""
    return [name for field in schema for name in _names(field)]


def _names(field: pa.Field) -> list[str]:
    inner = field.type if pa.types.is_struct(field.type) else ()
    return [field.name, *(f"{field.name}.{name}" for part in inner for name in _names(part))]


def need_columns(shard: Shard, columns: Iterable[str], there: list[str]) -> None:
    """See that columns which the recipe names are there.

    Raises:
        DataError: one is not.
    """
    missing = [column for column in columns if column not in there]
    if missing:
        raise DataError(
            f"there is no column {' or '.join(missing)}",
            where=shard.name,
            expected=f"the columns that the recipe names: {', '.join(columns)}",
            got=", ".join(there),
            fix="name the right column in this source of the recipe",
        )


def column_at(batch: pa.RecordBatch, name: str) -> pa.Array:
    """A column; `meta.url` is the field url of the struct meta, unless a column has that very name."""
    if name in batch.schema.names:
        return batch[name]
    first, *fields = name.split(".")
    return pc.struct_field(batch[first], fields)


def value_at(record: Any, name: str) -> Any:
    """The same of a JSON object; None where there is nothing."""
    if isinstance(record, dict) and name in record:
        return record[name]
    for field in name.split("."):
        record = record.get(field) if isinstance(record, dict) else None
    return record


def valid_text(column: pa.Array, shard: Shard, name: str) -> tuple[pa.Array, dict[int, str]]:
    """A column as valid UTF-8 strings, null where a row has none or too long a one; and why, by index.

    Raises:
        DataError: the column does not hold text.
    """
    if pa.types.is_dictionary(column.type):
        column = column.dictionary_decode()
    if not any(kind(column.type) for kind in STRINGS):
        raise DataError(
            f"the column {name} does not hold text",
            where=shard.name,
            expected="strings",
            got=str(column.type),
            fix="name the right column in this source of the recipe",
        )
    raw, problems = _short_enough(column.cast(pa.large_binary()), shard)
    try:
        return raw.cast(pa.string()), problems
    except pa.ArrowInvalid:
        values: list[str | None] = []
        for index, value in enumerate(raw.to_pylist()):
            try:
                values.append(None if value is None else value.decode())
            except UnicodeDecodeError as error:
                values.append(None)
                problems[index] = f"invalid UTF-8 at byte {error.start}"
        return pa.array(values, pa.string()), problems


def _short_enough(raw: pa.Array, shard: Shard) -> tuple[pa.Array, dict[int, str]]:
    """Binary values, null where one is longer than the recipe's limit."""
    longest = shard.longest
    sizes = pc.binary_length(raw)
    if (pc.max(sizes).as_py() or 0) <= longest:
        return raw, {}
    short = pc.less_equal(sizes, longest)
    places = pc.indices_nonzero(pc.invert(short)).to_pylist()
    return pc.if_else(short, raw, pa.scalar(None, raw.type)), {
        index: too_long("cell", sizes[index].as_py(), shard) for index in places
    }


def joined_text(texts: Sequence[pa.Array]) -> pa.Array:
    """The texts of several columns as one; empty ones leave no gap, and null is a row that has none."""
    if len(texts) == 1:
        return texts[0]
    filled = [pc.if_else(pc.equal(text, ""), pa.scalar(None, pa.string()), text) for text in texts]
    text = filled[0]
    for more in filled[1:]:
        text = pc.coalesce(pc.binary_join_element_wise(text, more, JOINT), text, more)
    return text


def plain_text(column: pa.Array, shard: Shard, name: str) -> pa.Array:
    """Ids and the like: numbers as strings; what is empty, or no valid text, counts as missing."""
    if pa.types.is_integer(column.type) or pa.types.is_floating(column.type):
        column = column.cast(pa.string())
    text = valid_text(column, shard, name)[0]
    return pc.if_else(pc.equal(text, ""), pa.scalar(None, pa.string()), text)
