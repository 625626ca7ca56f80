"""Plots of the evaluation's report."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from caravan.evaluate.metrics import BY_CHARACTER, Score
from caravan.pages.plots import BAR, INK, new_figure, strip, svg

if TYPE_CHECKING:
    from matplotlib.figure import Figure

WIDE, ROW = 9.0, 1.35


def accuracy_plot(scores: Sequence[Score], languages: Sequence[str]) -> str:
    """Exact answers in each language, a panel for each task and held-out group."""
    panels: dict[tuple[str, str], dict[str, float]] = {}
    for score in scores:
        panels.setdefault((score.task, score.group), {})[score.language] = score.accuracy
    figure = _figure(len(panels))
    for place, ((task, group), values) in enumerate(sorted(panels.items())):
        axes = figure.add_subplot(len(panels), 1, place + 1)
        _bars(axes, [values.get(language) for language in languages], languages)
        axes.set_ylim(0, 1.12)
        axes.set_yticks([0, 0.5, 1])
        strip(axes, f"{task}, {group}" if group else task)
    return svg(figure)


def error_plot(scores: Sequence[Score], languages: Sequence[str]) -> str:
    """Error rates of transcripts in each language; empty where nothing was transcribed."""
    values = {score.language: score.error_rate for score in scores if score.error_rate is not None}
    if not values:
        return ""
    figure = _figure(1)
    axes = figure.add_subplot()
    heard = [language for language in languages if language in values]
    _bars(axes, [values[language] for language in heard], heard)
    axes.set_ylim(0, max(0.1, *(1.15 * value for value in values.values() if value is not None)))
    strip(axes, f"errors in transcripts: words ({', '.join(BY_CHARACTER)}: characters), less is better")
    return svg(figure)


def bits_plot(bits: Mapping[str, float]) -> str:
    """Bits per byte of held-out text in each language; empty where nothing was measured."""
    if not bits:
        return ""
    figure = _figure(1)
    axes = figure.add_subplot()
    ordered = sorted(bits, key=lambda language: bits[language])
    _bars(axes, [bits[language] for language in ordered], ordered)
    axes.set_ylim(0, 1.15 * max(bits.values()))
    strip(axes, "bits per byte of held-out text, less is better")
    return svg(figure)


def _figure(panels: int) -> Figure:
    return new_figure(WIDE, 0.4 + ROW * panels)


def _bars(axes: Any, values: Sequence[float | None], names: Sequence[str]) -> None:
    heights = [0.0 if value is None else value for value in values]
    axes.bar(range(len(names)), heights, color=BAR, width=0.7)
    for place, value in enumerate(values):
        words = "–" if value is None else f"{value:.2f}"
        axes.text(place, heights[place], words, ha="center", va="bottom", fontsize=7, color=INK)
    axes.set_xticks(range(len(names)), names, fontsize=8, color=INK)
    axes.set_xlim(-0.6, len(names) - 0.4)
