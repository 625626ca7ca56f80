"""What an artifact holds, in words, with a sample of it."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow.dataset as ds
from rich.console import Console, JustifyMethod
from rich.markup import escape
from rich.table import Table
from rich.text import Text

from caravan.core.artifact import MANIFEST, Artifact
from caravan.core.errors import ArtifactError
from caravan.core.files import read_json
from caravan.records import TextPart, dialogue_from_row
from caravan.report import targets_table
from caravan.road import ROAD

if TYPE_CHECKING:
    from caravan.curate.browse import Choice

SAMPLE, MOST = 3, 40
WIDTH, LONG = 100, 240
JUSTIFIED: dict[str, JustifyMethod] = {"value": "right"}


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
    from caravan.curate.browse import Choice, sample

    for choice in (Choice(kept=True), Choice(), Choice(pairs=True, kept=True), Choice(pairs=True)):
        if choice.there(path) and (rows := sample(path, choice, 1 if choice.kept else SAMPLE)):
            out.print(_rows_table(rows[:MOST], choice, WIDTH))


def show_rows(path: Path, choice: Choice, count: int, out: Console, *, as_json: bool = False) -> None:
    """Print rows of a corpus that were kept or dropped: a table, in a pipe a line each, or JSON lines with whole texts.

    Args:
        path: a corpus, or a run folder with one.
        count: as `sample` takes it.

    Raises:
        ArtifactError: no corpus.
        UsageError: nothing is there for the reason, step or language named.
    """
    from caravan.curate.browse import sample

    inner = [path / "curate", path / "curate.partial"]
    folder = next((one for one in inner if one.is_dir()), path)
    rows = sample(folder, choice, count)
    if as_json:
        made = {"bytes", "text", "language"} if choice.pairs else {"bytes"}
        for row in rows:
            told = {name: value for name, value in row.items() if value is not None and name not in made}
            print(json.dumps(told, ensure_ascii=False))
    elif out.is_terminal:
        out.print(_rows_table(rows, choice, LONG))
    else:
        for row in rows:
            print(*(_cell(row, name, LONG) for name in _columns(choice)), sep="\t")


def _columns(choice: Choice) -> list[str]:
    return ["language", "id", "text"] if choice.kept else ["step", "reason", "value", "language", "id", "text"]


def _rows_table(rows: list[dict[str, Any]], choice: Choice, width: int) -> Table:
    table = Table(title=f"a sample of the {choice.table} that were {'kept' if choice.kept else 'dropped'}")
    for name in _columns(choice):
        table.add_column({"value": "figure"}.get(name, name), overflow="fold", justify=JUSTIFIED.get(name, "left"))
    for row in rows:
        table.add_row(*(Text(_cell(row, name, width)) for name in _columns(choice)))
    return table


def _cell(row: dict[str, Any], name: str, width: int) -> str:
    """A value on one line, long ones cut; what cannot be seen, and might steer a terminal, by its code."""
    value = row[name]
    if isinstance(value, float):
        return f"{value:.4g}"
    if name == "id" and row["duplicate_of"]:
        value = f"{value} = {row['duplicate_of']}"
    words = " ".join(str(value or "")[: 2 * width].split())
    words = words if len(words) <= width else f"{words[: width - 1]}…"
    return "".join(letter if letter.isprintable() else letter.encode("unicode_escape").decode() for letter in words)


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
