"""Quality filters on labelled text: clean text lost by language, junk found by kind.

    python benchmarks/curate_quality.py CORPUS [--loss 0.01] [--held-out 0.5] [--design] [--examples 3] [--out FOLDER]

CORPUS: a folder of Parquet files with the columns `lang`, `text`, `kind` (clean or junk; others are left out) and `sub`
(what kind of junk). Every second file is the calibration half: of it come all limits and models, made by the commands
that a user has; its junk trains the classifier and nothing else. The other half is judged. `--design` leaves that half
unread: two thirds of the calibration half stand for all of it, and the last third is judged, so that filters can be
improved without a look at the rest.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from rich.console import Console
from rich.table import Table

from caravan.curate.language import Identifier, LanguageStep
from caravan.curate.perplexity import PerplexityStep
from caravan.curate.quality import QualityStep
from caravan.curate.rules import RuleStep
from caravan.curate.steps import Step
from caravan.recipe.curate import CurateConfig, LanguageRule

COLUMNS = ["lang", "text", "kind", "sub"]
KINDS = ("clean", "junk")
BATCH = 1000
NO_PROSE = {
    "a list of tokens": r'^"?\[[\'"]',
    "a picture in base64": r"data:image/\w+;base64,",
    "UTF-8 read as Latin-1": r"Ã[\x{80}-\x{BF}]|Â[°·»]",
}
Mask = npt.NDArray[np.bool_]


@dataclass(frozen=True)
class Judged:
    """Labelled rows, and the reason of each filter to drop each; null where it lets it pass."""

    rows: pa.Table
    reasons: dict[str, pa.ChunkedArray]

    def dropped(self, names: Sequence[str]) -> Mask:
        """Rows that one of these filters drops."""
        return np.any([self.reasons[name].is_valid().to_numpy() for name in names], axis=0)

    def where(self, column: str, value: str) -> Mask:
        return pc.equal(self.rows[column], value).to_numpy()


def read(files: Sequence[Path]) -> pa.Table:
    rows = pa.concat_tables([pq.read_table(file, columns=COLUMNS) for file in files])
    return rows.filter(pc.is_in(rows["kind"], pa.array(KINDS)))


def caravan(*arguments: object) -> None:
    subprocess.run([sys.executable, "-m", "caravan", *map(str, arguments)], check=True, stdout=subprocess.DEVNULL)


def make_filters(rows: pa.Table, given: argparse.Namespace, work: Path) -> dict[str, Step]:
    """The filters, from one half."""
    for kind in KINDS:
        pq.write_table(rows.filter(pc.equal(rows["kind"], kind)), work / f"{kind}.parquet")
    clean, junk = (work / f"{kind}.parquet" for kind in KINDS)
    text, limits = (clean, "--language-column", "lang"), work / "limits.yaml"
    models = {name: work / name for name in ("perplexity", "quality")}
    held_out = ("--held-out", given.held_out)
    caravan("curate", "calibrate", *text, "-o", limits, "--loss", given.loss)
    caravan("curate", "train-lm", *text, "-o", models["perplexity"], *held_out)
    caravan("curate", "train-classifier", *text, "--junk", junk, "-o", models["quality"], *held_out)
    recipe = {"limits": str(limits), **{name: {"models": str(folder)} for name, folder in models.items()}}
    config = CurateConfig.model_validate(recipe)
    assert config.perplexity
    assert config.quality
    steps = RuleStep(config), PerplexityStep(config.perplexity), QualityStep(config.quality)
    return {step.name: step for step in steps}


def judge(rows: pa.Table, filters: dict[str, Step]) -> Judged:
    """Ask every filter about every row, whatever the others say."""
    renamed = rows.select(["lang", "text"]).rename_columns(["language", "text"]).to_batches(BATCH)
    reasons = {name: pa.chunked_array([step.judge(b).reason for b in renamed]) for name, step in filters.items()}
    return Judged(rows, reasons)


def by_language(judged: Judged) -> list[dict[str, Any]]:
    clean, found = judged.where("kind", "clean"), []
    for language in sorted(pc.unique(judged.rows["lang"]).to_pylist()):
        chosen = clean & judged.where("lang", language)
        found.append({"language": language, "texts": int(chosen.sum()), **shares(judged, chosen)})
    return found


def by_kind(judged: Judged) -> list[dict[str, Any]]:
    junk, found = judged.where("kind", "junk"), []
    for kind in sorted(pc.unique(judged.rows["sub"].filter(pa.array(junk))).to_pylist()):
        chosen = junk & judged.where("sub", kind)
        found.append({"kind": kind, "texts": int(chosen.sum()), **shares(judged, chosen)})
    return found


def shares(judged: Judged, chosen: Mask) -> dict[str, float]:
    """Share of rows that each filter drops, and that some together do."""
    names = list(judged.reasons)
    groups = {**{name: [name] for name in names}, "rules + perplexity": names[:2], "all": names}
    return {name: float(judged.dropped(group)[chosen].sum() / max(1, chosen.sum())) for name, group in groups.items()}


def mislabelled(judged: Judged) -> list[dict[str, Any]]:
    """Rows that are labelled clean and are no prose in the language that they are labelled with."""
    clean, texts = judged.where("kind", "clean"), judged.rows["text"]
    languages = pc.unique(judged.rows["lang"]).to_pylist()
    stated = judge(judged.rows, {"stated": LanguageStep(Identifier(languages, LanguageRule()))})
    wrong = {"text in another language": stated.dropped(["stated"])}
    wrong |= {what: pc.match_substring_regex(texts, pattern).to_numpy() for what, pattern in NO_PROSE.items()}
    found = []
    for what, rows in wrong.items():
        where = sorted(pc.unique(judged.rows["lang"].filter(pa.array(clean & rows))).to_pylist())
        counts = {"languages": " ".join(where), "texts": int((clean & rows).sum())}
        found.append({"labelled clean": what, **counts, **shares(judged, clean & rows)})
    return found


def show(title: str, found: list[dict[str, Any]], out: Console) -> None:
    table = Table(*found[0], title=title)
    for row in found:
        table.add_row(*(f"{value:.1%}" if isinstance(value, float) else str(value) for value in row.values()))
    out.print(table)


def show_examples(judged: Judged, most: int, out: Console) -> None:
    """Clean text that is lost, and junk that is not found: the beginning of each, with the reason."""
    clean, dropped = judged.where("kind", "clean"), judged.dropped(list(judged.reasons))
    groups = [("clean", "lang", clean & dropped), ("junk", "sub", ~clean & ~dropped)]
    for kind, column, wrong in groups:
        for value in sorted(pc.unique(judged.rows[column]).to_pylist()):
            for row in np.flatnonzero(wrong & judged.where(column, value))[:most].tolist():
                why = ", ".join(filter(None, (reasons[row].as_py() for reasons in judged.reasons.values())))
                start = judged.rows["text"][row].as_py()[:160].replace("\n", "⏎")
                out.print(f"{kind} {value} [{why}] {start}", markup=False, highlight=False, soft_wrap=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("corpus", type=Path)
    parser.add_argument("--loss", type=float, default=0.01, help="of clean text, by all rules together")
    parser.add_argument("--held-out", type=float, default=0.5, help="share of the half that n-gram models do not learn")
    parser.add_argument("--design", action="store_true")
    parser.add_argument("--examples", type=int, default=0, help="of each language and kind")
    parser.add_argument("--out", type=Path, default=Path("runs/benchmarks"))
    given = parser.parse_args()
    given.out.mkdir(parents=True, exist_ok=True)
    files = sorted(given.corpus.glob("*.parquet"))
    trusted, unseen = (files[0::6] + files[2::6], files[4::6]) if given.design else (files[0::2], files[1::2])
    with tempfile.TemporaryDirectory(dir=given.out) as work:
        judged = judge(read(unseen), make_filters(read(trusted), given, Path(work)))
    out = Console()
    languages, kinds = by_language(judged), by_kind(judged)
    show("clean text lost", languages, out)
    show("junk found", kinds, out)
    show("labelled clean, but no prose", mislabelled(judged), out)
    show_examples(judged, given.examples, out)
    (given.out / "curate_quality.json").write_text(json.dumps({"lost": languages, "found": kinds}, indent=2) + "\n")


if __name__ == "__main__":
    main()
