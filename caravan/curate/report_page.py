"""The curation report as one page."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from operator import itemgetter
from typing import Any

from caravan.curate import report_plots as plots
from caravan.curate.report import Rows, stage_of
from caravan.curate.report_template import PAGE
from caravan.curate.rows import Broken
from caravan.pages.style import environment

LISTED = 50  # broken rows on the page; `broken.json` has more
MOST_LANGUAGES = 40  # in plots and tables, those with the most text


def page(report: Mapping[str, Any], languages: Sequence[str], broken: Sequence[Broken]) -> str:
    """The report as HTML that loads nothing.

    Args:
        report: as `summarise` gives it.
        languages: of the run.
    """
    documents = report["documents"]
    wanted = {name: entry for name, entry in report["languages"].items() if name in languages and entry["read"]}
    wanted = dict(itertools.islice(wanted.items(), MOST_LANGUAGES))
    others = {name: entry["read"] for name, entry in report["languages"].items() if name not in languages}
    spreads = {name: dict(itertools.islice(report[name].items(), MOST_LANGUAGES)) for name in ("lengths", "perplexity")}
    drawings = {
        "survivors": plots.survivors_plot(documents["stages"]) if documents["read"] else "",
        "languages": plots.languages_plot(_by_stage(wanted)) if wanted else "",
        "lengths": plots.spreads_plot(spreads["lengths"], "lengths") if spreads["lengths"] else "",
        "perplexity": plots.spreads_plot(spreads["perplexity"], "perplexity") if spreads["perplexity"] else "",
    }
    excerpts = {"documents": _by_reason(report["samples"]), "pairs": _by_reason(report["pairs"]["samples"])}
    facts = {"wanted": wanted, "others": others, "spreads": spreads, "excerpts_of": excerpts, "plots": drawings}
    return environment().from_string(PAGE).render(report, **facts, listed=broken[:LISTED])


def _by_reason(samples: Rows) -> list[tuple[str, str, list[Mapping[str, Any]]]]:
    """Step, reason and samples of each reason."""
    groups = itertools.groupby(samples, itemgetter("step", "reason"))
    return [(step, reason, list(own)) for (step, reason), own in groups]


def _by_stage(languages: Mapping[str, Mapping[str, Any]]) -> dict[str, dict[str, Any]]:
    """Documents of each language that were read, kept, and dropped by each stage."""
    found = {}
    for language, entry in languages.items():
        dropped: dict[str, int] = {}
        for (_, before), (step, after) in itertools.pairwise([("read", entry["read"]), *entry["left"].items()]):
            dropped[stage_of(step)] = dropped.get(stage_of(step), 0) + before - after
        found[language] = {"read": entry["read"], "kept": entry["kept"], "dropped": dropped}
    return found
