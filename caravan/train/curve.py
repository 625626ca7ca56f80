"""The record of a training run: `train.jsonl`, one line a step, and `train.html`, its curves."""

from __future__ import annotations

import html
import json
from pathlib import Path
from typing import Any

from caravan.core.files import write_text
from caravan.pages.plots import new_figure, svg

JOURNAL = "train.jsonl"
PAGE = "train.html"
CURVES = {
    "loss": "loss",
    "lr": "learning rate",
    "grad_norm": "gradient norm",
    "tokens_per_second": "tokens/s",
    "mfu": "MFU",
}


def read_journal(file: Path) -> list[dict[str, Any]]:
    """The lines of a journal; a last line torn by a kill is left out."""
    if not file.exists():
        return []
    lines = []
    for text in file.read_text(encoding="utf-8").splitlines():
        try:
            lines.append(json.loads(text))
        except json.JSONDecodeError:
            break
    return lines


def rewind_journal(file: Path, step: int) -> None:
    """Drop the lines after a step, so that a resumed run writes no step twice."""
    kept = [json.dumps(line) + "\n" for line in read_journal(file) if line["step"] <= step]
    write_text(file, "".join(kept))


def write_page(file: Path, title: str, lines: list[dict[str, Any]], facts: dict[str, Any]) -> None:
    """One self-contained page: facts of the run, and its curves over the steps, spikes in red."""
    shown = [(key, name) for key, name in CURVES.items() if any(line.get(key) for line in lines)]
    figure = new_figure(9, 2.3 * len(shown))
    spikes = [line["step"] for line in lines if line.get("spike")]
    for place, (key, name) in enumerate(shown):
        axes = figure.add_subplot(len(shown), 1, place + 1)
        there = [line for line in lines if key in line]
        axes.plot([line["step"] for line in there], [line[key] for line in there], linewidth=1)
        for step in spikes:
            axes.axvline(step, color="tab:red", linewidth=0.5)
        axes.set_ylabel(name)
        axes.grid(alpha=0.3)
    figure.axes[-1].set_xlabel("step")
    rows = "".join(f"<tr><th>{html.escape(k)}</th><td>{html.escape(str(v))}</td></tr>" for k, v in facts.items())
    write_text(
        file,
        f"<!doctype html><html lang='en'><meta charset='utf-8'><title>{html.escape(title)}</title>"
        "<style>body{font-family:sans-serif;max-width:60em;margin:2em auto}th{text-align:left;padding-right:2em}"
        f"svg{{max-width:100%;height:auto}}</style><h1>{html.escape(title)}</h1><table>{rows}</table>"
        f"{svg(figure, 'curves of the run')}</html>\n",
    )
