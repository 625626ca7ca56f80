"""Deduplication: recall and precision by true Jaccard similarity, and what a document costs as documents grow.

    python benchmarks/curate_duplicates.py CORPUS [--copies 1 10 40] [--settings NAME ...] [--memory 1GB] [--out FOLDER]

CORPUS: a folder of Parquet files with columns `id, lang, text, dup_of, jw`: the document that a row was made from and
the true Jaccard similarity of the two, of shingles of 5 words (8 characters in zh, ja, th). Recall counts the pairs of
which both sides got past the rules. Precision takes every document that went as a near copy, and asks how alike it is
to the one that stayed, computed anew from the texts. Cost is CPU time of one process without start-up; the corpus comes
as many times as `--copies` says, each copy in an alphabet of its own, so that it brings new documents and as many
copies among them.
"""

from __future__ import annotations

import argparse
import itertools
import json
import random
import re
import resource
import shutil
import subprocess
import sys
import tempfile
import unicodedata
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from pyarrow.dataset import dataset
from rich.console import Console
from rich.table import Table

from caravan.core.stage import StageContext
from caravan.recipe.curate import CurateConfig
from caravan.records import LANGUAGES

UNSPACED = {"zh", "ja", "th"}
SETTINGS: dict[str, dict[str, Any]] = {
    "defaults": {},
    "without verification": {"verify": 0},
    "14 x 8": {"rows": 8},
    "14 x 8 without verification": {"rows": 8, "verify": 0},
    "20 x 5": {"bands": 20, "rows": 5},
    "20 x 5 without verification": {"bands": 20, "rows": 5, "verify": 0},
}


def shingles(text: str, language: str) -> set[str]:
    """As the labels of the corpus were made."""
    text = re.sub(r"[^\w\s]", "", text.lower())
    if language in UNSPACED:
        text = re.sub(r"\s+", "", text)
        return {text[i : i + 8] for i in range(max(1, len(text) - 7))}
    words = text.split()
    return {" ".join(words[i : i + 5]) for i in range(max(1, len(words) - 4))}


def quality(corpus: Path, out: Path) -> dict[str, float]:
    """Recall over labelled pairs, precision over what went as near copies."""
    columns = ["id", "text", "language", "reason", "duplicate_of"]
    copies = rows_of(out / "rejected", columns, pc.field("step") == "duplicates")
    kept = [row["id"] for row in rows_of(out / "kept", columns[:1], None)]
    stays = dict(zip(kept, kept, strict=True)) | {row["id"]: row["duplicate_of"] for row in copies}
    near = [row for row in copies if row["reason"] == "near copy"]
    wanted = pc.field("id").isin(list({row["duplicate_of"] for row in near}))
    originals = {row["id"]: row["text"] for row in rows_of(out / "kept", columns[:2], wanted)}
    # One pair of sets at a time.
    alike = [
        jaccard(*(shingles(text, row["language"]) for text in (row["text"], originals[row["duplicate_of"]])))
        for row in near
    ]
    labels = pa.concat_tables(pq.read_table(file, columns=["id", "dup_of", "jw"]) for file in corpus.glob("*.parquet"))
    pairs = [row for row in labels.to_pylist() if row["id"] in stays and row["dup_of"] in stays]
    found = {least: [stays[r["id"]] == stays[r["dup_of"]] for r in pairs if r["jw"] >= least] for least in (0.8, 0.7)}
    return {
        "pairs": len(found[0.8]), "near_copies": len(near), "exact_copies": len(copies) - len(near),
        **{f"recall_at_{least}": sum(hits) / len(hits) for least, hits in found.items()},
        "precision_at_0.6": sum(value >= 0.6 for value in alike) / len(near),
    }  # fmt: skip


def rows_of(folder: Path, columns: list[str], wanted: pc.Expression | None) -> list[dict[str, Any]]:
    """Some rows of all files in a folder."""
    files = [str(file) for file in sorted(folder.rglob("*.parquet"))]
    return dataset(files).to_table(columns=columns, filter=wanted).to_pylist()


