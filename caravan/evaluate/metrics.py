"""What answers are worth: exact answers, error rates, agreement, and what wrong answers have in common.

Answers are compared after Unicode NFC, case folding, spaces made single, and final punctuation taken off.
"""

from __future__ import annotations

import unicodedata
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import Any

from caravan.core.errors import MissingDependencyError
from caravan.evaluate.rows import Cell, Row
from caravan.recipe.evaluate import Target

# Written without spaces between words: their error rate counts characters.
BY_CHARACTER = ("zh", "ja", "th")
FP32, INT4, HTTP = "fp32", "int4", "HTTP"
# What a cascade's recogniser writes down, and what is answered to that.
HEARD, CASCADE, FUSED = "heard", "cascade", "fused"


def normalise(text: str) -> str:
    """NFC, case folded, single spaces, no punctuation at the end."""
    folded = unicodedata.normalize("NFC", unicodedata.normalize("NFC", text).casefold())
    plain = " ".join(folded.split())
    while plain and (plain[-1].isspace() or unicodedata.category(plain[-1]).startswith("P")):
        plain = plain[:-1]
    return plain


def right(answer: str, row: Row) -> bool:
    """Whether an answer is exactly the expected one."""
    return normalise(answer) == normalise(row.reference)


def error_rate(pairs: Sequence[tuple[str, str]], language: str) -> float:
    """Edits from answers to references over the references' length: words, in zh, ja and th characters.

    Args:
        pairs: (reference, answer) each; both are normalised first.
    """
    import jiwer

    references = [normalise(reference) for reference, _ in pairs]
    answers = [normalise(answer) for _, answer in pairs]
    if language in BY_CHARACTER:
        return float(jiwer.cer(list(map(_unspaced, references)), list(map(_unspaced, answers))))
    return float(jiwer.wer(references, answers))


def _unspaced(text: str) -> str:
    return "".join(text.split())


def chrf(pairs: Sequence[tuple[str, str]]) -> float:
    """Shared character n-grams of answers and references, 0 to 1 (Popović 2015; sacrebleu's chrF2).

    Args:
        pairs: (reference, answer) each.
    """
    references, answers = zip(*pairs, strict=True)
    return float(_sacrebleu().CHRF().corpus_score(answers, [references]).score) / 100


def bleu(pairs: Sequence[tuple[str, str]], language: str) -> float:
    """BLEU of a whole set, 0 to 1, as sacrebleu counts it: zh by its own tokenizer, ja and th by characters."""
    references, answers = zip(*pairs, strict=True)
    tokenizer = "zh" if language == "zh" else "char" if language in BY_CHARACTER else "13a"
    return float(_sacrebleu().BLEU(tokenize=tokenizer).corpus_score(answers, [references]).score) / 100


def _sacrebleu() -> Any:
    try:
        from sacrebleu import metrics
    except ImportError as error:
        raise MissingDependencyError("sacrebleu", "vision", needed_for="scores of captions and translations") from error
    return metrics


@dataclass(frozen=True)
class Score:
    """One task in one language and held-out group.

    `error_rate` is for transcripts; `chrf` is for captions and translations, `bleu` for translations.
    """

    task: str
    language: str
    group: str
    rows: int
    accuracy: float
    error_rate: float | None = None
    chrf: float | None = None
    bleu: float | None = None


def scores(rows: Sequence[Row], answers: Mapping[str, str]) -> list[Score]:
    """A score for each cell of the rows, in the order of task, group and language."""
    cells: dict[Cell, list[Row]] = defaultdict(list)
    for row in rows:
        cells[row.cell].append(row)
    ordered = sorted(cells.items(), key=lambda item: (item[0][0], item[0][2], item[0][1]))
    return [_score(task, language, group, found, answers) for (task, language, group), found in ordered]


def _score(task: str, language: str, group: str, found: Sequence[Row], answers: Mapping[str, str]) -> Score:
    pairs = [(row.reference, answers[row.id]) for row in found]
    return Score(
        task,
        language,
        group,
        len(found),
        fmean(right(answers[row.id], row) for row in found),
        error_rate(pairs, language) if task == "transcribe" else None,
        chrf(pairs) if task in ("caption", "translate") else None,
        bleu(pairs, language) if task == "translate" else None,
    )


def equal_share(rows: Iterable[Row], one: Mapping[str, str], other: Mapping[str, str]) -> tuple[float | None, int]:
    """The share of rows that both answer with the same characters, and how many both have answered."""
    both = [row.id for row in rows if row.id in one and row.id in other]
    return (fmean(one[i] == other[i] for i in both) if both else None), len(both)


