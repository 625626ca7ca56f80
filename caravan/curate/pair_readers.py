"""Read parallel text: tables with a column a language, files aligned line by line (Moses), and TMX.

A pair has no direction: its languages stand in alphabetical order, and training draws a direction.
"""

from __future__ import annotations

import itertools
import random
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import combinations
from typing import Any, NamedTuple

import pyarrow as pa
import pyarrow.compute as pc

from caravan.core.errors import DataError
from caravan.curate.columns import column_at, need_columns, valid_text
from caravan.curate.lines import in_lists, json_records, measured_lines, numbered_lines, too_long
from caravan.curate.readers import KEY_BITS
from caravan.curate.rows import BrokenFileError, Damage
from caravan.curate.shards import PAIR_SCHEMA, Shard, format_of
from caravan.curate.tables import parquet_batches, parquet_columns
from caravan.curate.tmx import tmx_sides
from caravan.recipe.pairs import ROW_LANGUAGE, PairSource

# A row can give this many pairs; the key of a pair is its row and its place among them.
PAIRS_A_ROW_BITS = 9
NESTED = "translation"  # where the hub's translation sets keep their languages

Sides = dict[str, str]
Columns = Mapping[str, str | int]


class Pair(NamedTuple):
    """A row of PAIR_SCHEMA."""

    key: int
    id: str
    source_language: str
    target_language: str
    source_text: str
    target_text: str
    source: str


def read_pairs(shard: Shard, damage: Damage, languages: Sequence[str]) -> Iterator[pa.RecordBatch]:
    """Pairs of a shard in PAIR_SCHEMA.

    Raises:
        BrokenFileError: the file, or the rest of it, cannot be read.
        DataError: the recipe names a column that is not there.
    """
    source = shard.source
    if not isinstance(source, PairSource):
        for before, batch in parquet_batches(shard, PAIR_SCHEMA.names[1:]):
            keys = pa.array([_key(shard, before + index + 1, 0) for index in range(batch.num_rows)], pa.int64())
            yield _alphabetical(pa.RecordBatch.from_arrays([keys, *batch.columns], schema=PAIR_SCHEMA))
        return
    wanted = source.languages or list(languages)
    # A row that names a language which the run does not want is refused; of other rows the wanted sides are read.
    every = source.language_column is not None and not source.languages
    match format_of(shard.path, source):
        case "parquet":
            rows = _parquet_sides(shard, source, wanted, damage)
        case "jsonl":
            rows = _json_sides(shard, source, wanted, damage)
        case "tsv":
            rows = _tsv_sides(shard, source, wanted, damage)
        case "tmx":
            rows = tmx_sides(shard)
        case "moses":
            rows = _moses_sides(shard, damage)
    pairs = (
        pair
        for row, sides in rows
        for pair in _pairs(shard, row, {name: sides[name] for name in sides if every or name in wanted}, source)
    )
    for held in in_lists(pairs, lambda pair: len(pair.source_text) + len(pair.target_text)):
        columns = zip(*held, strict=True)
        yield pa.RecordBatch.from_pydict(dict(zip(PAIR_SCHEMA.names, columns, strict=True)), PAIR_SCHEMA)


def _columns(there: Sequence[str], shard: Shard, source: PairSource, wanted: Sequence[str]) -> Columns:
    """Column of each language; `xx` for the one that the row names.

    Raises:
        DataError: the recipe names none, and none are named after languages.
    """
    if source.columns is not None:
        return source.columns
    nested = {language: f"{NESTED}.{language}" for language in wanted}
    named = {language: name for language in wanted for name in (nested[language], language) if name in there}
    if len(named) < 2:
        raise DataError(
            "no two columns are named after languages of the run",
            where=shard.name,
            expected=f"columns such as {', '.join(wanted)}",
            got=", ".join(there),
            fix="add `columns: {en: ..., zh: ...}` to this source of the recipe",
        )
    return named


def _sides(texts: Mapping[str, str | None], other: str | None) -> Sides:
    """Text by language. Where the row names its language, a missing side is a fault; in a wide table it is a gap."""
    if other is None:
        return {language: text for language, text in texts.items() if text is not None}
    return {other if language == ROW_LANGUAGE else language: text or "" for language, text in texts.items()}


def _parquet_sides(
    shard: Shard, source: PairSource, wanted: Sequence[str], damage: Damage
) -> Iterator[tuple[int, Sides]]:
    columns = _columns(parquet_columns(shard), shard, source, wanted)
    names = [_by_name(shard, column) for column in (*columns.values(), *_named(source))]
    for before, batch in parquet_batches(shard, names):
        broken: dict[int, str] = {}
        texts: dict[str, list[str | None]] = {}
        for language, name in zip(columns, names, strict=False):
            values, problems = valid_text(column_at(batch, name), shard, name)
            broken |= problems
            texts[language] = values.to_pylist()
        others = column_at(batch, names[-1]).to_pylist() if source.language_column else itertools.repeat(None)
        for index, (values_L, other) in enumerate(zip(zip(*texts.values(), strict=True), others, strict=False)):
            if index in broken:
                damage.add(before + index + 1, broken[index])
            else:
                yield before + index + 1, _sides(dict(zip(texts, values_L, strict=True)), other)


def _named(source: PairSource) -> tuple[str | int, ...]:
    return () if source.language_column is None else (source.language_column,)


def _by_name(shard: Shard, column: str | int) -> str:
    if isinstance(column, int):
        raise DataError(
            "a column by its place",
            where=shard.name,
            expected="columns by their names; places are for TSV without a head",
            got=str(column),
            fix="name the column under `columns` of this source",
        )
    return column


