"""Plots of the evaluation's report."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from caravan.evaluate.behaviour import Behaviour
from caravan.evaluate.metrics import BY_CHARACTER, Score
from caravan.pages.plots import BAR, INK, new_figure, strip, svg

if TYPE_CHECKING:
    from matplotlib.figure import Figure

WIDE, ROW = 9.0, 1.35
# What is drawn of each probe, and in words.
HEADLINES: Mapping[str, tuple[str, str]] = {
    "silence": ("wordless", "answers without words, more is better"),
    "noise": ("wordless", "answers without words, more is better"),
    "music": ("wordless", "answers without words, more is better"),
    "other clip": ("unchanged", "answers as to the first clip, less is better"),
    "transcript": ("error_rate", "errors, less is better"),
    "asked in another language": ("error_rate", "errors, less is better"),
    "code-switched": ("error_rate", "errors, less is better"),
    "blank picture": ("right", "right answers without seeing: what can be guessed"),
    "other picture": ("unchanged", "answers as to the first picture, less is better"),
}


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
    """Error rates of transcripts in each language, a panel for each held-out group; empty where there are none."""
    words = f"errors in transcripts: words ({', '.join(BY_CHARACTER)}: characters), less is better"
    return _panels({(words, one.group, one.language): one.error_rate for one in scores}, languages)


def chrf_plot(scores: Sequence[Score], languages: Sequence[str]) -> str:
    """chrF of captions and translations in each language, a panel for each held-out group; empty without any."""
    return _panels({(f"{one.task}: chrF", one.group, one.language): one.chrf for one in scores}, languages)


def _panels(values: Mapping[tuple[str, str, str], float | None], languages: Sequence[str]) -> str:
    """Bars by language, a panel for each title and held-out group; empty where nothing was measured."""
    panels: dict[tuple[str, str], dict[str, float]] = {}
    for (words, group, language), value in values.items():
        if value is not None:
            panels.setdefault((words, group), {})[language] = value
    if not panels:
        return ""
    figure = _figure(len(panels))
    for place, ((words, group), found) in enumerate(sorted(panels.items())):
        axes = figure.add_subplot(len(panels), 1, place + 1)
        known = [language for language in languages if language in found]
        _bars(axes, [found[language] for language in known], known)
        axes.set_ylim(0, max(0.1, *(1.15 * value for value in found.values())))
        strip(axes, f"{words}; {group}" if group else words)
    return svg(figure)


def probes_plot(found: Sequence[Behaviour], languages: Sequence[str]) -> str:
    """The figure that tells most of each probe, in each language; empty without probes."""
    panels: dict[str, dict[str, float | None]] = {}
    for one in found:
        if one.probe in HEADLINES:
            panels.setdefault(one.probe, {})[one.language] = getattr(one, HEADLINES[one.probe][0])
    if not panels:
        return ""
    figure = _figure(len(panels))
    for place, (probe, values) in enumerate(panels.items()):
        axes = figure.add_subplot(len(panels), 1, place + 1)
        heard = [language for language in languages if language in values]
        _bars(axes, [values[language] for language in heard], heard)
        axes.set_ylim(0, 1.12 * max(1.0, *(value or 0.0 for value in values.values())))
        axes.set_yticks([0, 0.5, 1])
        strip(axes, f"{probe}: {HEADLINES[probe][1]}")
    return svg(figure)


def cascade_plot(found: Sequence[Mapping[str, Any]], languages: Sequence[str]) -> str:
    """Exact answers of the fused model and of the cascade side by side, a panel for each task; empty without any."""
    tasks = sorted({one["task"] for one in found})
    if not tasks:
        return ""
    figure = _figure(len(tasks))
    for place, task in enumerate(tasks):
        axes = figure.add_subplot(len(tasks), 1, place + 1)
        by = {one["language"]: one for one in found if one["task"] == task}
        heard = [language for language in languages if language in by]
        for side, (name, colour) in enumerate((("fused", BAR), ("cascade", INK))):
            places = [number + 0.36 * side - 0.18 for number in range(len(heard))]
            axes.bar(places, [by[language][name] for language in heard], color=colour, width=0.34)
        axes.set_xticks(range(len(heard)), heard, fontsize=8, color=INK)
        axes.set_xlim(-0.6, len(heard) - 0.4)
        axes.set_ylim(0, 1.12)
        axes.set_yticks([0, 0.5, 1])
        strip(axes, f"{task}: exact answers, fused (coloured) and cascade")
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
