"""Lines and paragraphs that stand in many documents: which they are, and what is left of the documents without them."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from caravan.core.files import atomic_path
from caravan.curate.duplicates import DUPLICATES, ROW_GROUP, connect, room
from caravan.curate.parts import HASHES, outermost, part_hashes, parts_of, without
from caravan.recipe.curate import CurateConfig

SCHEMA = pa.schema([
    ("key", pa.int64()), ("part", pa.uint64()), ("unit", pa.string()), ("documents", pa.int64()),
    ("first", pa.int64()), ("duplicate_of", pa.string()),
])  # fmt: skip
# What was taken out of documents that stay, such as `line 3, paragraph 1`; null for nothing.
REMOVED = pa.field("removed", pa.string())
REMOVED_PARTS = pa.schema([
    ("id", pa.string()), ("language", pa.string()), ("text", pa.string()), ("reason", pa.string()),
    ("value", pa.float64()), ("duplicate_of", pa.string()),
])  # fmt: skip
NOTHING_LEFT = "nothing left without repeated parts"
NOBODY = -1

DOCUMENTS = """
    CREATE VIEW documents AS
    SELECT judged.* FROM read_parquet({shards}) judged
    ANTI JOIN read_parquet({copies}) copies ON judged.key = copies.key
    WHERE judged.reason IS NULL
"""
REPEATED = """
    CREATE TABLE repeated_{unit} AS
    SELECT part, count(*) AS documents, {first} AS first FROM (SELECT key, unnest({unit}s) AS part FROM documents)
    GROUP BY part HAVING count(*) > {most}
"""
REPEATS = """
    SELECT found.key AS key, part, '{unit}' AS unit, documents, first, id AS duplicate_of
    FROM (SELECT key, unnest({unit}s) AS part FROM documents) found JOIN repeated_{unit} USING (part)
    LEFT JOIN (SELECT key, id FROM documents) stays ON stays.key = first WHERE found.key <> first
"""


def columns(config: CurateConfig) -> list[pa.Field]:
    """Hashes of each document's lines and paragraphs, as far as the recipe asks for them."""
    return [pa.field(f"{unit}s", HASHES) for unit in config.duplicates.parts]


def part_columns(texts: pa.Array, languages: list[str], config: CurateConfig) -> list[pa.Array]:
    """What `columns` names, of some texts."""
    wanted = config.duplicates.parts
    return [part_hashes(texts, languages, unit, limit.min_characters) for unit, limit in wanted.items()]


def find_repeats(shards: list[Path], copies: Path, config: CurateConfig, target: Path) -> None:
    """Write which lines and paragraphs go from which documents, ordered by key, in SCHEMA.

    `documents` is how many documents of the language have the part, copies not counted; `first` is the one that keeps
    it, NOBODY where it goes from all.

    Args:
        shards: files of judged documents.
        copies: the verdicts of `find_duplicates` on them.

    Raises:
        DiskFullError: neither memory nor disk has room.
    """
    spill, memory = target.parent / "spill", config.duplicates.memory
    with room(memory, spill), connect(memory, config.processes(), spill) as connection:
        connection.execute(DOCUMENTS.format(shards=[str(shard) for shard in shards], copies=[str(copies)]))
        for unit, limit in config.duplicates.parts.items():
            first = "min(key)" if limit.keep == "first" else f"{NOBODY}::BIGINT"
            connection.execute(REPEATED.format(unit=unit, most=limit.max_documents, first=first))
        query = " UNION ALL ".join(REPEATS.format(unit=unit) for unit in config.duplicates.parts)
        with atomic_path(target) as temporary, pq.ParquetWriter(temporary, SCHEMA, compression="zstd") as writer:
            for batch in connection.sql(f"SELECT * FROM ({query}) ORDER BY key").to_arrow_reader(ROW_GROUP):
                writer.write_batch(batch.cast(SCHEMA))


