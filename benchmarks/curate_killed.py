"""Curation that is killed at random moments and run again, against a run that nobody disturbed.

    python benchmarks/curate_killed.py CORPUS [--kills 10] [--mb 60] [--workers 2] [--seed 7] [--out FOLDER]

CORPUS: a folder of Parquet files with a column `text`; the first MB of it are written as 12 files. Each time `caravan
run` begins anew, gets SIGKILL at a moment drawn evenly from the time between the first finished piece and the end of
an undisturbed run, and the same command is run again to its end. Every file of the corpus is compared byte by byte
(but the manifest, which tells the time), and each row that went in must have come out once, kept or rejected.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import yaml
from pyarrow.dataset import dataset

FILES = 12
UNFINISHED = "curate.partial"  # what an artifact is called until it has a manifest


def write_input(corpus: Path, target: Path, megabytes: float) -> list[str]:
    """Write so many MB of text with ids; returns the ids."""
    target.mkdir()
    texts, size = [], 0
    for batch in dataset(corpus).to_batches(columns=["text"], batch_size=256):
        if size >= megabytes * 1e6:
            break
        texts.append(batch["text"])
        size += batch.nbytes
    table = pa.table({"text": pa.chunked_array(texts)})
    table = table.append_column("id", pa.array([f"document {row}" for row in range(len(table))]))
    step = -(-len(table) // FILES)
    for number in range(FILES):
        pq.write_table(table.slice(number * step, step), target / f"{number:02d}.parquet")
    return table["id"].to_pylist()


def hashes(folder: Path) -> dict[str, str]:
    """Every file of a corpus but its manifest."""
    return {
        str(file.relative_to(folder)): hashlib.sha256(file.read_bytes()).hexdigest()
        for file in sorted(folder.rglob("*"))
        if file.is_file() and file.name != "manifest.json"
    }


def once(folder: Path, ids: list[str]) -> bool:
    """Whether each row came out once."""
    rows = Counter(
        i for side in ("kept", "rejected") for i in dataset(folder / side).to_table(columns=["id"])["id"].to_pylist()
    )
    return rows == Counter(ids)


def state(folder: Path) -> dict[str, int | bool]:
    """How far a killed run had come."""
    work = folder / "work"
    return {
        "judged": len(list((work / "judged").glob("0*.parquet"))),
        "grouped": (work / "duplicates.parquet").is_file(),
        "settled": len(list((folder / "kept").rglob("*.parquet"))),
        "torn": len(list(folder.rglob(".*.tmp"))),
    }


def killed(command: list[str], out: Path, log: Path, moment: float) -> dict[str, Any] | None:
    """Begin anew, kill so many seconds after the first finished piece, run again; None: it had ended before."""
    shutil.rmtree(out, ignore_errors=True)
    with log.open("a") as file:
        process = subprocess.Popen(command, stdout=file, stderr=file)
        wait_for_piece(process, out)
        time.sleep(moment)
        process.send_signal(signal.SIGKILL)
        if process.wait() == 0:
            return None
        found = state(out / UNFINISHED)
        subprocess.run(command, stdout=file, stderr=file, check=True)
    return found


def wait_for_piece(process: subprocess.Popen[bytes], out: Path) -> None:
    while process.poll() is None and not state(out / UNFINISHED)["judged"]:
        time.sleep(0.01)


def run(given: argparse.Namespace, work: Path) -> dict[str, Any]:
    ids = write_input(given.corpus, work / "text", given.mb)
    sources = [{"path": str(work / "text" / "*.parquet"), "columns": {"id": "id"}}]
    recipe = {"name": "killed", "curate": {"sources": sources, "workers": given.workers}}
    (work / "recipe.yaml").write_text(yaml.safe_dump(recipe))
    out, log = work / "run", given.out / "curate_killed.log"
    command = [sys.executable, "-m", "caravan", "run", str(work / "recipe.yaml"), f"output={out}"]
    with log.open("w") as file:
        process = subprocess.Popen(command, stdout=file, stderr=file)
        wait_for_piece(process, out)
        start = time.monotonic()
        if process.wait():
            raise SystemExit(log.read_text())
    seconds, undisturbed, draw = time.monotonic() - start, hashes(out / "curate"), random.Random(given.seed)
    whole, moments = once(out / "curate", ids), []
    while len(moments) < given.kills:
        moment = draw.uniform(0, seconds)
        if (found := killed(command, out, log, moment)) is None:
            continue
        now, each = hashes(out / "curate"), once(out / "curate", ids)
        other = sorted(name for name in now.keys() | undisturbed.keys() if now.get(name) != undisturbed.get(name))
        moments.append({"second": round(moment, 2), **found, "differing": other, "each row once": each})
        print(json.dumps(moments[-1]), flush=True)
    passed = whole and all(moment["each row once"] and not moment["differing"] for moment in moments)
    return {"documents": len(ids), "files": len(undisturbed), "seconds": seconds, "kills": moments, "passed": passed}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("corpus", type=Path)
    parser.add_argument("--kills", type=int, default=10)
    parser.add_argument("--mb", type=float, default=60)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--seed", type=int, default=7)
    parser.add_argument("--out", type=Path, default=Path("runs/benchmarks"))
    given = parser.parse_args()
    given.out.mkdir(parents=True, exist_ok=True)
    work = Path(tempfile.mkdtemp(dir=given.out))
    try:
        found = run(given, work)
    finally:
        shutil.rmtree(work)
    (given.out / "curate_killed.json").write_text(json.dumps(found, indent=2))
    print(json.dumps({name: value for name, value in found.items() if name != "kills"}))
    return 0 if found["passed"] else 1


if __name__ == "__main__":
    sys.exit(main())
