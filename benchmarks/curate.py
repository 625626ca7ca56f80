"""Curation side by side: language identification, rules and MinHash deduplication, end to end, on one core.

    python benchmarks/curate.py CORPUS [--datatrove PYTHON] [--data-juicer PYTHON] [--models FOLDER]
        [--mb 40] [--peer-mb 20] [--copies 1 10 40] [--at 10]

CORPUS: a folder of Parquet files with a column `text`. A peer is measured where the Python that has it is named:
`pip install "datatrove[processing]" "spacy[ja]" jieba pyvi pythainlp "kiwipiepy<0.22"`, `pip install py-data-juicer
aiohttp`. Peers get a part of the corpus, as much as `--peer-mb` says; Caravan gets all of it, or `--mb`, as many times
as `--copies` says, each copy with its words in another order, so that copies are new documents. `--models`: a folder
with `lm` and `quality`, as `caravan curate train-lm` and `train-classifier` write them; no peer is given such filters.
Rates are MB of text a CPU second of the process and all its children, start-up, reading and writing included.
"""

from __future__ import annotations

import argparse
import functools
import json
import os
import random
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import yaml
from rich.console import Console
from rich.table import Table

from caravan.curate.language import model_file

HERE = Path(__file__).parent
MEGABYTE = 1_000_000
# What the peers are not asked to do.
LIKE_PEERS = {
    "repairs": {"mojibake": False, "invisible": False, "whitespace": False, "url_lines": False, "max_word": None,
                "boilerplate": []},
    "privacy": {"email": None, "phone": None, "ip": None, "id": None},
}  # fmt: skip
ONE_CORE = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "ARROW_NUM_THREADS": "1", "RAYON_NUM_THREADS": "1"}


@functools.cache
def order(count: int, copy: int) -> list[int]:
    """The places of so many words in one copy."""
    places = list(range(count))
    random.Random(f"{copy} {count}").shuffle(places)
    return places


def shuffled(text: str, copy: int) -> str:
    """The same words in another order, line by line; scripts without spaces by groups of characters."""
    lines = []
    for line in text.split("\n"):
        words, joint = line.split(" "), " "
        if len(line) > 40 * len(words):
            words, joint = [line[i : i + 3] for i in range(0, len(line), 3)], ""
        lines.append(joint.join(map(words.__getitem__, order(len(words), copy))))
    return "\n".join(lines)


def texts_of(corpus: Path) -> Iterator[list[str]]:
    for file in sorted(corpus.glob("*.parquet")):
        yield pq.read_table(file, columns=["text"])["text"].to_pylist()


def write_copy(corpus: Path, out: Path, copy: int, most: float = float("inf")) -> tuple[float, int]:
    """Write the documents as Parquet files, up to so many MB; returns MB of text, and documents."""
    out.mkdir(parents=True)
    size, documents = 0.0, 0
    for number, texts in enumerate(texts_of(corpus)):
        lengths = np.cumsum([len(text.encode()) for text in texts])
        texts = texts[: int((lengths <= (most - size) * MEGABYTE).sum())]
        if texts:
            column = pa.array([shuffled(text, copy) for text in texts] if copy else texts, pa.large_string())
            ids = pa.array([f"{copy}-{number}-{index}" for index in range(len(column))])
            pq.write_table(pa.table({"id": ids, "text": column}), out / f"{number:05d}.parquet", compression="zstd")
            size, documents = size + int(lengths[len(texts) - 1]) / MEGABYTE, documents + len(texts)
    return size, documents


def measured(command: list[str], log: Path) -> dict[str, float]:
    """CPU seconds of a command and all its children, wall time, and the largest resident set of one process in GB."""
    start = time.time()
    with log.open("a") as file:
        process = subprocess.Popen(command, stdout=file, stderr=subprocess.STDOUT, env={**os.environ, **ONE_CORE})
        _, status, used = os.wait4(process.pid, 0)
    if status:
        raise SystemExit(f"{' '.join(command)} failed; see {log}")
    cpu = used.ru_utime + used.ru_stime
    return {"cpu_s": cpu, "wall_s": time.time() - start, "max_rss_gb": used.ru_maxrss / 1e6}


def caravan(sources: list[Path], out: Path, settings: dict[str, Any]) -> list[str]:
    recipe = {
        "name": "benchmark",
        "curate": {
            "sources": [{"path": str(source / "*.parquet"), "columns": {"id": "id"}} for source in sources],
            "workers": 1,
            **settings,
        },
    }
    path = out.with_suffix(".yaml")
    path.write_text(yaml.safe_dump(recipe))
    return [sys.executable, "-m", "caravan", "run", str(path), f"output={out}"]


