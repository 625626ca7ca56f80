"""How answers behave, right or wrong: empty, refusing, running away, in the wrong language, deaf or blind to media."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import Any

from caravan.evaluate.metrics import normalise, right
from caravan.evaluate.probes import Probed
from caravan.evaluate.rows import Row
from caravan.records import AudioPart, ImagePart
from caravan.text.languages import written_in
from caravan.text.refusals import denies_senses, refuses
from caravan.text.repetition import runs_away

AS_ASKED = "as asked"
# Who answered under the decoding guard.
GUARDED = "guarded"
WRITTEN_DOWN = ("transcript", "asked in another language", "code-switched")
# Characters of scripts without spaces count as words, as in the mixed error rate of code-switched speech.
_UNITS = re.compile(r"[\u0e00-\u0e7f\u3040-\u30ff\u3400-\u9fff]|[^\W\u0e00-\u0e7f\u3040-\u30ff\u3400-\u9fff]+")


@dataclass(frozen=True)
class Behaviour:
    """What answers to one probe do in one language; shares are of 1, None where nothing can be said.

    Attributes:
        right: exact answers; `before` is that share on the rows that the probe was made of.
        unchanged: answers that are those to the rows that the probe was made of.
        wordless: answers without a letter or digit.
        refusing: refusals, and answers that deny a sense.
        running_away: answers that end in a loop.
        own_language: answers in the expected one's language, of the `told` ones in which that can be told.
        error_rate: mixed error rate of transcripts: words, in scripts without spaces characters.
    """

    probe: str
    language: str
    rows: int
    right: float
    before: float | None
    unchanged: float | None
    wordless: float
    refusing: float
    running_away: float
    own_language: float | None
    told: int
    error_rate: float | None = None


def behaviours(
    rows: Sequence[Row], probed: Sequence[Probed], answers: Mapping[str, str], languages: Sequence[str]
) -> list[Behaviour]:
    """The rows with media as they were asked, then every probe, by language."""
    cells: dict[tuple[str, str], list[tuple[Row, Row | None]]] = defaultdict(list)
    for row in rows:
        if any(isinstance(part, AudioPart | ImagePart) for message in row.messages for part in message.content):
            cells[AS_ASKED, row.language].append((row, None))
    for one in probed:
        original = None if one.probe in WRITTEN_DOWN else one.original
        cells[one.probe, one.row.language].append((one.row, original))
    return [_behaviour(probe, language, found, answers, languages) for (probe, language), found in cells.items()]


def _behaviour(
    probe: str,
    language: str,
    found: Sequence[tuple[Row, Row | None]],
    answers: Mapping[str, str],
    languages: Sequence[str],
) -> Behaviour:
    said = [answers[row.id] for row, _ in found]
    # What is expected in another language, such as a translation, does not tell how well the asked one is kept to.
    kept = [written_in(text, language, languages) for text, (row, _) in zip(said, found, strict=True)
            if written_in(row.reference, language, languages) is not False]  # fmt: skip
    told = [one for one in kept if one is not None]
    made_of = [(row, original) for row, original in found if original]
    pairs = [(row.reference, text) for text, (row, _) in zip(said, found, strict=True)]
    return Behaviour(
        probe,
        language,
        len(found),
        right=fmean(right(answers[row.id], row) for row, _ in found),
        before=fmean(right(answers[row.id], row) for _, row in made_of) if made_of else None,
        unchanged=fmean(normalise(answers[row.id]) == normalise(answers[old.id]) for row, old in made_of)
        if made_of
        else None,
        wordless=fmean(not any(map(str.isalnum, text)) for text in said),
        refusing=fmean(refuses(text, language) or denies_senses(text, language) for text in said),
        running_away=fmean(map(runs_away, said)),
        own_language=fmean(told) if told else None,
        told=len(told),
        error_rate=mixed_error_rate(pairs) if probe in WRITTEN_DOWN else None,
    )


FIGURES = ("right", "before", "unchanged", "wordless", "refusing", "running_away", "own_language", "error_rate")


def means(found: Sequence[Behaviour]) -> list[dict[str, Any]]:
    """A line for each probe: rows, languages, and the mean of every figure over the languages that have it."""
    lines: dict[str, list[Behaviour]] = defaultdict(list)
    for one in found:
        lines[one.probe].append(one)
    return [
        {"probe": probe, "rows": sum(one.rows for one in some), "languages": len(some)}
        | {name: _mean([getattr(one, name) for one in some]) for name in FIGURES}
        for probe, some in lines.items()
    ]


def _mean(values: Sequence[float | None]) -> float | None:
    given = [value for value in values if value is not None]
    return fmean(given) if given else None


def mixed_error_rate(pairs: Sequence[tuple[str, str]]) -> float:
    """Edits over the references' length in words, of scripts without spaces in characters.

    The measure of speech that changes its language (Vu et al. 2012 and the SEAME corpus after it).

    Args:
        pairs: (reference, answer) each.
    """
    import jiwer

    references, answers = (
        [" ".join(_UNITS.findall(normalise(text))) for text in side] for side in zip(*pairs, strict=True)
    )
    return float(jiwer.wer(references, answers))


def running_away(rows: Sequence[Row], answers: Mapping[str, str]) -> list[Row]:
    """The rows, of those that are answered, whose answers run away."""
    return [row for row in rows if runs_away(answers.get(row.id, ""))]


def guard_figures(rows: Sequence[Row], answers: Mapping[str, str], guarded: Mapping[str, str]) -> dict[str, int]:
    """How many answers run away, how many the guard ended without changing what stands before, and their lengths."""
    away = running_away(rows, answers)
    ended = [row for row in away if not runs_away(guarded[row.id]) and answers[row.id].startswith(guarded[row.id])]
    return {
        "answers": len(rows),
        "running_away": len(away),
        "ended": len(ended),
        "characters": sum(len(answers[row.id]) for row in away),
        "characters_guarded": sum(len(guarded[row.id]) for row in away),
    }
