"""The fused model and the cascade on the same rows."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean

from caravan.evaluate.behaviour import mixed_error_rate
from caravan.evaluate.metrics import CASCADE, FP32, HEARD, right
from caravan.evaluate.probes import said
from caravan.evaluate.rows import Row


@dataclass(frozen=True)
class Compared:
    """One task in one language: exact answers of the fused model and of the cascade, on the same rows.

    Attributes:
        heard: mixed error rate of the recogniser, where the clips' words are known.
    """

    task: str
    language: str
    rows: int
    fused: float
    cascade: float
    heard: float | None


def compared(rows: Sequence[Row], answers: Mapping[str, Mapping[str, str]]) -> list[Compared]:
    """The rows that were given to both, by task and language."""
    cells: dict[tuple[str, str], list[Row]] = defaultdict(list)
    for row in rows:
        cells[row.task, row.language].append(row)
    result = []
    for (task, language), found in sorted(cells.items()):
        known = [(said(row), answers[HEARD][row.id]) for row in found if said(row)]
        fused, cascade = (fmean(right(answers[by][row.id], row) for row in found) for by in (FP32, CASCADE))
        heard = mixed_error_rate(known) if known else None
        result.append(Compared(task, language, len(found), fused, cascade, heard))
    return result
