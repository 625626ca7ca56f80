"""Which documents are copies of which, over all shards: groups of equal hashes, and of what shares an LSH band.

DuckDB groups and spills to disk; in memory are only numbers of the documents that share something with another one.
"""

from __future__ import annotations

import contextlib
import functools
import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path

import duckdb
import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq
from numba import njit

from caravan.core.errors import DiskFullError
from caravan.core.files import atomic_path, says_full_disk
from caravan.core.progress import track
from caravan.curate.index import Index
from caravan.curate.signatures import columns
from caravan.curate.similarity import ShingleFile
from caravan.recipe.curate import CurateConfig

SCHEMA = pa.schema([
    ("key", pa.int64()), ("reason", pa.string()), ("value", pa.float64()), ("duplicate_of", pa.string()),
])  # fmt: skip
EXACT, NEAR, INDEXED = "exact copy", "near copy", "copy of indexed document"
DUPLICATES = "duplicates"  # the step
ROW_GROUP = 1 << 16

Keys = npt.NDArray[np.int64]

# What is indexed has negative keys, so that it comes before every document.
INDEX = """
    CREATE VIEW indexed AS
    SELECT ({starts})[file_index::BIGINT + 1] + file_row_number::BIGINT AS key, * FROM read_parquet({files})
"""
NO_INDEX = "CREATE VIEW indexed AS SELECT key, id, {hashes} FROM documents WHERE false"
ALL = """
    CREATE VIEW everything AS SELECT key, id, hash, {order} AS place FROM documents
    UNION ALL BY NAME SELECT key, id, hash FROM indexed
"""
# The first document of each group of equal values, beside every other one of the group that is not indexed.
SAME = """
    WITH members AS (
        SELECT key, {column} FROM documents
        UNION ALL SELECT key, {column} FROM indexed WHERE {column} IN (SELECT {column} FROM documents)
    ),
    groups AS (SELECT {column}, min(key) AS first FROM members GROUP BY {column} HAVING count(*) > 1)
    SELECT key, first FROM members JOIN groups USING ({column}) WHERE key >= 0 AND key <> first
"""
# One document of each group stays; every other one that is not indexed beside it.
KEPT = """
    SELECT key, kept FROM (
        SELECT key, first_value(key) OVER (PARTITION BY root ORDER BY key >= 0, place, key) AS kept
        FROM groups JOIN everything USING (key)
    ) WHERE key >= 0 AND key <> kept ORDER BY kept, key
"""
# The least of a group stays; a missing figure comes after all others.
ORDERS = {
    "first": "0",
    "longest": "-strlen(text)",
    "best": "row({figures}CASE WHEN repairs IS NULL THEN 0 ELSE len(string_split(repairs, ', ')) END, -strlen(text))",
}
FIGURES = {"quality": "-quality", "perplexity": "perplexity"}
VERDICTS = f"""
    SELECT copies.key AS key, CASE WHEN kept < 0 THEN '{INDEXED}' WHEN copy.hash = stays.hash THEN '{EXACT}'
           ELSE '{NEAR}' END AS reason,
           CASE WHEN copy.hash = stays.hash THEN 1 ELSE similarity END AS value, stays.id AS duplicate_of
    FROM copies JOIN documents copy ON copies.key = copy.key JOIN everything stays ON copies.kept = stays.key
    ORDER BY copies.key
"""
SKETCHES = "SELECT sketch FROM indexed JOIN nodes USING (key) ORDER BY key"


def connect(memory: str, threads: int, spill: Path) -> duckdb.DuckDBPyConnection:
    """DuckDB in this process with a limit of memory, beyond which it writes to `spill`."""
    connection = duckdb.connect()
    connection.execute(f"SET memory_limit = '{memory}'")
    connection.execute("SET temp_directory = ?", [str(spill)])
    connection.execute(f"SET threads = {threads}")
    # Whatever needs an order says so.
    connection.execute("SET preserve_insertion_order = false")
    return connection


@contextlib.contextmanager
def room(memory: str, spill: Path) -> Iterator[None]:
    """A folder for what goes beyond memory; a full disk, or both exhausted, in DuckDB's words, as one of our errors."""
    shutil.rmtree(spill, ignore_errors=True)
    spill.mkdir(parents=True)
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
    finally:
        shutil.rmtree(spill, ignore_errors=True)


