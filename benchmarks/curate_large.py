"""Memory of curation as data grows: a corpus of many gigabytes, or one line of some, by all processes together.

    python benchmarks/curate_large.py CORPUS [--gb 10] [--workers 2] [--memory 1GB] [--out FOLDER]
    python benchmarks/curate_large.py --line-gb 2

CORPUS: a folder of Parquet files with a column `text`. It is written as many times as it takes, each time with the
pieces of every document in another order; each tenth document stays as it is, so that copies form large groups. Every
second the memory of the run and all its children is added up: `peak_rss_gb` is the highest sum of resident sets,
`peak_pss_gb` of proportional ones (pages that processes share are counted once), `max_rss_gb` the highest VmHWM of any
one of them. Rates are MB of text a CPU second.
"""

from __future__ import annotations

import argparse
import json
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import psutil
import pyarrow as pa
import pyarrow.parquet as pq
import yaml
from numba import njit

MEGABYTE = 1_000_000
PIECE = 12  # bytes of a piece, at least, in scripts without spaces
UNCHANGED = 10
GROUP = 4096
STRIDES = [2, 3, 5, 7, 11, 13, 17, 19, 23, 29, 31, 37, 41, 43, 47, 53, 59, 61, 67, 71, 73, 79, 83, 89, 97]
Bytes = npt.NDArray[np.uint8]
Longs = npt.NDArray[np.int64]


@njit(cache=True)
def permuted(data: Bytes, offsets: Longs, stride: int, out: Bytes) -> None:
    """Write each text (UTF-8, by offsets) with its words, or groups of characters, in steps of `stride`, round and on.

    Each piece comes once: where the number of pieces is a multiple of the stride, the next larger step is taken.
    """
    ends = np.empty(np.max(offsets[1:] - offsets[:-1]) + 1, np.int64)
    for row in range(len(offsets) - 1):
        first, last = offsets[row], offsets[row + 1]
        if row % UNCHANGED == 0:
            out[first:last] = data[first:last]
            continue
        count, start = 0, first
        for place in range(first, last):
            whole = place + 1 == last or data[place + 1] & 0xC0 != 0x80
            if data[place] <= 32 or (whole and place + 1 - start >= PIECE and data[place] >= 0x80):
                ends[count] = start = place + 1
                count += 1
        if start < last:
            ends[count] = last
            count += 1
        step = stride
        while count > 1 and np.gcd(count, step) > 1:
            step += 1
        at, piece = first, 0
        for _ in range(count):
            begin = ends[piece - 1] if piece else first
            out[at : at + ends[piece] - begin] = data[begin : ends[piece]]
            at += ends[piece] - begin
            piece = (piece + step) % count


def varied(texts: pa.Array, copy: int) -> pa.Array:
    """The texts, those of copy 0 unchanged."""
    offsets = np.frombuffer(texts.buffers()[1], np.int64)[texts.offset : texts.offset + len(texts) + 1]
    data = np.frombuffer(texts.buffers()[2], np.uint8)
    out = np.empty(offsets[-1], np.uint8)
    permuted(data, offsets, STRIDES[copy % len(STRIDES)] + 100 * (copy // len(STRIDES)), out)
    return pa.LargeStringArray.from_buffers(len(texts), pa.py_buffer(offsets), pa.py_buffer(out))


def write_corpus(corpus: Path, target: Path, size: float) -> float:
    """Write so many MB of text as Parquet; returns MB."""
    target.mkdir()
    written, copy = 0.0, 0
    while written < size:
        for number, file in enumerate(sorted(corpus.glob("*.parquet"))):
            texts = pq.read_table(file, columns=["text"])["text"].cast(pa.large_string()).combine_chunks()
            texts = varied(texts, copy - 1) if copy else texts
            path = target / f"{copy:04d}-{number:03d}.parquet"
            pq.write_table(pa.table({"text": texts}), path, compression="zstd", row_group_size=GROUP)
            written += texts.nbytes / MEGABYTE
        copy += 1
    return written


def write_line(target: Path, size: float) -> float:
    """Write a line of so many MB between two short ones, as JSONL; returns MB."""
    target.mkdir()
    good = json.dumps({"text": "The caravan carries letters from town to town, and nobody knows how long the road is."})
    with (target / "long.jsonl").open("wb") as stream:
        stream.write(f'{good}\n{{"text": "'.encode())
        for _ in range(int(size)):
            stream.write(b"sand and " * (MEGABYTE // 9) + b"again")
        stream.write(f'"}}\n{good.replace("road", "way")}\n'.encode())
        return stream.tell() / MEGABYTE


def measured(command: list[str], log: Path) -> dict[str, float]:
    """Run a command; its time and memory."""
    start = time.time()
    peak, most = np.zeros(2), 0
    cpu: dict[int, float] = {}
    with log.open("w") as file:
        process = psutil.Popen(command, stdout=file, stderr=subprocess.STDOUT)
        while process.poll() is None:
            total = np.zeros(2)
            for member in [process, *process.children(recursive=True)]:
                try:
                    memory = member.memory_full_info()
                    total += memory.rss, memory.pss
                    times = member.cpu_times()
                    cpu[member.pid] = times.user + times.system
                    status = Path(f"/proc/{member.pid}/status").read_text()
                except (psutil.Error, OSError):
                    continue
                most = max([most, *(int(line.split()[1]) for line in status.splitlines() if line.startswith("VmHWM"))])
            peak = np.maximum(peak, total)
            time.sleep(1)
    if process.returncode:
        raise SystemExit(log.read_text())
    return {
        "wall_s": time.time() - start,
        "cpu_s": sum(cpu.values()),
        "peak_rss_gb": peak[0] / 1e9,
        "peak_pss_gb": peak[1] / 1e9,
        "max_rss_gb": most / 1e6,
    }


def run(given: argparse.Namespace, work: Path) -> dict[str, Any]:
    if given.line_gb:
        size, source = write_line(work / "text", given.line_gb * 1000), "*.jsonl"
    else:
        size, source = write_corpus(given.corpus, work / "text", given.gb * 1000), "*.parquet"
    recipe = {
        "name": "benchmark",
        "curate": {
            "sources": [{"path": str(work / "text" / source)}],
            "workers": given.workers,
            "duplicates": {"memory": given.memory},
        },
    }
    (work / "recipe.yaml").write_text(yaml.safe_dump(recipe))
    out = work / "run"
    command = [sys.executable, "-m", "caravan", "run", str(work / "recipe.yaml"), f"output={out}"]
    found = measured(command, given.out / "curate_large.log")
    report = json.loads((out / "curate" / "report.json").read_text())
    counts = {name: report["documents"][name] for name in ("read", "kept")} | {"broken": report["broken"]}
    return {"mb": size, **found, "mb_per_cpu_s": size / found["cpu_s"], **counts}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("corpus", type=Path, nargs="?")
    parser.add_argument("--gb", type=float, default=10)
    parser.add_argument("--line-gb", type=float, default=0)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--memory", default="1GB")
    parser.add_argument("--out", type=Path, default=Path("runs/benchmarks"))
    given = parser.parse_args()
    if not (given.corpus or given.line_gb):
        parser.error("a folder of text, or --line-gb")
    given.out.mkdir(parents=True, exist_ok=True)
    work = Path(tempfile.mkdtemp(dir=given.out))
    try:
        found = run(given, work)
    finally:
        shutil.rmtree(work)
    with (given.out / "curate_large.json").open("a") as file:
        file.write(json.dumps(found) + "\n")
    print(json.dumps(found, indent=2))


if __name__ == "__main__":
    main()
