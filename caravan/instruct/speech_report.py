"""What was spoken: conversations, samples and hours by source and language, as in LLaSM's Table 1; and what was not."""

from __future__ import annotations

import io
from collections import Counter
from collections.abc import Mapping
from typing import Any

from caravan.records import Dialogue


def seconds_of(dialogue: Dialogue) -> float:
    """How long the clips of a dialogue are, by their headers."""
    import soundfile

    return sum(float(soundfile.info(io.BytesIO(media.read())).duration) for media in dialogue.audios)


def add(spoken: dict[str, dict[str, float]], dialogue: Dialogue) -> None:
    """Count a spoken conversation under its language; a sample is a question with its answer."""
    counts = spoken.setdefault(dialogue.language, {"conversations": 0, "samples": 0, "seconds": 0.0})
    counts["conversations"] += 1
    counts["samples"] += len(dialogue.audios)
    counts["seconds"] += seconds_of(dialogue)


def markdown(summaries: Mapping[str, Mapping[str, Any]]) -> str:
    """The report of all sources, from their summaries."""
    lines = ["| source | language | conversations | samples | hours |", "|---|---|---:|---:|---:|"]
    total: Counter[str] = Counter()
    left_out: Counter[str] = Counter()
    for name, summary in summaries.items():
        left_out.update(summary["dropped"])
        for language, counts in sorted(summary["spoken"].items()):
            total.update(counts)
            lines.append(_line(name, language, counts))
    lines.append(_line("all", "", total))
    lines += ["", "| left out | conversations |", "|---|---:|"]
    lines += [f"| {reason} | {count:,} |" for reason, count in left_out.most_common()]
    return "\n".join(lines) + "\n"


def _line(name: str, language: str, counts: Mapping[str, float]) -> str:
    hours = counts["seconds"] / 3600
    return f"| {name} | {language} | {counts['conversations']:,.0f} | {counts['samples']:,.0f} | {hours:.2f} |".replace(
        "|  |", "| |"
    )