def find_duplicates(shards: list[Path], config: CurateConfig, target: Path, against: Sequence[Index] = ()) -> None:
    """Write the verdict on every copy, ordered by key.

    Args:
        shards: files of judged documents.
        target: file to write, in SCHEMA; `duplicate_of` is the document that stays, `value` the Jaccard similarity of
            the two documents' shingles, 1 for an exact copy.
        against: indexes; what is a copy of a document in them goes, whichever is longer.

    Raises:
        DiskFullError: neither memory nor disk has room for the grouping.
    """
    spill, settings = target.parent / "spill", config.duplicates
    with room(settings.memory, spill), connect(settings.memory, config.processes(), spill) as connection:
        _create_views(connection, shards, config, against)
        exact, near = _pairs(connection, config)
        nodes = np.unique(np.concatenate([exact, near]))
        with ShingleFile(spill / "shingles", nodes) as sets:
            if len(near):
                connection.register("nodes", pa.table({"key": nodes[nodes < 0]}))
                sketches = connection.sql(SKETCHES).to_arrow_reader(ROW_GROUP) if nodes[0] < 0 else ()
                sets.collect(sketches, shards, functools.cache(config.shingle))
            links = np.concatenate([exact, near[sets.similarities(near) >= settings.verify]])
            copies = _copies(connection, links)
            similarity = sets.similarities(copies) if len(near) else np.ones(len(copies))
        verdicts = pa.table({"key": copies[:, 0], "kept": copies[:, 1], "similarity": similarity})
        connection.register("copies", verdicts)
        _write(connection, target)


def _create_views(
    connection: duckdb.DuckDBPyConnection, shards: list[Path], config: CurateConfig, against: Sequence[Index]
) -> None:
    judged = connection.read_parquet([str(path) for path in shards])
    judged.filter("reason IS NULL").create_view("documents")
    files = [str(file) for index in against for file in index.files]
    rows = [count for index in against for count in index.rows]
    if files:
        starts = np.cumsum([0, *rows])[:-1] - sum(rows)
        connection.execute(INDEX.format(starts=starts.tolist(), files=files))
    else:
        connection.execute(NO_INDEX.format(hashes=", ".join(columns(config.duplicates))))
    figures = "".join(f"{figure}, " for name, figure in FIGURES.items() if name in judged.columns)
    connection.execute(ALL.format(order=ORDERS[config.duplicates.keep].format(figures=figures)))


def _pairs(connection: duckdb.DuckDBPyConnection, config: CurateConfig) -> tuple[Keys, Keys]:
    """Pairs of keys that share a hash, and pairs that share a band [n, 2]: each with the first of all that share it."""
    connection.execute("CREATE TABLE exact (key BIGINT, first BIGINT)")
    connection.execute("CREATE TABLE near (key BIGINT, first BIGINT)")
    hashed, *bands = columns(config.duplicates)
    queries = [("exact", hashed)] if config.duplicates.exact else []
    queries += [("near", band) for band in bands]
    with track("duplicates", len(queries), "band") as bar:
        for table, column in queries:
            connection.execute(f"INSERT INTO {table} {SAME.format(column=column)}")
            bar.advance()
    return _fetch(connection, "SELECT key, first FROM exact"), _fetch(
        connection, "SELECT DISTINCT key, first FROM near ORDER BY first, key"
    )


def _fetch(connection: duckdb.DuckDBPyConnection, query: str) -> Keys:
    """Two columns of keys [n, 2]."""
    return np.stack(list(connection.execute(query).fetchnumpy().values()), axis=1).astype(np.int64)


def _copies(connection: duckdb.DuckDBPyConnection, links: Keys) -> Keys:
    """Every document of a group of linked ones but the kept one, beside that one [n, 2]."""
    nodes, places = np.unique(links, return_inverse=True)
    roots = components(len(nodes), places.reshape(links.shape).astype(np.int64))
    connection.register("groups", pa.table({"key": nodes, "root": roots}))
    return _fetch(connection, KEPT)


def _write(connection: duckdb.DuckDBPyConnection, target: Path) -> None:
    with atomic_path(target) as temporary, pq.ParquetWriter(temporary, SCHEMA, compression="zstd") as writer:
        for batch in connection.sql(VERDICTS).to_arrow_reader(ROW_GROUP):
            writer.write_batch(batch.cast(SCHEMA))


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
