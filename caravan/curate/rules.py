"""Rules: what the kernels measure against the limits of the recipe, each with its own reason."""

from __future__ import annotations

import functools
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from caravan.curate.features import FEATURES, Scale, measure
from caravan.curate.steps import Verdict, verdict_of
from caravan.recipe.curate import CurateConfig
from caravan.recipe.limits import RuleLimits

LEAST, MOST = -1, 1


class Rule(NamedTuple):
    """A reason to drop a text: a feature beyond a limit of the recipe, below LEAST or above MOST."""

    reason: str
    feature: str
    limit: str
    direction: int


# The first that applies is the reason given.
RULES = tuple(
    Rule(*rule)
    for rule in (
        ("too short", "characters", "min_characters", LEAST),
        ("too long", "characters", "max_characters", MOST),
        ("few words", "words", "min_words", LEAST),
        ("many words", "words", "max_words", MOST),
        ("broken encoding", "broken", "max_broken", MOST),
        ("invisible characters", "invisible", "max_invisible", MOST),
        ("URLs", "urls", "max_urls", MOST),
        ("long word", "longest_word", "max_word", MOST),
        ("dates", "dates", "max_dates", MOST),
        ("digits", "digits", "max_digits", MOST),
        ("symbols", "symbols", "max_symbols", MOST),
        ("punctuation", "punctuation", "max_punctuation", MOST),
        ("few letters", "letters", "min_letters", LEAST),
        ("blanks", "blanks", "max_blanks", MOST),
        ("curly brackets", "brackets", "max_brackets", MOST),
        ("placeholder text", "placeholders", "max_placeholders", MOST),
        ("hash signs", "hashes", "max_hashes", MOST),
        ("ellipses", "ellipses", "max_ellipses", MOST),
        ("commas", "commas", "max_commas", MOST),
        ("ellipsis lines", "ellipsis_lines", "max_ellipsis_lines", MOST),
        ("bullet lines", "bullet_lines", "max_bullet_lines", MOST),
        ("javascript lines", "javascript_lines", "max_javascript_lines", MOST),
        ("repeated lines", "repeated_lines", "max_repeated_lines", MOST),
        ("repeated paragraphs", "repeated_paragraphs", "max_repeated_paragraphs", MOST),
        *(
            (f"characters of repeated {part}s", f"repeated_{part}_characters", f"max_repeated_{part}_characters", MOST)
            for part in ("line", "paragraph")
        ),
        *((f"frequent {n}-gram", f"top_{n}gram", f"max_top_{n}gram", MOST) for n in range(2, 5)),
        *((f"repeated {n}-grams", f"repeated_{n}gram", f"max_repeated_{n}gram", MOST) for n in range(5, 11)),
        ("short words", "mean_word", "min_mean_word", LEAST),
        ("long words", "mean_word", "max_mean_word", MOST),
        ("few words with letters", "alphabetic_words", "min_alphabetic_words", LEAST),
        ("few stop words", "stop_words", "min_stop_words", LEAST),
        ("few sentences", "sentences", "min_sentences", LEAST),
        ("sentences that begin small", "small_starts", "max_small_starts", MOST),
        ("fragment", "fragment", "min_fragment", LEAST),
        ("short lines", "line_characters", "min_line_characters", LEAST),
        ("long lines", "line_characters", "max_line_characters", MOST),
        ("many short lines", "short_lines", "max_short_lines", MOST),
        ("lines without an end", "ended_lines", "min_ended_lines", LEAST),
    )
)  # fmt: skip
REASONS = [rule.reason for rule in RULES]
DIRECTIONS = np.array([rule.direction for rule in RULES])
COLUMNS = np.array([FEATURES.index(rule.feature) for rule in RULES])


def bounds(limits: RuleLimits) -> npt.NDArray[np.float64]:
    """The limit of each rule [R]."""
    return np.array([getattr(limits, rule.limit) for rule in RULES], np.float64)


def scale(language: str, limits: RuleLimits) -> Scale:
    """In which units a language is measured."""
    return Scale(language, limits.unit, limits.short_line)


class RuleStep:
    """Length, characters, words, lines and repetition, each language by its own limits."""

    name = "rules"

    def __init__(self, config: CurateConfig) -> None:
        self.limits_of = functools.cache(config.limits_of)
        self.bounds_of = functools.cache(lambda language: bounds(self.limits_of(language)))

    def judge(self, batch: pa.RecordBatch) -> Verdict:
        found, codes = np.unique(batch["language"].to_pylist(), return_inverse=True)
        languages = found.tolist()
        scales = [scale(language, self.limits_of(language)) for language in languages]
        measured = measure(batch["text"], codes.astype(np.int32), scales)[:, COLUMNS]
        # A feature that could not be measured is NaN and compares false.
        limits = np.stack([self.bounds_of(language) for language in languages])
        beyond = (measured - limits[codes]) * DIRECTIONS > 0
        rows, first = np.arange(batch.num_rows), beyond.argmax(1)
        return verdict_of(REASONS, np.where(beyond.any(1), first, -1), measured[rows, first])
