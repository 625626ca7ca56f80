"""Which documents are copies of which, over all shards: groups of equal hashes and of shared LSH bands.

DuckDB groups and spills to disk; in memory are only the documents that share something with another one.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import numpy.typing as npt
import pyarrow as pa
from numba import njit

from caravan.core.errors import DiskFullError
from caravan.core.files import says_full_disk, write_table
from caravan.recipe.curate import DuplicateConfig

SCHEMA = pa.schema([
    ("key", pa.int64()), ("reason", pa.string()), ("value", pa.float64()), ("duplicate_of", pa.string()),
])  # fmt: skip
EXACT, NEAR = "exact copy", "near copy"

Keys = npt.NDArray[np.int64]

# The first document of each group of equal values, beside every other one of the group.
SAME_HASH = """
    WITH groups AS (SELECT language, hash, min(key) AS first FROM documents GROUP BY ALL HAVING count(*) > 1)
    SELECT key, first FROM documents JOIN groups USING (language, hash) WHERE key <> first
"""
SAME_BAND = """
    WITH bands AS (SELECT language, key, bands[{band}] AS band FROM documents),
    groups AS (SELECT language, band, min(key) AS first FROM bands GROUP BY ALL HAVING count(*) > 1)
    SELECT key, first FROM bands JOIN groups USING (language, band) WHERE key <> first
"""
# One document of each group stays; the others are dropped, as exact copies if their hash is that of the kept one.
VERDICTS = f"""
    WITH members AS (
        SELECT root, key, id, hash, row_number() OVER (PARTITION BY root ORDER BY {{order}}) AS place,
               count(*) OVER (PARTITION BY root) AS size
        FROM groups JOIN documents USING (key)
    )
    SELECT copy.key AS key, CASE WHEN copy.hash = kept.hash THEN '{EXACT}' ELSE '{NEAR}' END AS reason,
           copy.size::DOUBLE AS value, kept.id AS duplicate_of
    FROM members copy JOIN members kept ON copy.root = kept.root AND kept.place = 1
    WHERE copy.place > 1 ORDER BY copy.key
"""
ORDERS = {"first": "key", "longest": "strlen(text) DESC, key"}


def connect(memory: str, spill: Path) -> duckdb.DuckDBPyConnection:
    """DuckDB in this process with a limit of memory, beyond which it writes to `spill`."""
    connection = duckdb.connect()
    connection.execute(f"SET memory_limit = '{memory}'")
    connection.execute("SET temp_directory = ?", [str(spill)])
    return connection


@contextlib.contextmanager
def _room(memory: str, spill: Path) -> Iterator[None]:
    """DuckDB's own words for a full disk, and for memory and spill exhausted, as one of our errors."""
    try:
        yield
    except (duckdb.OutOfMemoryException, duckdb.IOException) as error:
        if isinstance(error, duckdb.IOException) and not says_full_disk(error):
            raise
        raise DiskFullError(
            "no room to group the documents",
            where=str(spill),
            expected=f"disk for what goes beyond {memory} of memory",
            got=str(error).splitlines()[0],
            fix="free some space, or raise `memory` of the duplicates step, and run the same command again",
        ) from error


def find_duplicates(shards: list[Path], config: DuplicateConfig, target: Path) -> None:
    """Write the verdict on every copy, ordered by key.

    Args:
        shards: files of judged documents.
        target: file to write, in SCHEMA; `value` is the size of the group, `duplicate_of` the document that stays.

    Raises:
        DiskFullError: neither memory nor disk has room for the grouping.
    """
    spill = target.parent / "spill"
    with _room(config.memory, spill), connect(config.memory, spill) as connection:
        judged = connection.read_parquet([str(path) for path in shards])
        judged.filter("reason IS NULL").create_view("documents")
        edges = _edges(connection, config)
        nodes, links = np.unique(edges, return_inverse=True)
        roots = components(len(nodes), links.reshape(edges.shape))
        groups = pa.table({"key": nodes, "root": roots})
        connection.register("groups", groups)
        found: pa.Table = connection.sql(VERDICTS.format(order=ORDERS[config.keep])).to_arrow_table()
    write_table(target, found.cast(SCHEMA), row_group_size=1 << 16)


def _edges(connection: duckdb.DuckDBPyConnection, config: DuplicateConfig) -> Keys:
    """Pairs of keys that share a hash or a band [edges, 2], each pair once."""
    queries = [SAME_HASH] if config.exact else []
    queries += [SAME_BAND.format(band=band + 1) for band in range(config.bands)] if config.near else []
    found: list[Any] = [np.empty((0, 2), np.int64)]
    for query in queries:
        columns = connection.execute(query).fetchnumpy()
        found.append(np.stack([columns["key"], columns["first"]], axis=1))
    return np.unique(np.concatenate(found), axis=0)


@njit(cache=True)
def components(count: int, links: Keys) -> Keys:
    """Smallest member of each node's connected component, by union-find with path halving.

    Args:
        count: number of nodes.
        links: linked nodes [links, 2].
    """
    parent = np.arange(count)
    for link in range(len(links)):
        ends = links[link].copy()
        for side in range(2):
            while parent[ends[side]] != ends[side]:
                parent[ends[side]] = parent[parent[ends[side]]]
                ends[side] = parent[ends[side]]
        parent[max(ends)] = min(ends)
    for node in range(count):
        parent[node] = parent[parent[node]]
    return parent
