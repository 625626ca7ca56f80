"""From the end of a clip to the first token of the answer, in the GGUF engine: the fused model against cascades.

    python benchmarks/first_token.py RUN [--clips 16] [--threads 1]

RUN is the folder of a run with `instruct` and `export`, such as runs/quickstart. Three ways, each clip in turn: the
engine is given the clip; the engine writes the clip down and answers the writing; the shipped Whisper, in torch, writes
it down and the engine answers. Nothing of an earlier prompt is kept. Wall times and CPU times are medians.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import torch
from rich.console import Console
from rich.table import Table

from caravan.core.stage import StageContext
from caravan.engine import Engine
from caravan.evaluate.answers import engine_answers
from caravan.evaluate.cascade import cascade_rows, in_writing, latencies, recogniser
from caravan.evaluate.probes import written_down
from caravan.evaluate.rows import heldout_rows
from caravan.evaluate.stage import export_files
from caravan.recipe.evaluate import CascadeConfig
from caravan.recipe.serve import ServeConfig
from caravan.text.chat import load_tokenizer

LONGEST = 64


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path)
    parser.add_argument("--clips", type=int, default=16)
    parser.add_argument("--threads", type=int, default=1)
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    config = CascadeConfig(recogniser="sample-whisper")
    rows = cascade_rows(
        config, heldout_rows(given.run / "instruct", limit=given.clips, seed=7, tasks=["speech", "both"])
    )
    rows = rows[:: max(1, len(rows) // given.clips)][: given.clips]
    context = StageContext(given.run, {}, given.run, 7, ("en",), "evaluate")
    whisper = recogniser(config, context, None, None)
    model, mmproj = export_files(given.run / "export", ServeConfig().quantisation)
    tokenizer = load_tokenizer(given.run / "export")
    with Engine(model, mmproj, threads=given.threads) as engine:
        first, hear = engine_answers(engine, tokenizer, 1), engine_answers(engine, tokenizer, LONGEST)
        ways = {
            "fused": lambda row: first([row]),
            "cascade: the fused model writes": lambda row: first(
                [in_writing(row, hear([written_down(row, row.language)])[0])]
            ),
            "cascade: Whisper in torch writes": lambda row: first([in_writing(row, whisper([row])[0])]),
        }
        taken = latencies(rows, ways)
    table = Table("", "clips", "end of clip to first token", "90 % within", "CPU")
    for name, facts in taken.items():
        times = (f"{facts[key] * 1000:.0f} ms" for key in ("median", "p90", "cpu"))
        table.add_row(name, str(facts["clips"]), *times)
    Console().print(table)


if __name__ == "__main__":
    main()
