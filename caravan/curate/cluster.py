"""Shards on the nodes of a Ray cluster, handed out by Daft; each node judges as this machine would by itself.

Only shards' names and faults pass through Daft. Text goes from the sources to the shard's own file, so that a node that
dies costs the shards in its hands, and those come out of another node's to the byte. All nodes see the run folder and
local sources at the same paths.
"""

from __future__ import annotations

import functools
import os
import pickle
import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import daft

from caravan.core.errors import CaravanError
from caravan.curate.evaluation_sets import FOLDER
from caravan.curate.judge import compiled, judge_here, open_pool
from caravan.curate.shards import Shard
from caravan.recipe.curate import CurateConfig

_opening = threading.Lock()


@functools.lru_cache(maxsize=1)
def _pool(packed: bytes) -> ProcessPoolExecutor:
    """A node's processes, kept from shard to shard: Daft makes whatever a query holds anew for each of them."""
    config, languages, folder, here = pickle.loads(packed)
    os.chdir(here)  # the recipe's paths may be relative
    parts = config, languages, folder.with_name(FOLDER)
    if config.processes() > 1:
        compiled(*parts)
    return open_pool(config.processes(), *parts)


def _judge(shard: Shard, folder: Path, packed: bytes) -> bytes:
    """Judge a shard on the node where this runs; what is wrong with its file comes back pickled, Daft would lose it."""
    with _opening:
        pool = _pool(packed)
    try:
        pool.submit(judge_here, shard, folder / shard.file).result()
    except CaravanError as fault:
        return pickle.dumps(fault)
    return b""


def judge_on_ray(
    todo: Sequence[Shard], config: CurateConfig, languages: tuple[str, ...], folder: Path
) -> Iterator[Shard]:
    """Judge shards into `folder`; yields each when it is finished.

    The cluster is the one that RAY_ADDRESS names, else one that was started on this machine, else this machine alone.
    A shard is a partition of its own: Daft gives those of a node that died to the others. That holds for workers of
    Daft's own choosing only: with `max_concurrency` a query waits for ever for the actors of a dead node (0.7.26).

    Raises:
        DataError: a file is broken and the recipe says `broken: fail`, or a column is missing.
    """
    daft.set_runner_ray(noop_if_initialized=True)
    packed = pickle.dumps((config, languages, folder, Path.cwd()))

    @daft.func
    def judge(shard: bytes) -> bytes:
        return _judge(pickle.loads(shard), folder, packed)

    shards = daft.from_pydict({"shard": [pickle.dumps(shard) for shard in todo]}).into_partitions(len(todo))
    faults = shards.select(judge(daft.col("shard")).alias("fault"))
    for shard, row in zip(todo, faults.iter_rows(results_buffer_size=None), strict=True):
        if row["fault"]:
            raise pickle.loads(row["fault"])
        yield shard
