"""What a run prints at its end: one line a stage, then the held-out results against their targets."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from rich.console import Console
from rich.table import Column, Table

from caravan.road import Result

# Stages whose counts speak for themselves in the last table.
SHOWN = 6


def figures(counts: dict[str, Any]) -> str:
    """The first plain figures of a stage's counts, for people."""
    plain = {
        name: value for name, value in counts.items() if isinstance(value, int | float) and not isinstance(value, bool)
    }
    return ", ".join(
        f"{name.replace('_', ' ')} {value:,.3f}" if isinstance(value, float) else f"{name.replace('_', ' ')} {value:,}"
        for name, value in list(plain.items())[:SHOWN]
    )


def final_table(results: Sequence[Result], out: Console) -> None:
    """Print the stages of a run, then each target with what was measured on held-out items."""
    table = Table("stage", "seconds", "figures", title="the run")
    for result in results:
        table.add_row(result.stage.name, f"{result.seconds:,.0f}", figures(result.artifact.counts))
    table.add_row("total", f"{sum(result.seconds for result in results):,.0f}", "", style="bold")
    out.print(table)
    rows = [row for result in results for row in result.artifact.counts.get("table", [])]
    if rows:
        out.print(targets_table(rows))


def export_table(counts: dict[str, Any]) -> Table:
    """Files of an export, and how their answers compare with torch's: the worst of all kinds of prompts."""
    table = Table(
        Column("file", no_wrap=True),
        "MB",
        "bits a weight",
        "off by at most",
        "diverges",
        "same answers",
        title="against torch",
    )
    for name, file in counts["files"].items():
        parity = counts["parity"].get(_compared_as(name), {}).values()
        shown = (
            ["-"] * 3
            if not parity
            else [
                f"{max(kind['logprob_delta'] for kind in parity):.4f} nats",
                f"{max(kind['divergence'] for kind in parity):.5f} nats",
                f"{100 * min(kind['agreement'] for kind in parity):.0f} %",
            ]
        )
        table.add_row(name, f"{file['bytes'] / 1e6:,.1f}", f"{file['bits_per_weight']:.2f}", *shown)
    return table


def _compared_as(file: str) -> str:
    """Under which name an export's counts have a file's comparison."""
    return "adapter on f16" if file == "adapter.gguf" else file.removeprefix("model-").removesuffix(".gguf")


def targets_table(rows: Sequence[dict[str, Any]]) -> Table:
    """Rows of `name, value, at_least, count` as a table; values are shares of 1, None where nothing was measured."""
    table = Table("measured on held-out items", "value", "at least", "items", "", title="results")
    for row in rows:
        value, least = row["value"], row.get("at_least")
        reached = value is not None and least is not None and value >= least
        mark = "" if least is None else "[green]✓[/]" if reached else "[red]✗[/]"
        table.add_row(
            row["name"],
            "-" if value is None else f"{100 * value:.1f} %",
            "report" if least is None else f"{100 * least:.0f} %",
            f"{row.get('count', 0):,}",
            mark,
        )
    return table
