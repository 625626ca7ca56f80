"""Plots as SVG that takes its text colour from the page, so that they read on light and on dark."""

from __future__ import annotations

import html
import io
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from matplotlib.figure import Figure

# matplotlib wants a colour; in the SVG it becomes the page's own.
INK = "#010203"
BAR = "#3f8f8b"


def new_figure(width: float, height: float) -> Figure:
    """A figure of so many inches."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib.figure import Figure

    return Figure(figsize=(width, height), layout="constrained")


def strip(axes: Any, words: str = "") -> None:
    """Nothing around a plot but its labels, in the page's colour, and its title."""
    axes.tick_params(colors=INK, length=0, labelsize=8)
    for side in ("top", "right", "left", "bottom"):
        axes.spines[side].set_visible(False)
    axes.set_facecolor("none")
    axes.set_title(words, loc="left", fontsize=9, color=INK)


def svg(figure: Figure, words: str = "") -> str:
    """The drawing alone, without XML header; text stays text; ids from a fixed salt, so
    that the same figures give the same file.

    Args:
        words: what it shows, for those who hear the page.
    """
    import matplotlib

    drawing = io.StringIO()
    with matplotlib.rc_context({"svg.hashsalt": "caravan", "svg.fonttype": "none"}):
        figure.savefig(drawing, format="svg", transparent=True, metadata={"Date": None, "Creator": None})
    text = drawing.getvalue()
    text = text[text.index("<svg") :].replace(INK, "currentColor")
    return text.replace("<svg", f'<svg role="img" aria-label="{html.escape(words)}"', 1) if words else text
