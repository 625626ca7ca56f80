"""The evaluate stage: answers, what they are worth, and the report."""

from __future__ import annotations

import os
from collections.abc import Callable
from functools import cache, partial
from pathlib import Path
from typing import Any

from caravan.core.artifact import Artifact
from caravan.core.errors import CaravanError
from caravan.core.files import read_json, write_json
from caravan.core.stage import StageContext
from caravan.recipe.evaluate import EvaluateConfig
from caravan.recipe.serve import ServeConfig

JOURNAL, BITS, BEFORE = "predictions.jsonl", "bits_per_byte.json", "bits_per_byte_before.json"
PROJECTOR = "mmproj-f16.gguf"
# Loads the model and its tokenizer, once.
Load = Callable[[], tuple[Any, Any]]


def run(config: EvaluateConfig, ctx: StageContext) -> dict[str, Any]:
    """Write `report.json`, `report.md` and `report.html`; `predictions.jsonl` keeps every answer.

    A killed run goes on after the last batch of answers.

    Returns:
        `table` (a line for each target: name, value, at_least, count), rows asked, and bits per byte.

    Raises:
        DataError: nothing is held out.
        ModelError, ServeError, ExportError: the model, its export or its server does not work.
    """
    from caravan.evaluate.predictions import Predictions
    from caravan.evaluate.probes import probe_rows
    from caravan.evaluate.report import build_report, cascade_report, probes_report, write_report
    from caravan.evaluate.rows import first_of_each_cell, heldout_rows

    rows = heldout_rows(ctx.need("dialogues").path, limit=config.limit, seed=ctx.seed, tasks=config.tasks)
    probed = probe_rows(config.probes, rows, ctx.seed) if config.probes else []
    predictions = Predictions(ctx.out / JOURNAL)
    load = cache(partial(_load, ctx))
    _ask_torch(config, ctx, rows, [one.row for one in probed], predictions, load)
    spoken, seconds = _ask_cascade(config, ctx, rows, predictions, load) if config.cascade else ([], {})
    if "gguf" in ctx.inputs:
        compared = first_of_each_cell(rows, config.int4_limit)
        _ask_export(config, ctx.inputs["gguf"], compared, predictions)
    report = build_report(config, rows, predictions.answers, read_json(ctx.out / BITS))
    if (ctx.out / BEFORE).exists():
        report["bits_per_byte_before"] = read_json(ctx.out / BEFORE)
    if config.probes:
        report["probes"] = probes_report(rows, probed, predictions.answers, ctx.languages)
    if config.cascade:
        report["cascade"] = cascade_report(spoken, predictions.answers, seconds)
    write_report(ctx.out, report, config, rows, predictions.answers, probed, spoken, seed=ctx.seed)
    return {"rows": len(rows), "bits_per_byte": report["bits_per_byte_mean"], "table": report["table"]}


def _load(ctx: StageContext) -> tuple[Any, Any]:
    from caravan.models.load import load_model

    return load_model(ctx.need("model").path)


def _load_from(name: str) -> tuple[Any, Any]:
    """A language model with its own tokenizer, from a folder or the hub."""
    from transformers import AutoModelForCausalLM

    from caravan.models.load import load_whole
    from caravan.text.chat import load_tokenizer

    return load_whole(AutoModelForCausalLM.from_pretrained, name).eval(), load_tokenizer(name)


def _ask_torch(
    config: EvaluateConfig, ctx: StageContext, rows: list[Any], probes: list[Any], predictions: Any, load: Load
) -> None:
    """Answers in fp32, to the test and the probes, and bits per byte, as far as they are not there yet."""
    from caravan.evaluate.behaviour import GUARDED, running_away
    from caravan.evaluate.metrics import FP32

    def away() -> list[Any]:
        return running_away(rows + probes, predictions.of(FP32)) if config.probes else []

    bits = ctx.out / BITS
    if bits.exists() and not predictions.missing(FP32, rows + probes) and not predictions.missing(GUARDED, away()):
        return
    from caravan.evaluate.answers import torch_answers
    from caravan.evaluate.bits import measure

    model, tokenizer = load()
    if not bits.exists():
        heldout = ctx.inputs.get("tokenizer")
        given = {"most_bytes": config.heldout_bytes, "length": config.length}
        if config.before and heldout:
            old, own = _load_from(ctx.located(config.before))
            write_json(ctx.out / BEFORE, measure(old, own, heldout, ctx.languages, **given))
        write_json(bits, measure(model, tokenizer, heldout, ctx.languages, **given) if heldout else {})
    predictions.fill(FP32, rows, torch_answers(model, tokenizer, config.max_new_tokens), config.batch)
    if config.probes:
        longest = config.probes.max_new_tokens
        predictions.fill(FP32, probes, torch_answers(model, tokenizer, longest), config.batch)
        guarded = torch_answers(model, tokenizer, longest, guard=True)
        predictions.fill(GUARDED, away(), guarded, config.batch)


def _ask_cascade(
    config: EvaluateConfig, ctx: StageContext, rows: list[Any], predictions: Any, load: Load
) -> tuple[list[Any], Any]:
    """The rows that a cascade was asked, too, and the seconds to the first token each way."""
    from caravan.evaluate.cascade import ask_cascade

    return ask_cascade(config, ctx, rows, predictions, load)


def _ask_export(config: EvaluateConfig, gguf: Artifact, rows: list[Any], predictions: Any) -> None:
    """Answers of the exported model in this process, and over HTTP."""
    from caravan.evaluate.answers import engine_answers, http_answers, server
    from caravan.evaluate.metrics import HTTP, INT4
    from caravan.evaluate.rows import first_of_each_cell

    model, mmproj = export_files(gguf.path, config.quantisation)
    if predictions.missing(INT4, rows):
        from caravan.engine import Engine
        from caravan.text.chat import load_tokenizer

        tokenizer = load_tokenizer(gguf.path)
        # As the server runs it: rounding may depend on the number of threads and slots.
        serve = ServeConfig()
        threads = serve.threads or os.cpu_count() or 1
        with Engine(model, mmproj, context=serve.context, threads=threads, parallel=serve.parallel) as engine:
            predictions.fill(INT4, rows, engine_answers(engine, tokenizer, config.max_new_tokens), config.batch)
    asked = first_of_each_cell(rows, config.http_limit)
    if predictions.missing(HTTP, asked):
        with server(model, mmproj) as url:
            predictions.fill(HTTP, asked, http_answers(url, config.max_new_tokens), config.batch)


def export_files(folder: Path, quantisation: str) -> tuple[Path, Path | None]:
    """The exported model and, if it hears or sees, its encoders."""
    mmproj = folder / PROJECTOR
    return folder / f"model-{quantisation}.gguf", mmproj if mmproj.is_file() else None


def check(config: EvaluateConfig, ctx: StageContext) -> list[CaravanError]:
    """Nothing of its own to look at: evaluation reads what earlier stages have written."""
    return []