class Repeats:
    """What goes from the documents of one shard.

    Args:
        rows: those of `find_repeats` on the shard's documents.
    """

    def __init__(self, rows: pa.Table, config: CurateConfig) -> None:
        self.config = config
        self.keys = pc.unique(rows["key"])
        values, first = np.unique(rows["part"].to_numpy(), return_index=True)
        self.parts, self.of_part = values, rows.take(first).combine_chunks()

    def taken_out(self, batch: pa.RecordBatch) -> tuple[pa.RecordBatch, pa.RecordBatch]:
        """The documents without what is repeated, and what was taken out of those that stay, in REMOVED_PARTS.

        A document of which too little is left for the rules is dropped, and shown as it came.
        """
        touched = pc.and_(pc.is_in(batch["key"], self.keys), pc.is_null(batch["reason"]))
        rows = batch.filter(touched)
        cut = self._cut(rows)
        least = [self.config.limits_of(language).min_characters for language in rows["language"].to_pylist()]
        gone = [len(text) < fewest for (text, _), fewest in zip(cut, least, strict=True)]
        found = [
            (old, NOTHING_LEFT, DUPLICATES, float(len(parts)), None)
            if lost
            else (new, None, None, None, _counted(parts))
            for (new, parts), lost, old in zip(cut, gone, rows["text"].to_pylist(), strict=True)
        ]
        columns = {name: batch[name] for name in batch.schema.names}
        for place, name in enumerate(("text", "reason", "step", "value", REMOVED.name)):
            values = pa.array([row[place] for row in found], batch.schema.field(name).type)
            columns[name] = pc.replace_with_mask(batch[name], touched, values)
        names = zip(rows["id"].to_pylist(), rows["language"].to_pylist(), strict=True)
        removed = [
            {"id": name, "language": language, **part}
            for (name, language), (_, parts), lost in zip(names, cut, gone, strict=True)
            for part in ([] if lost else parts)
        ]
        return pa.RecordBatch.from_pydict(columns, batch.schema), pa.RecordBatch.from_pylist(removed, REMOVED_PARTS)

    def _cut(self, rows: pa.RecordBatch) -> list[tuple[str, list[dict[str, Any]]]]:
        """Each text without what goes from it, and that."""
        languages, keys = rows["language"].to_pylist(), rows["key"].to_numpy()
        spans: list[list[tuple[int, int, int]]] = [[] for _ in languages]
        for unit, limit in self.config.duplicates.parts.items():
            hashes, places = parts_of(rows["text"], languages, unit, limit.min_characters)
            index = np.minimum(np.searchsorted(self.parts, hashes), len(self.parts) - 1)
            stays = self.of_part["first"].to_numpy()[index] == keys[places[:, 0]]
            goes = (self.parts[index] == hashes) & ~stays
            for (row, start, end), part in zip(places[goes].tolist(), index[goes].tolist(), strict=True):
                spans[row].append((start, end, part))
        return [self._cut_one(text, found) for text, found in zip(rows["text"].to_pylist(), spans, strict=True)]

    def _cut_one(self, text: str, spans: list[tuple[int, int, int]]) -> tuple[str, list[dict[str, Any]]]:
        spans.sort(key=lambda span: (span[0], -span[1]))
        spans = [spans[index] for index in outermost([span[:2] for span in spans])]
        left, gone = without(text, [span[:2] for span in spans])
        facts = [self.of_part.slice(part, 1).to_pylist()[0] for _, _, part in spans]
        return left, [
            {
                "text": words,
                "reason": f"repeated {fact['unit']}",
                "value": float(fact["documents"]),
                "duplicate_of": fact["duplicate_of"],
            }
            for words, fact in zip(gone, facts, strict=True)
        ]


def _counted(parts: list[dict[str, Any]]) -> str:
    """How many of each kind were taken out."""
    counts = Counter(part["reason"].removeprefix("repeated ") for part in parts)
    return ", ".join(f"{unit} {count}" for unit, count in sorted(counts.items()))