def table(
    targets: Sequence[Target], rows: Sequence[Row], by: Mapping[str, Mapping[str, str]]
) -> list[dict[str, object]]:
    """The last table: `name, value, at_least, count` a line; the value is None where nothing was measured."""
    lines: list[dict[str, object]] = []
    for target in targets:
        chosen = [
            row
            for row in rows
            if target.task in (None, row.task)
            and target.group in (None, row.group)
            and target.source in (None, row.source)
            and (target.languages is None or row.language in target.languages)
        ]
        value, count = _measure(target.metric, chosen, by)
        lines.append({"name": target.name, "value": value, "at_least": target.at_least, "count": count})
    return lines


def _measure(metric: str, rows: Sequence[Row], by: Mapping[str, Mapping[str, str]]) -> tuple[float | None, int]:
    match metric:
        case "int4 = fp32":
            return equal_share(rows, by.get(INT4, {}), by[FP32])
        case "HTTP = in-process":
            return equal_share(rows, by.get(HTTP, {}), by.get(INT4, {}))
        case _:
            languages: dict[str, list[bool]] = defaultdict(list)
            for row in rows:
                languages[row.language].append(right(by[FP32][row.id], row))
            return (fmean(map(fmean, languages.values())) if languages else None), len(rows)


def reached(line: Mapping[str, object]) -> bool | None:
    """Whether a line of the table reaches its target; None where it has none or nothing was measured."""
    value, least = line["value"], line["at_least"]
    if not isinstance(value, float | int) or not isinstance(least, float | int):
        return None
    return value >= least


@dataclass(frozen=True)
class Failures:
    """The wrong answers of one task.

    Attributes:
        other_item: the right answer to another row of the same language: the wrong thing was seen or heard.
        other_language: the right answer to a row of another language.
        other_words: an answer that no row expects.
        confusions: (language, expected, answered, how often), most frequent first.
    """

    task: str
    rows: int
    wrong: int
    other_item: int
    other_language: int
    other_words: int
    confusions: list[tuple[str, str, str, int]]


def failures(rows: Sequence[Row], answers: Mapping[str, str], most: int = 10) -> list[Failures]:
    """What goes wrong in each task, by kind and by the most frequent confusions."""
    known: dict[str, dict[str, set[str]]] = defaultdict(lambda: defaultdict(set))
    for row in rows:
        known[row.task][row.language].add(normalise(row.reference))
    result = []
    for task, references in sorted(known.items()):
        asked = [row for row in rows if row.task == task]
        wrong = [row for row in asked if not right(answers[row.id], row)]
        kinds: Counter[str] = Counter()
        for row in wrong:
            answer = normalise(answers[row.id])
            if answer in references[row.language]:
                kinds["item"] += 1
            elif any(answer in others for others in references.values()):
                kinds["language"] += 1
            else:
                kinds["words"] += 1
        pairs = Counter((row.language, normalise(row.reference), normalise(answers[row.id])) for row in wrong)
        confusions = [(*pair, count) for pair, count in pairs.most_common(most)]
        result.append(
            Failures(task, len(asked), len(wrong), kinds["item"], kinds["language"], kinds["words"], confusions)
        )
    return result


@dataclass(frozen=True)
class Confusion:
    """How often each expected answer of a small closed set got each answer; the last column is anything else."""

    task: str
    language: str
    labels: list[str]
    counts: list[list[int]]


def confusion_matrices(
    rows: Sequence[Row], answers: Mapping[str, str], *, most_labels: int = 20, least_rows: int = 40
) -> list[Confusion]:
    """A matrix for each task and language that expects few different answers in many rows."""
    cells: dict[tuple[str, str], list[Row]] = defaultdict(list)
    for row in rows:
        cells[row.task, row.language].append(row)
    result = []
    for (task, language), found in sorted(cells.items()):
        labels = sorted({normalise(row.reference) for row in found})
        if len(found) < least_rows or not 2 <= len(labels) <= most_labels:
            continue
        place = {label: index for index, label in enumerate(labels)}
        counts = [[0] * (len(labels) + 1) for _ in labels]
        for row in found:
            answer = place.get(normalise(answers[row.id]), len(labels))
            counts[place[normalise(row.reference)]][answer] += 1
        result.append(Confusion(task, language, labels, counts))
    return result
