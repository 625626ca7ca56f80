"""Curation on a Ray cluster of this machine, in a process of its own: what Ray and Daft start stays there."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from caravan.core.errors import MissingDependencyError
from caravan.core.files import read_json
from caravan.curate.stage import check, run
from caravan.recipe.curate import CurateConfig
from tests.curate.conftest import configuration, context, sentences, write_jsonl, write_parquet
from tests.curate.test_stage import files

SHARDS = 12
# One node is killed when a third of the shards are there and it is at work, so that it dies with one in its hands.
ON_A_CLUSTER = """
import json, sys, threading, time
from pathlib import Path
import psutil, ray
from ray.cluster_utils import Cluster
from caravan.core.errors import DataError
from caravan.core.stage import StageContext
from caravan.curate.stage import run
from caravan.recipe.curate import CurateConfig

def at_work(node):
    processes = psutil.Process(node.all_processes["raylet"][0].process.pid).children(recursive=True)
    return any("spawn_main" in " ".join(process.cmdline()) for process in processes)

def kill_half_way(cluster, node, judged, count):
    while len(list(judged.glob("0*.parquet"))) < count or not at_work(node):
        time.sleep(0.02)
    cluster.remove_node(node, allow_graceful=False)

base, shards = Path(sys.argv[1]), int(sys.argv[2])
good, bad = (CurateConfig.model_validate_json(text) for text in sys.argv[3:])
soon = {"health_check_initial_delay_ms": 0, "health_check_period_ms": 500, "health_check_failure_threshold": 4}
cluster = Cluster()
cluster.add_node(num_cpus=1, object_store_memory=80 << 20, include_dashboard=False, _system_config=soon)
node = cluster.add_node(num_cpus=1, object_store_memory=80 << 20)
ray.init(address=cluster.address, log_to_driver=False)
nodes = [len([node for node in ray.nodes() if node["Alive"]])]
context = StageContext(out=base / "out", inputs={}, base=base, seed=7, languages=("en",))
judged = base / "out" / "work" / "judged"
killer = threading.Thread(target=kill_half_way, args=(cluster, node, judged, shards // 3))
killer.start()
counts = run(good, context)
killer.join()
# The cluster knows a node as lost some seconds after its death.
end = time.monotonic() + 60
while len([node for node in ray.nodes() if node["Alive"]]) > 1 and time.monotonic() < end:
    time.sleep(0.1)
nodes.append(len([node for node in ray.nodes() if node["Alive"]]))
fault = []
try:
    run(bad, StageContext(out=base / "bad", inputs={}, base=base, seed=7, languages=("en",)))
except DataError as error:
    fault = [error.where, error.fix]
(base / "result.json").write_text(json.dumps({"nodes": nodes, "counts": counts, "fault": fault}))
"""


def test_a_cluster_that_loses_a_node_gives_the_same_corpus_to_the_byte(tmp_path: Path) -> None:
    pytest.importorskip("ray", reason="the extra `ray` is not installed")
    pytest.importorskip("daft", reason="the extra `ray` is not installed")
    for number in range(SHARDS):
        write_parquet(tmp_path / f"{number:02d}.parquet", text=sentences(300, start=280 * number))
    (tmp_path / "bad").mkdir()
    (tmp_path / "bad" / "a.jsonl").write_bytes(bytes(1000))
    good, bad = ({"path": path, "language": "en"} for path in ("*.parquet", "bad/*.jsonl"))
    recipes = [configuration(source, engine="ray").model_dump_json() for source in (good, bad)]
    # Ray runs its workers at the lowest priority but four, which on a busy machine is none.
    quiet = {"RAY_worker_niceness": "0", "RAY_prestart_worker_first_driver": "0", "RAY_AUTH_MODE": "disabled",
             "RAY_USAGE_STATS_ENABLED": "0", "DO_NOT_TRACK": "1"}  # fmt: skip
    command = [sys.executable, "-c", ON_A_CLUSTER, str(tmp_path), str(SHARDS), *recipes]
    done = subprocess.run(command, env={**os.environ, **quiet}, capture_output=True, text=True, timeout=240)
    assert done.returncode == 0, done.stderr[-3000:]
    result: dict[str, Any] = read_json(tmp_path / "result.json")
    assert result["nodes"] == [2, 1]
    assert result["counts"]["documents_read"] == SHARDS * 300
    assert result["fault"][0] == "bad/a.jsonl"
    assert "curate.broken=skip" in result["fault"][1]
    (tmp_path / "out").rename(tmp_path / "cluster")
    assert run(configuration(good), context(tmp_path, ("en",))) == result["counts"]
    assert files(tmp_path / "cluster") == files(tmp_path / "out")


def test_without_ray_the_error_names_the_extra(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_jsonl(tmp_path / "a.jsonl", sentences(2))
    config: CurateConfig = configuration({"path": "a.jsonl"}, engine="ray")
    monkeypatch.setattr("caravan.curate.stage.RAY_LIBRARIES", {"daft_that_is_not_there": "daft"})
    (fault,) = check(config, context(tmp_path))
    assert isinstance(fault, MissingDependencyError)
    assert 'pip install "caravan[ray]"' in str(fault.fix)
