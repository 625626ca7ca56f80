"""Parquet files, local or not, in batches of bounded size."""

from __future__ import annotations

from collections.abc import Iterator

import pyarrow as pa
import pyarrow.parquet as pq

from caravan.curate.columns import column_names, need_columns
from caravan.curate.lines import BATCH_BYTES, BATCH_ROWS, BLOCK, first_line
from caravan.curate.rows import BrokenFileError
from caravan.curate.shards import Shard
from caravan.curate.stores import open_file


def parquet_batches(shard: Shard, columns: list[str]) -> Iterator[tuple[int, pa.RecordBatch]]:
    """Batches of some columns of a Parquet file, each with the number of rows before it.

    Raises:
        BrokenFileError: not Parquet, truncated, or damaged further on.
        DataError: a column is missing.
    """
    try:
        with open_file(shard.path, shard.options) as raw, pq.ParquetFile(raw, buffer_size=BLOCK) as file:
            need_columns(shard, columns, column_names(file.schema_arrow))
            groups = list(range(file.num_row_groups) if shard.groups is None else shard.groups)
            rows = shard.first_row
            for batch in file.iter_batches(_rows_at_once(file.metadata, groups, columns), groups, columns):
                yield rows, batch
                rows += batch.num_rows
    except (pa.ArrowException, OSError) as error:
        raise BrokenFileError(first_line(error)) from error


def _rows_at_once(metadata: pq.FileMetaData, groups: list[int], columns: list[str]) -> int:
    """Rows of about BATCH_BYTES bytes, where those columns are widest."""
    roots = {name.split(".")[0] for name in columns} | set(columns)
    widest = 1
    for group in map(metadata.row_group, groups):
        parts = map(group.column, range(group.num_columns))
        size = sum(
            part.total_uncompressed_size
            for part in parts
            if part.path_in_schema in roots or part.path_in_schema.split(".")[0] in roots
        )
        widest = max(widest, size // max(group.num_rows, 1))
    return max(1, min(BATCH_ROWS, BATCH_BYTES // widest))


def parquet_columns(shard: Shard) -> list[str]:
    """Names of the columns of a Parquet file, and as `a.b` of their fields.

    Raises:
        BrokenFileError: not Parquet.
    """
    try:
        with open_file(shard.path, shard.options) as file:
            return column_names(pq.read_schema(file))
    except (pa.ArrowException, OSError) as error:
        raise BrokenFileError(first_line(error)) from error
