"""How a figure of documents, such as their length, is spread: before curation and after, without holding the documents.

Figures are counted by eighths of an octave, so that none is held and the work can be divided in any way; quantiles
are exact to half of that, 4.4 %.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Any

STEPS_AN_OCTAVE = 8
COARSE = 4  # bins that are drawn as one: half an octave
QUANTILES = (0.05, 0.5, 0.95)


def binned(figure: str) -> str:
    """In SQL, the number of a figure's bin; figures below 1 are in the first."""
    return f"round({STEPS_AN_OCTAVE} * log2(greatest({figure}, 1)))::INTEGER"


def spread(bins: Iterable[tuple[int, int, int]]) -> dict[str, Any]:
    """Quantiles before and after, and the histograms of both.

    Args:
        bins: number of a bin, documents before, and documents after.

    Returns:
        `read` and `kept`: documents and the quantiles 5 %, 50 % and 95 %, None where there are no documents;
        `histogram`: lower end of each half octave, documents before and documents after.
    """
    read: Counter[int] = Counter()
    kept: Counter[int] = Counter()
    for place, before, after in bins:
        read[place] += before
        kept[place] += after
    coarse = sorted({place // COARSE for place in read})
    every = range(coarse[0], coarse[-1] + 1) if coarse else ()
    return {
        "read": _quantiles(read),
        "kept": _quantiles(kept),
        "histogram": [
            [round(_figure(COARSE * half), 1), *(_within(counts, half) for counts in (read, kept))] for half in every
        ],
    }


def _within(counts: Mapping[int, int], half: int) -> int:
    return sum(counts.get(COARSE * half + part, 0) for part in range(COARSE))


def _figure(place: int) -> float:
    return float(2 ** (place / STEPS_AN_OCTAVE))


def _quantiles(counts: Counter[int]) -> dict[str, Any]:
    total, told = counts.total(), dict[str, float | None]()
    for quantile in QUANTILES:
        below, found = 0, None
        for place in sorted(counts):
            below += counts[place]
            if below and below >= quantile * total:
                found = round(_figure(place), 1)
                break
        told[f"{100 * quantile:.0f} %"] = found
    return {"documents": total, **told}