def _json_sides(shard: Shard, source: PairSource, wanted: Sequence[str], damage: Damage) -> Iterator[tuple[int, Sides]]:
    for row, record in json_records(shard, damage):
        fields = _flat(record)
        columns = source.columns or {name: name for name in wanted}
        try:
            texts = {language: fields.get(_by_name(shard, column)) for language, column in columns.items()}
            present = [text.encode() for text in texts.values() if text is not None]
            other = fields[str(source.language_column)] if source.language_column else None
        except UnicodeEncodeError:
            damage.add(row, "half of a surrogate pair")
        except KeyError as error:
            damage.add(row, f"no field {error.args[0]}")
        except AttributeError:
            damage.add(row, "a side that is not text")
        else:
            if len(present) < 2 and other is None:
                damage.add(row, f"fewer than two of the fields {', '.join(map(str, columns.values()))}")
            else:
                yield row, _sides(texts, other)


def _flat(record: Any) -> dict[str, Any]:
    """Fields of a record, those of records within it as `a.b`, those of `translation` by their own names too."""
    if not isinstance(record, dict):
        return {}
    inner = {
        f"{outer}.{name}": value
        for outer, part in record.items()
        if isinstance(part, dict)
        for name, value in part.items()
    }
    nested = record.get(NESTED)
    return {**(nested if isinstance(nested, dict) else {}), **record, **inner}


def _tsv_sides(shard: Shard, source: PairSource, wanted: Sequence[str], damage: Damage) -> Iterator[tuple[int, Sides]]:
    """Rows of cells between tabs; quotation marks mean nothing."""
    places: dict[str, int] | None = None
    named = source.language_column
    for row, line in numbered_lines(shard, damage):
        try:
            cells = line.decode("utf-8-sig" if row == 1 else "utf-8").rstrip("\r\n").split("\t")
        except UnicodeDecodeError as error:
            damage.add(row, f"invalid UTF-8 at byte {error.start}")
            continue
        if places is None:
            columns = _columns(cells, shard, source, wanted)
            places = {language: _place(shard, column, cells) for language, column in columns.items()}
            language_place = _place(shard, named, cells) if named else None
            most = max(*places.values(), language_place or 0)
            if any(isinstance(column, str) for column in (*columns.values(), *_named(source))):
                continue  # this was the head
        if len(cells) <= most:
            damage.add(row, f"{len(cells)} columns, not {most + 1}")
        else:
            other = None if language_place is None else cells[language_place]
            yield row, _sides({language: cells[place] for language, place in places.items()}, other)


def _place(shard: Shard, column: str | int, head: Sequence[str]) -> int:
    """Place of a column among the cells, from 0."""
    if isinstance(column, int):
        return column - 1
    need_columns(shard, [column], list(head))
    return head.index(column)


def _moses_sides(shard: Shard, damage: Damage) -> Iterator[tuple[int, Sides]]:
    """Line by line from the files of all languages.

    Raises:
        BrokenFileError: the files have not equally many lines: nothing says which of them belong together.
    """
    sides = {language: replace(shard, path=path) for language, path in shard.sides}
    counts = {language: sum(1 for _ in measured_lines(side)) for language, side in sides.items()}
    if len(set(counts.values())) > 1:
        told = ", ".join(f"{language} {count:,}" for language, count in counts.items())
        raise BrokenFileError(f"the files have not equally many lines: {told}")
    for measured in zip(*map(measured_lines, sides.values()), strict=True):
        row = measured[0][0]
        sizes = [size for _, line, size in measured if line is None]
        if sizes:
            damage.add(row, too_long("line", max(sizes), shard))
            continue
        try:
            texts = [(line or b"").decode("utf-8-sig" if row == 1 else "utf-8") for _, line, _ in measured]
        except UnicodeDecodeError as error:
            damage.add(row, f"invalid UTF-8 at byte {error.start}")
        else:
            yield row, {language: text.rstrip("\r\n") for language, text in zip(sides, texts, strict=True)}


def _pairs(shard: Shard, row: int, sides: Sides, source: PairSource) -> Iterator[Pair]:
    """The pivot with every other language, and some pairs between the others, drawn by file and row."""
    others = [language for language in sides if language != source.pivot]
    chosen = [(source.pivot, language) for language in others] if source.pivot in sides else []
    between = list(combinations(others, 2))
    if source.language_column is None and between:
        draw = random.Random(f"{shard.name}#{row}")
        chosen += draw.sample(between, min(source.others, len(between)))
    for index, languages in enumerate(chosen):
        first, second = sorted(languages)
        name = f"{shard.name}#{row}:{first}-{second}"
        yield Pair(_key(shard, row, index), name, first, second, sides[first], sides[second], shard.name)


def _key(shard: Shard, row: int, index: int) -> int:
    return (shard.number << KEY_BITS) + (row << PAIRS_A_ROW_BITS) + index


def _alphabetical(batch: pa.RecordBatch) -> pa.RecordBatch:
    """The same pairs, each with its languages in alphabetical order."""
    swap = pc.greater(batch["source_language"], batch["target_language"])
    columns = {name: batch[name] for name in batch.schema.names}
    for kind in ("language", "text"):
        source, target = batch[f"source_{kind}"], batch[f"target_{kind}"]
        columns[f"source_{kind}"] = pc.if_else(swap, target, source)
        columns[f"target_{kind}"] = pc.if_else(swap, source, target)
    return pa.RecordBatch.from_pydict(columns, PAIR_SCHEMA)
