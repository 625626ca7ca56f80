"""Plots of the curation report."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from caravan.curate.report import STAGES
from caravan.pages.plots import BAR, INK, new_figure, strip, svg
from caravan.pages.style import percent

# As wide as a phone shows without shrinking the letters.
WIDTH, LINE = 4.2, 0.22
COLOURS = dict(zip(STAGES, ("#b9a44c", "#c98a3d", "#a8577e", "#6f7bb5"), strict=True))
OTHER = "#888888"
MOST_TICKS = 3
ACROSS, PITCH = 3, 1.3  # panels side by side, and from one to the next in widths or heights of one


def survivors_plot(stages: Sequence[Mapping[str, Any]]) -> str:
    """Share of the documents that is left after each step."""
    figure = new_figure(WIDTH, 0.5 + LINE * len(stages))
    axes = figure.add_subplot()
    for place, entry in enumerate(stages):
        axes.barh(place, entry["kept"] or 0, color=BAR, height=0.7)
        axes.text((entry["kept"] or 0) + 0.02, place, percent(entry["kept"]), va="center", fontsize=8, color=INK)
    axes.set_yticks(range(len(stages)), [entry["step"] for entry in stages])
    axes.set_xticks([])
    axes.set_xlim(0, 1.22)
    axes.invert_yaxis()
    strip(axes)
    return svg(figure, "share of documents left after each step")


def languages_plot(languages: Mapping[str, Mapping[str, Any]]) -> str:
    """Of each language, the share of documents that was kept, and the shares that each stage took."""
    figure = new_figure(WIDTH, 0.7 + LINE * len(languages))
    axes = figure.add_subplot()
    stages = list(dict.fromkeys(stage for entry in languages.values() for stage in entry["dropped"]))
    colours = {"kept": BAR} | {stage: COLOURS.get(stage, OTHER) for stage in stages}
    start = [0.0] * len(languages)
    for name, colour in colours.items():
        shares = [
            (entry["kept"] if name == "kept" else entry["dropped"].get(name, 0)) / max(entry["read"], 1)
            for entry in languages.values()
        ]
        axes.barh(range(len(shares)), shares, left=start, color=colour, height=0.75, label=name)
        start = [before + share for before, share in zip(start, shares, strict=True)]
    axes.set_yticks(range(len(languages)), list(languages))
    axes.set_xticks([0, 0.25, 0.5, 0.75, 1], ["0", "25 %", "50 %", "75 %", "100 %"])
    axes.set_xlim(0, 1)
    axes.invert_yaxis()
    strip(axes)
    figure.legend(loc="outside upper left", ncols=3, fontsize=8, frameon=False, labelcolor=INK, handlelength=1)
    return svg(figure, "share of each language's documents that was kept, and that each stage took")


def spreads_plot(spreads: Mapping[str, Mapping[str, Any]], words: str) -> str:
    """A panel a language, half octave by half octave: documents before curation in grey, those kept before it.

    Panels are places of one pair of axes, because each pair takes as long to draw as all that is in it.
    """
    rows = -(-len(spreads) // ACROSS)
    figure = new_figure(WIDTH, 0.25 + 0.75 * rows)
    axes = figure.add_subplot()
    ends = [math.log10(entry[0]) for spread in spreads.values() for entry in spread["histogram"]]
    first, half_octave = min(ends), math.log10(2) / 2
    wide = max(ends) + half_octave - first
    for place, (language, spread) in enumerate(spreads.items()):
        low, left = -(place // ACROSS) * PITCH, place % ACROSS * wide * PITCH - first
        lows, read, kept = zip(*spread["histogram"], strict=True)
        edges = [left + math.log10(edge) for edge in lows]
        for counts, colour, alpha in ((read, OTHER, 0.45), (kept, BAR, 1)):
            heights = [low + count / max(1, *read) for count in counts]
            axes.stairs(heights, [*edges, edges[-1] + half_octave], baseline=low, fill=True, color=colour, alpha=alpha)
        axes.text(left + first, low + 1.06, language, fontsize=9, color=INK)
    powers = range(math.ceil(first), math.floor(first + wide) + 1)[:: 1 + (wide > MOST_TICKS)]
    columns = [column * wide * PITCH - first for column in range(min(ACROSS, len(spreads)))]
    axes.set_xticks(
        [left + power for left in columns for power in powers], [f"$10^{power}$" for power in powers] * len(columns)
    )
    axes.set_yticks([])
    axes.set_ylim(-(rows - 1) * PITCH - 0.02, PITCH)
    strip(axes)
    return svg(figure, words)
