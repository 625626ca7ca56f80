"""From judged shards to the corpus: kept text by language, and what was rejected."""

from __future__ import annotations

import contextlib
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from caravan.core.files import atomic_path
from caravan.core.progress import track
from caravan.curate import index
from caravan.curate.duplicates import DUPLICATES
from caravan.curate.readers import key_range
from caravan.curate.repeats import Repeats
from caravan.curate.shards import REPEATING
from caravan.curate.steps import VERDICT_FIELDS, by_language
from caravan.recipe.curate import CurateConfig

DUPLICATE_OF = pa.field("duplicate_of", pa.string())
ROW_GROUP = 8192


class Writers:
    """Parquet files that open when their first rows come; all appear at the end, the first opened one last."""

    def __init__(self, stack: contextlib.ExitStack) -> None:
        self.stack = stack
        self.open: dict[Path, pq.ParquetWriter] = {}
        self.held: dict[Path, list[pa.RecordBatch]] = {}

    def write(self, path: Path, batch: pa.RecordBatch) -> None:
        """Append rows; they are held back until they make a row group."""
        if path not in self.open:
            temporary = self.stack.enter_context(atomic_path(path))
            writer = pq.ParquetWriter(temporary, batch.schema, compression="zstd", use_dictionary=REPEATING)
            self.open[path] = self.stack.enter_context(writer)
            self.held[path] = []
            self.stack.callback(self._flush, path)
        self.held[path].append(batch)
        if sum(rows.num_rows for rows in self.held[path]) >= ROW_GROUP:
            self._flush(path)

    def _flush(self, path: Path) -> None:
        if rows := self.held[path]:
            self.open[path].write_table(pa.Table.from_batches(rows))
        self.held[path] = []


class Verdicts:
    """The verdicts on copies, or on parts of documents, ordered by key; those of a shard are read at a time."""

    def __init__(self, file: pq.ParquetFile) -> None:
        self.file = file
        groups = (file.metadata.row_group(index).column(0).statistics for index in range(file.num_row_groups))
        self.ends = np.array([(group.min, group.max) for group in groups], np.int64).reshape(-1, 2)

    def of(self, shard: Path) -> pa.Table:
        """Those on the documents of a judged shard."""
        first, end = key_range(shard)
        near = np.flatnonzero((self.ends[:, 0] < end) & (self.ends[:, 1] >= first))
        rows = self.file.read_row_groups(near.tolist())
        keys = rows["key"].to_numpy()
        return rows.slice(np.searchsorted(keys, first), np.searchsorted(keys, end) - np.searchsorted(keys, first))


def settle_documents(
    shards: list[Path], duplicates: Path, repeats: Path | None, config: CurateConfig, out: Path
) -> None:
    """Give each shard's rows their last verdict and write them; a shard with a file in `rejected` is finished."""
    todo = [shard for shard in shards if not (out / "rejected" / shard.name).is_file()]
    if not todo:
        return
    indexed = index.schema(config.duplicates).names if config.duplicates.index else []
    with contextlib.ExitStack() as stack:
        verdicts, on_parts = (
            Verdicts(stack.enter_context(pq.ParquetFile(file))) if file else None for file in (duplicates, repeats)
        )
        assert verdicts is not None
        bar = stack.enter_context(track("settle", len(todo), "shard"))
        for shard in todo:
            parts = Repeats(on_parts.of(shard), config) if on_parts else None
            _settle_shard(shard, verdicts.of(shard).combine_chunks(), parts, indexed, out)
            bar.advance()


def _settle_shard(shard: Path, copies: pa.Table, parts: Repeats | None, indexed: list[str], out: Path) -> None:
    with contextlib.ExitStack() as stack, pq.ParquetFile(shard) as file:
        writers = Writers(stack)
        rejected = out / "rejected" / shard.name
        # What follows the verdict has been for deduplication.
        verdict = file.schema_arrow.get_field_index(VERDICT_FIELDS[0].name)
        kept = pa.schema(list(file.schema_arrow)[1:verdict])
        dropped = pa.schema([*kept, *VERDICT_FIELDS, DUPLICATE_OF])
        writers.write(rejected, pa.RecordBatch.from_pylist([], dropped))
        wanted = ["key", *dropped.names[:-1], *indexed]
        for batch in file.iter_batches(ROW_GROUP, columns=list(dict.fromkeys(wanted))):
            settled = _with_copies(batch, copies)
            if parts:
                settled, gone = parts.taken_out(settled)
                if gone.num_rows:
                    writers.write(out / "removed" / shard.name, gone)
            writers.write(rejected, settled.filter(pc.is_valid(settled["reason"])).select(dropped.names))
            for language, rows in by_language(settled.filter(pc.is_null(settled["reason"]))):
                writers.write(out / "kept" / language / shard.name, rows.select(kept.names))
            if indexed:
                seen = index.rows_of(batch, settled[DUPLICATE_OF.name], indexed)
                writers.write(out / index.FOLDER / shard.name, seen)


def _with_copies(batch: pa.RecordBatch, copies: pa.Table) -> pa.RecordBatch:
    """The batch with the verdict on copies in it, and which document each is a copy of."""
    places = pc.index_in(batch["key"], copies["key"])
    copied = pc.is_valid(places)
    found = {name: copies[name].combine_chunks().take(places) for name in ("reason", "value", "duplicate_of")}
    columns = {name: batch[name] for name in batch.schema.names}
    columns["step"] = pc.if_else(copied, DUPLICATES, batch["step"])
    columns["reason"] = pc.coalesce(found["reason"], batch["reason"])
    columns["value"] = pc.coalesce(found["value"], batch["value"])
    columns[DUPLICATE_OF.name] = found[DUPLICATE_OF.name]
    return pa.RecordBatch.from_pydict(columns, pa.schema([*batch.schema, DUPLICATE_OF]))