def jaccard(a: set[str], b: set[str]) -> float:
    return len(a & b) / len(a | b)


def alphabet(characters: set[str], copy: int) -> dict[int, str]:
    """A letter for each letter, of the same kind and from the same 128 characters of Unicode; case goes along."""
    groups: dict[tuple[str, int], list[str]] = defaultdict(list)
    for character in sorted(characters):
        kind = unicodedata.category(character)
        cased = len(character.upper()) == 1 and character.upper().lower() == character
        if kind == "Lo" or (kind == "Ll" and cased):
            groups[kind, ord(character) >> 7].append(character)
    table: dict[int, str] = {}
    for letters in groups.values():
        others = random.Random(f"{copy} {letters[0]}").sample(letters, len(letters))
        for letter, other in zip(letters, others, strict=True):
            table |= {ord(letter): other, ord(letter.upper()): other.upper()}
    return table


def write_copies(corpus: Path, work: Path, many: int) -> None:
    """The corpus, and as many copies of it, each in an alphabet of its own."""
    for copy in range(many):
        (work / f"copy-{copy:03d}").mkdir()
        for file in sorted(corpus.glob("*.parquet")):
            table = pq.read_table(file, columns=["id", "lang", "text"])
            texts = table["text"].to_pylist()
            if copy:
                letters = alphabet(set().union(*texts), copy)
                texts = [text.translate(letters) for text in texts]
            table = table.set_column(2, "text", pa.array(texts, pa.large_string()))
            table = table.set_column(0, "id", pa.array(f"{copy}-{name}" for name in table["id"].to_pylist()))
            pq.write_table(table, work / f"copy-{copy:03d}" / file.name, compression="zstd")


def run_parts(spec: dict[str, Any]) -> dict[str, Any]:
    """The parts of the stage in this process: CPU seconds of each, documents, and the largest resident set."""
    from caravan.curate.duplicates import find_duplicates
    from caravan.curate.judge import judge_shards
    from caravan.curate.settle import settle_documents
    from caravan.curate.shards import plan

    def run(sources: list[str], out: Path, clock: Callable[[str], None]) -> int:
        columns = {"id": "id", "language": "lang"}
        files = [{"path": source, "columns": columns} for source in sources]
        # Copies in other alphabets are in no language.
        language = {"contradiction_characters": 1 << 40}
        chosen = {"sources": files, "workers": 1, "language": language, "duplicates": spec["duplicates"]}
        config = CurateConfig.model_validate(chosen)
        context = StageContext(out=out, inputs={}, base=Path.cwd(), seed=7, languages=LANGUAGES)
        shards = plan(config, context, out / "work")
        judge_shards(shards, config, LANGUAGES, out / "work" / "judged")
        clock("judge")
        judged = [out / "work" / "judged" / shard.file for shard in shards]
        find_duplicates(judged, config, out / "work" / "duplicates.parquet")
        clock("duplicates")
        settle_documents(judged, out / "work" / "duplicates.parquet", None, config, out)
        clock("settle")
        return sum(pq.read_metadata(file).num_rows for file in judged)

    def cpu() -> float:
        used = resource.getrusage(resource.RUSAGE_SELF)
        return used.ru_utime + used.ru_stime

    # What is compiled or loaded at first use is no cost of a document.
    run([spec["first"]], Path(spec["out"]) / "first", lambda _: None)
    times = [("start", cpu())]
    documents = run(spec["sources"], Path(spec["out"]) / "corpus", lambda name: times.append((name, cpu())))
    parts = {name: after - before for (_, before), (name, after) in itertools.pairwise(times)}
    # Of this process alone; `ru_maxrss` would be the parent's before the start, where that was larger.
    peak = re.search(r"VmHWM:\s+(\d+) kB", Path("/proc/self/status").read_text())
    assert peak is not None
    return {"documents": documents, **parts, "max_rss_gb": int(peak[1]) / 1e6}


