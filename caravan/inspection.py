"""What an artifact holds, in words, with a sample of it."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow.dataset as ds
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from caravan.core.artifact import MANIFEST, Artifact
from caravan.core.errors import ArtifactError
from caravan.core.files import read_json
from caravan.records import TextPart, dialogue_from_row
from caravan.report import targets_table
from caravan.road import ROAD

SAMPLE = 3
WIDTH = 100


def describe(path: Path, out: Console) -> None:
    """Print what stands in an artifact, or in each artifact of a run folder.

    Raises:
        ArtifactError: neither an artifact nor a folder with artifacts.
    """
    if (path / MANIFEST).is_file():
        _artifact(Artifact.open(path), out)
        return
    finished = [path / stage.name for stage in ROAD if (path / stage.name / MANIFEST).is_file()]
    unfinished = [path / f"{stage.name}.partial" for stage in ROAD if (path / f"{stage.name}.partial").is_dir()]
    if not finished and not unfinished:
        raise ArtifactError(
            "nothing to inspect",
            where=str(path),
            expected=f"a folder with {MANIFEST}, or a run folder of such folders",
            got="neither",
            fix="`caravan run RECIPE` makes one; its last lines name the folders",
        )
    for folder in finished:
        _artifact(Artifact.open(folder), out)
    for folder in unfinished:
        out.print(f"[yellow]{folder}: unfinished; the run goes on from here[/]")


def _artifact(artifact: Artifact, out: Console) -> None:
    manifest = artifact.manifest
    size = sum(file.stat().st_size for file in artifact.path.rglob("*") if file.is_file())
    out.rule(f"{artifact.path}")
    out.print(
        f"[bold]{manifest.kind}[/] by stage {manifest.stage} in {manifest.seconds:,.0f} s, "
        f"{len(manifest.files)} files, {size / 2**20:,.1f} MiB",
        highlight=False,
    )
    _counts(manifest.counts, out)
    sample = SAMPLES.get(manifest.kind)
    if sample is not None:
        sample(artifact.path, out)


def _counts(counts: dict[str, Any], out: Console) -> None:
    for name, value in counts.items():
        if name != "table":
            text = json.dumps(value, ensure_ascii=False, default=str)
            out.print(f"  {name}: {escape(text[: 4 * WIDTH])}", highlight=False)


def _corpus(path: Path, out: Console) -> None:
    table = Table("language", "kept text", title="a sample of what was kept")
    for folder in sorted((path / "kept").iterdir()):
        for row in ds.dataset(folder).head(1).to_pylist():
            table.add_row(folder.name, escape(row["text"][:WIDTH]))
    out.print(table)
    rejected = path / "rejected"
    if not rejected.is_dir() or not any(rejected.iterdir()):
        return
    table = Table("step", "reason", "figure", "rejected text", title="a sample of what was dropped, by reason")
    seen: dict[str, int] = {}
    for batch in ds.dataset(rejected).to_batches(columns=["step", "reason", "value", "text"]):
        for row in batch.to_pylist():
            seen[row["reason"]] = seen.get(row["reason"], 0) + 1
            if seen[row["reason"]] <= SAMPLE:
                table.add_row(row["step"], row["reason"], f"{row['value']}", escape(row["text"][:WIDTH]))
    out.print(table)


def _dialogues(path: Path, out: Console) -> None:
    for split in ("train", "test"):
        table = Table("task", "language", "group", "turns", title=f"a sample of {split}")
        tasks: set[str] = set()
        for batch in ds.dataset(path / split).to_batches(batch_size=256):
            for row in batch.to_pylist():
                if row["task"] not in tasks:
                    tasks.add(row["task"])
                    table.add_row(row["task"], row["language"], row["group"] or "", escape(_turns(row)))
        out.print(table)


def _turns(row: dict[str, Any]) -> str:
    marks = {"audio": "[clip]", "image": "[picture]"}
    return "\n".join(
        f"{message.role}: "
        + " ".join(part.text if isinstance(part, TextPart) else marks[part.type] for part in message.content)
        for message in dialogue_from_row(row).messages
    )


def _model(path: Path, out: Console) -> None:
    config = read_json(path / "config.json")
    text = config.get("text_config") or config
    senses = [name for name in ("speech", "vision") if config.get(f"{name}_config")]
    out.print(
        f"  {text.get('model_type')}: {text.get('num_hidden_layers')} layers, width {text.get('hidden_size')}, "
        f"vocabulary {text.get('vocab_size')}; senses: {', '.join(senses) or 'none'}",
        highlight=False,
    )


def _report(path: Path, out: Console) -> None:
    out.print(targets_table(Artifact.open(path).counts.get("table", [])))
    out.print(f"  the page: {path / 'report.html'}", highlight=False)


SAMPLES: dict[str, Callable[[Path, Console], None]] = {
    "corpus": _corpus,
    "dialogues": _dialogues,
    "model": _model,
    "report": _report,
}
