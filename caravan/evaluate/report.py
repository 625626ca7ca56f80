"""The report: one set of facts, as JSON, as Markdown and as one page."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from statistics import fmean
from typing import Any

from caravan.core.files import write_json, write_text
from caravan.evaluate import plots
from caravan.evaluate.behaviour import GUARDED, WRITTEN_DOWN, Behaviour, behaviours, guard_figures, means
from caravan.evaluate.comparison import compared
from caravan.evaluate.metrics import (
    CASCADE,
    FP32,
    FUSED,
    HEARD,
    Score,
    confusion_matrices,
    failures,
    reached,
    right,
    scores,
    table,
)
from caravan.evaluate.page import MARKDOWN, PAGE
from caravan.evaluate.probes import Probed
from caravan.evaluate.rows import Row
from caravan.evaluate.turns import choose_probes, choose_turns, shown
from caravan.pages.style import environment
from caravan.recipe.evaluate import EvaluateConfig
from caravan.records import LANGUAGES

ANSWER_RULE = (
    "An answer is right if it equals the expected one after Unicode NFC, case folding, single spaces, "
    "and without punctuation at its end."
)

Answers = Mapping[str, Mapping[str, str]]


def build_report(
    config: EvaluateConfig, rows: Sequence[Row], answers: Answers, bits: Mapping[str, float]
) -> dict[str, Any]:
    """Every figure of the report.

    Args:
        answers: by who answered (`fp32`, `int4`, `HTTP`) and row id.
        bits: bits per byte by language.
    """
    fp32 = answers[FP32]
    return {
        "rule": ANSWER_RULE,
        "table": table(config.targets, rows, answers),
        "scores": [asdict(score) for score in scores(rows, fp32)],
        "bits_per_byte": dict(bits),
        "bits_per_byte_mean": fmean(bits.values()) if bits else None,
        "failures": [asdict(failure) for failure in failures(rows, fp32)],
        "confusions": [asdict(matrix) for matrix in confusion_matrices(rows, fp32)],
        "rows": len(rows),
    }


def probes_report(
    rows: Sequence[Row], probed: Sequence[Probed], answers: Answers, languages: Sequence[str]
) -> dict[str, Any]:
    """Figures of the probes, by probe and language, and what the decoding guard does."""
    fp32, guarded = answers[FP32], answers.get(GUARDED, {})
    found = behaviours(rows, probed, fp32, languages)
    return {
        "figures": [asdict(one) for one in found],
        "means": means(found),
        "guard": guard_figures([*rows, *(one.row for one in probed)], fp32, guarded),
    }


def cascade_report(rows: Sequence[Row], answers: Answers, latency: Mapping[str, Mapping[str, float]]) -> dict[str, Any]:
    """Fused model and cascade on the same rows: by task and language, over all rows, and the time to a first token."""
    found = compared(rows, answers)
    count = sum(one.rows for one in found)
    total = {
        by: sum(getattr(one, by) * one.rows for one in found) / count if count else None for by in (FUSED, CASCADE)
    }
    return {"figures": [asdict(one) for one in found], "rows": count, **total, "latency": latency}


def write_report(
    out: Path,
    report: Mapping[str, Any],
    config: EvaluateConfig,
    rows: Sequence[Row],
    answers: Answers,
    probed: Sequence[Probed] = (),
    spoken: Sequence[Row] = (),
    *,
    seed: int,
) -> None:
    """Write `report.json`, `report.md` and `report.html`."""
    measured = [Score(**score) for score in report["scores"]]
    asked = {score.language for score in measured}
    languages = sorted(asked, key=lambda code: LANGUAGES.index(code) if code in LANGUAGES else len(LANGUAGES))
    turns = [shown(row, answers) for row in choose_turns(rows, answers[FP32], config.turns, seed)]
    shown_probes = choose_probes(probed, config.probes.turns if config.probes else 0, seed)
    probe_turns = [_shown_probe(one, answers) for one in shown_probes]
    unlike = [row for row in spoken if right(answers[FP32][row.id], row) != right(answers[CASCADE][row.id], row)]
    cascade_turns = [
        shown(row, answers) | {"heard": answers[HEARD][row.id], "cascade": answers[CASCADE][row.id]}
        for row in choose_turns(unlike, answers[FP32], config.cascade.turns if config.cascade else 0, seed)
    ]
    facts = {**report, "turns": turns, "probe_turns": probe_turns, "cascade_turns": cascade_turns, "reached": reached}
    drawings = {
        "accuracy": plots.accuracy_plot(measured, languages),
        "errors": plots.error_plot(measured, languages),
        "chrf": plots.chrf_plot(measured, languages),
        "bits": plots.bits_plot(report["bits_per_byte"]),
        "cascade": plots.cascade_plot(report.get("cascade", {}).get("figures", []), languages),
        "probes": plots.probes_plot(
            [Behaviour(**one) for one in report.get("probes", {}).get("figures", [])], languages
        ),
    }
    write_json(out / "report.json", report)
    for name, template in (("report.md", MARKDOWN), ("report.html", PAGE)):
        reader = environment(html=name.endswith("html"))
        reader.filters["mark"] = mark
        write_text(out / name, reader.from_string(template).render(facts, plots=drawings))


def _shown_probe(one: Probed, answers: Answers) -> dict[str, Any]:
    """What the page needs of a probe; only of transcripts it is known what would be right."""
    judged = {} if one.probe in WRITTEN_DOWN else {"right": None}
    return shown(one.row, answers) | {"task": one.probe} | judged


def mark(line: Mapping[str, Any]) -> str:
    """✓, ✗, or nothing where a line has no target."""
    return {True: "✓", False: "✗", None: ""}[reached(line)]
