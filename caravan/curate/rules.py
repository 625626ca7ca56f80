"""Rules: what the kernel measures against the limits of the recipe, each with its own reason."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from caravan.curate.kernels import measure
from caravan.curate.steps import Verdict, verdict_of
from caravan.recipe.curate import CurateConfig

LEAST, MOST = -1, 1

# Reason, feature, and the limit of the recipe with its direction; the first that applies is the reason given.
RULES = (
    ("too short", "characters", "min_characters", LEAST),
    ("too long", "characters", "max_characters", MOST),
    ("broken encoding", "broken", "max_broken", MOST),
    ("invisible characters", "invisible", "max_invisible", MOST),
    ("URLs", "urls", "max_urls", MOST),
    ("long word", "longest_word", "max_word", MOST),
    ("digits", "digits", "max_digits", MOST),
    ("symbols", "symbols", "max_symbols", MOST),
    ("few letters", "letters", "min_letters", LEAST),
    ("repeated lines", "repeated_lines", "max_repeated_lines", MOST),
    ("ellipsis lines", "ellipsis_lines", "max_ellipsis_lines", MOST),
    ("frequent 2-gram", "top_2gram", "max_top_2gram", MOST),
    ("frequent 3-gram", "top_3gram", "max_top_3gram", MOST),
    ("frequent 4-gram", "top_4gram", "max_top_4gram", MOST),
    ("repeated 5-grams", "repeated_5gram", "max_repeated_5gram", MOST),
    ("short words", "mean_word", "min_mean_word", LEAST),
    ("long words", "mean_word", "max_mean_word", MOST),
)


class RuleStep:
    """Length, characters, words, lines and repetition, each language by its own limits."""

    name = "rules"

    def __init__(self, config: CurateConfig) -> None:
        self.config = config

    def judge(self, batch: pa.RecordBatch) -> Verdict:
        languages, codes = np.unique(batch["language"].to_pylist(), return_inverse=True)
        limits = [self.config.limits(language) for language in languages]
        features = measure(batch["text"], np.array([limit.unit for limit in limits], np.int32)[codes])
        first = np.full(batch.num_rows, -1, np.int64)
        values: npt.NDArray[np.float64] = np.full(batch.num_rows, np.nan)
        for index, (_, feature, limit_name, direction) in enumerate(RULES):
            bound = np.array([getattr(limit, limit_name) for limit in limits], np.float64)[codes]
            # A feature that could not be measured is NaN and compares false.
            broken = (direction * (features[feature] - bound) > 0) & (first < 0)
            first[broken] = index
            values[broken] = features[feature][broken]
        return verdict_of([reason for reason, *_ in RULES], first, values)
