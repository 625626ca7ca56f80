"""Parquet files, local or not, in batches of bounded size."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import pyarrow as pa
import pyarrow.parquet as pq

from caravan.curate.columns import column_names, need_columns
from caravan.curate.lines import BATCH_BYTES, BATCH_ROWS, first_line
from caravan.curate.rows import BrokenFileError
from caravan.curate.shards import Shard
from caravan.curate.stores import open_file

BUFFER = 1 << 18  # a column of a row group is read in pieces of this many bytes


def parquet_batches(shard: Shard, columns: list[str]) -> Iterator[tuple[int, pa.RecordBatch]]:
    """Batches of some columns of a Parquet file, each with the number of rows before it.

    Raises:
        BrokenFileError: not Parquet, or truncated; at the end, if row groups were damaged.
        DataError: a column is missing.
    """
    lost: list[str] = []
    rows = shard.first_row
    with _opened(shard) as file:
        need_columns(shard, columns, column_names(file.schema_arrow))
        for index in range(file.num_row_groups) if shard.groups is None else shard.groups:
            group = file.metadata.row_group(index)
            last = rows + group.num_rows
            try:
                for batch in file.iter_batches(_rows_at_once(group, columns), [index], columns):
                    yield rows, batch
                    rows += batch.num_rows
            except (pa.ArrowException, OSError) as error:
                lost.append(f"rows {rows + 1:,} to {last:,}: {first_line(error)}")
            rows = last
    if lost:
        raise BrokenFileError("; ".join(lost))


@contextlib.contextmanager
def _opened(shard: Shard) -> Iterator[pq.ParquetFile]:
    try:
        with (
            open_file(shard.path, shard.options) as raw,
            pq.ParquetFile(raw, buffer_size=BUFFER, page_checksum_verification=True) as file,
        ):
            yield file
    except (pa.ArrowException, OSError) as error:
        raise BrokenFileError(first_line(error)) from error


def _rows_at_once(group: pq.RowGroupMetaData, columns: list[str]) -> int:
    """Rows of about BATCH_BYTES bytes in those columns."""
    roots = {name.split(".")[0] for name in columns} | set(columns)
    parts = map(group.column, range(group.num_columns))
    named = ((part.path_in_schema, part.total_uncompressed_size) for part in parts)
    size = sum(size for name, size in named if name in roots or name.split(".")[0] in roots)
    return max(1, min(BATCH_ROWS, BATCH_BYTES * group.num_rows // max(size, 1)))


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