def peer(name: str, python: str, source: Path, out: Path) -> list[str]:
    return [python, str(HERE / "peers" / f"{name}_curate.py"), str(source), str(out), str(model_file())]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("corpus", type=Path)
    parser.add_argument("--datatrove", help="Python that has datatrove")
    parser.add_argument("--data-juicer", help="Python that has data-juicer")
    parser.add_argument("--models", type=Path, help="folder with `lm` and `quality`")
    parser.add_argument("--peer-mb", type=float, default=30)
    parser.add_argument("--mb", type=float, default=float("inf"), help="of text, that a copy has")
    parser.add_argument("--copies", type=int, nargs="+", default=[1, 4])
    parser.add_argument("--at", type=int, default=1, help="copies with which more than the peers' steps is measured")
    parser.add_argument("--out", type=Path, default=Path("runs/benchmarks"))
    given = parser.parse_args()
    given.out.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=given.out) as folder:
        rows = run_all(given, Path(folder))
    (given.out / "curate.json").write_text(json.dumps(rows, indent=2) + "\n")
    show(rows)


def variants(models: Path | None) -> dict[str, dict[str, Any]]:
    """What Caravan is measured with: the steps of its peers, and where models are given, more."""
    found: dict[str, dict[str, Any]] = {"": LIKE_PEERS}
    if models:
        found[", with all defaults"] = {}
        learned = {"perplexity": models.resolve() / "lm", "quality": models.resolve() / "quality"}
        sections = {name: {"models": str(folder)} for name, folder in learned.items()}
        found[", with n-gram models and classifier"] = LIKE_PEERS | sections
        found[", with all defaults, n-gram models and classifier"] = sections
    return found


def run_all(given: argparse.Namespace, work: Path) -> list[dict[str, Any]]:
    """Every pipeline once, peers first; what a run wrote is removed before the next."""
    tasks: list[tuple[str, float, int, list[str]]] = []
    if given.datatrove or given.data_juicer:
        part, sizes = work / "part", write_copy(given.corpus, work / "part", 0, given.peer_mb)
        for name, python in (("datatrove", given.datatrove), ("datajuicer", given.data_juicer)):
            if python:
                tasks.append((name, *sizes, peer(name, python, part, work / f"out-{name}")))
    copies = [work / f"copy-{copy}" for copy in range(max(given.copies))]
    measures = [write_copy(given.corpus, path, copy, given.mb) for copy, path in enumerate(copies)]
    for many in given.copies:
        sizes = (sum(size for size, _ in measures[:many]), sum(documents for _, documents in measures[:many]))
        for words, settings in variants(given.models if many == given.at else None).items():
            out = work / f"out-{len(tasks)}"
            tasks.append((f"caravan, {many}x{words}", *sizes, caravan(copies[:many], out, settings)))
    rows = []
    for name, size, documents, command in tasks:
        found = measured(command, given.out / f"{name.split(',')[0]}.log")
        each = {"mb_per_cpu_s": size / found["cpu_s"], "cpu_ms_per_document": 1000 * found["cpu_s"] / documents}
        rows.append({"name": name, "mb": size, "documents": documents, **found, **each})
        Console(stderr=True).print(rows[-1])
        for left in work.glob("out-*/"):
            shutil.rmtree(left)
    return rows


def show(rows: list[dict[str, Any]]) -> None:
    """A table; each rate also as a multiple of the peers'."""
    peers = [row for row in rows if not row["name"].startswith("caravan")]
    head = ("pipeline", "MB", "documents", "CPU s", "MB a CPU s", "CPU ms a document", "GB")
    table = Table(*head, *(f"x {row['name']}" for row in peers))
    for row in rows:
        ratios = (f"{row['mb_per_cpu_s'] / other['mb_per_cpu_s']:.1f}" for other in peers)
        sizes = (f"{row['mb']:.1f}", f"{row['documents']:,}")
        costs = (f"{row[name]:.2f}" for name in ("cpu_s", "mb_per_cpu_s", "cpu_ms_per_document", "max_rss_gb"))
        table.add_row(row["name"], *sizes, *costs, *ratios)
    Console().print(table)


if __name__ == "__main__":
    main()
