"""Quality filters on labelled text: clean text lost by language, junk found by kind.

    python benchmarks/curate_quality.py CORPUS [--loss 0.015] [--design] [--examples 3] [--out FOLDER]

CORPUS: a folder of Parquet files with the columns `lang`, `text`, `kind` (clean or junk; others are left out) and `sub`
(what kind of junk). Every second file is the calibration half: of its clean text come all limits and models, made by
the commands a user has. The other half is judged. `--design` leaves that half unread: two thirds of the calibration
half stand for all of it, and the last third is judged, so that filters can be improved without a look at the rest.
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

from caravan.curate.rules import RuleStep
from caravan.curate.steps import Step
from caravan.recipe.curate import CurateConfig

COLUMNS = ["lang", "text", "kind", "sub"]
BATCH = 1000
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
    return rows.filter(pc.is_in(rows["kind"], pa.array(["clean", "junk"])))


def caravan(*arguments: object) -> None:
    subprocess.run([sys.executable, "-m", "caravan", *map(str, arguments)], check=True, stdout=subprocess.DEVNULL)


def make_filters(rows: pa.Table, given: argparse.Namespace, work: Path) -> dict[str, Step]:
    """The filters, from the clean rows of one half."""
    trusted = work / "trusted.parquet"
    pq.write_table(rows.filter(pc.equal(rows["kind"], "clean")), trusted)
    text = (trusted, "--language-column", "lang")
    caravan("curate", "calibrate", *text, "-o", work / "limits.yaml", "--loss", given.loss)
    config = CurateConfig.model_validate({"limits": str(work / "limits.yaml")})
    return {"rules": RuleStep(config)}


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
    """Share of rows that each filter drops, and that all together do."""
    names = list(judged.reasons)
    groups = {**{name: [name] for name in names}, "together": names}
    return {name: float(judged.dropped(group)[chosen].mean()) for name, group in groups.items()}


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
    parser.add_argument("--loss", type=float, default=0.015, help="of clean text, by all rules together")
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
    show_examples(judged, given.examples, out)
    (given.out / "curate_quality.json").write_text(json.dumps({"lost": languages, "found": kinds}, indent=2) + "\n")


if __name__ == "__main__":
    main()