def measured(work: Path, first: Path, sources: list[Path], duplicates: dict[str, Any]) -> dict[str, Any]:
    """`run_parts` in a process of its own, into work/out."""
    shutil.rmtree(work / "out", ignore_errors=True)
    (work / "out").mkdir()
    spec = {"first": str(first), "sources": [str(source / "*.parquet") for source in sources]}
    spec |= {"out": str(work / "out"), "duplicates": duplicates}
    with (work.parent / "curate_duplicates.log").open("w") as log:
        command = [sys.executable, __file__, "--parts", json.dumps(spec)]
        found = subprocess.run(command, check=True, stdout=subprocess.PIPE, stderr=log, text=True)
    return json.loads(found.stdout.splitlines()[-1])


def run_all(given: argparse.Namespace, work: Path) -> dict[str, list[dict[str, Any]]]:
    results: dict[str, list[dict[str, Any]]] = {"quality": [], "cost": []}
    first = work / "first.parquet"
    pq.write_table(pq.read_table(sorted(given.corpus.glob("*.parquet"))[0])[:2000], first)
    for name, settings in {name: SETTINGS[name] for name in given.settings}.items():
        cost = measured(work, first, [given.corpus], {"memory": given.memory, **settings})
        row = {"name": name, **quality(given.corpus, work / "out" / "corpus"), **cost}
        results["quality"].append(row)
        Console(stderr=True).print(row)
    if given.copies:
        write_copies(given.corpus, work, max(given.copies))
    for many in given.copies:
        sources = [work / f"copy-{copy:03d}" for copy in range(many)]
        cost = measured(work, first, sources, {"memory": given.memory})
        results["cost"].append({"copies": many, **cost})
        Console(stderr=True).print(results["cost"][-1])
    return results


def show(results: dict[str, list[dict[str, Any]]]) -> None:
    table = Table("settings", "pairs", "recall J >= .8", "J >= .7", "near copies", "precision J >= .6", "CPU s")
    for row in results["quality"]:
        shares = (f"{row[name]:.4f}" for name in ("recall_at_0.8", "recall_at_0.7", "precision_at_0.6"))
        recall, recall_too, precision = shares
        numbers = (f"{row['pairs']:,}", recall, recall_too, f"{row['near_copies']:,}", precision)
        table.add_row(row["name"], *numbers, f"{row['duplicates']:.2f}")
    Console().print(table)
    table = Table(
        "copies", "documents", "judge", "duplicates", "settle", "all, us a document", "growth", "of dedup", "GB"
    )
    base: dict[str, float] = {}
    for row in results["cost"]:
        parts = {name: 1e6 * row[name] / row["documents"] for name in ("judge", "duplicates", "settle")}
        every = {"all": sum(parts.values()), "dedup": parts["duplicates"] + parts["settle"]}
        base = base or every
        growth = (f"{every[name] / base[name]:.3f}" for name in every)
        figures = [f"{value:.1f}" for value in (*parts.values(), every["all"])]
        table.add_row(f"{row['copies']}x", f"{row['documents']:,}", *figures, *growth, f"{row['max_rss_gb']:.2f}")
    Console().print(table)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("corpus", type=Path, nargs="?")
    parser.add_argument("--copies", type=int, nargs="*", default=[1, 10, 40])
    parser.add_argument("--settings", nargs="*", choices=SETTINGS, default=list(SETTINGS))
    parser.add_argument("--memory", default="1GB", help="memory of the grouping")
    parser.add_argument("--out", type=Path, default=Path("runs/benchmarks"))
    parser.add_argument("--parts", help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.parts:
        print(json.dumps(run_parts(json.loads(given.parts))))
        return
    given.out.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=given.out.resolve()) as folder:
        results = run_all(given, Path(folder))
    (given.out / "curate_duplicates.json").write_text(json.dumps(results, indent=2) + "\n")
    show(results)


if __name__ == "__main__":
    main()
