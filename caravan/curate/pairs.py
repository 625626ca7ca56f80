"""Which parallel pairs are refused by themselves; what only all pairs together can tell is in `settle_pairs`."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
from rapidfuzz import process
from rapidfuzz.distance import Levenshtein

from caravan.curate.language import Identifier
from caravan.curate.pair_features import measure_pairs
from caravan.curate.steps import Verdict, verdict_of
from caravan.recipe.pairs import PairLimits

SIDES = ("source", "target")
Floats = npt.NDArray[np.float64]


class PairStep:
    """Both sides there, with letters, different, of equal numbers, in wanted languages, and in those stated."""

    name = "pair"
    REASONS = (
        "language not wanted", "empty side", "few letters", "copied side", "shared words", "numbers differ",
        "another language than stated",
    )  # fmt: skip

    def __init__(self, limits: PairLimits, identifier: Identifier) -> None:
        self.limits, self.identifier = limits, identifier

    def judge(self, batch: pa.RecordBatch) -> Verdict:
        sides = [pc.utf8_trim_whitespace(batch[f"{side}_text"]) for side in SIDES]
        lengths = [pc.utf8_length(text).to_numpy(zero_copy_only=False).astype(np.float64) for text in sides]
        shorter = np.minimum(*lengths)
        limits, found = self.limits, measure_pairs(*sides)
        alike = similarity(sides, shorter >= limits.similar_characters, limits.max_similarity)
        doubt = self._doubt(batch, sides, lengths)
        wanted = pa.array(sorted(self.identifier.wanted))
        stated = [pc.is_in(batch[f"{side}_language"], wanted).to_numpy(zero_copy_only=False) for side in SIDES]
        checks = (
            # What is stated counts as certain.
            (~np.logical_and(*stated), np.ones(batch.num_rows)),
            (shorter == 0, shorter),
            (found["letters"] < limits.min_letters, found["letters"]),
            (alike > limits.max_similarity, alike),
            (
                (found["shared_words"] > limits.max_shared_words) & (found["words"] >= limits.shared_words_from),
                found["shared_words"],
            ),
            ((found["numbers"] < limits.min_numbers) & (found["digits"] >= limits.number_digits), found["numbers"]),
            (doubt >= limits.contradiction, doubt),
        )
        first = np.full(batch.num_rows, -1, np.int64)
        values = np.full(batch.num_rows, np.nan)
        for index, (failed, value) in enumerate(checks):
            fresh = failed & (first < 0)
            first[fresh], values[fresh] = index, value[fresh]
        return verdict_of(self.REASONS, first, values)

    def _doubt(self, batch: pa.RecordBatch, sides: list[pa.Array], lengths: list[Floats]) -> Floats:
        """Probability of another language than stated on a long side, 0 where there is no doubt."""
        doubt = np.zeros(batch.num_rows)
        for side, text, length in zip(SIDES, sides, lengths, strict=True):
            long = length >= self.limits.language_characters
            found, probability = self.identifier.identify(text.filter(pa.array(long)))
            other = found != np.array(batch[f"{side}_language"].to_pylist(), np.str_)[long]
            doubt[long] = np.maximum(doubt[long], np.where(other, probability, 0))
        return doubt


def similarity(sides: list[pa.Array], worth: npt.NDArray[np.bool_], least: float) -> Floats:
    """1 - Levenshtein distance / characters of the longer, case ignored, of the pairs that are worth it [n].

    Below `least` it is not measured and stands as 0: the distance of two long texts is costly.
    """
    alike = np.zeros(len(worth))
    if worth.any():
        mask = pa.array(worth)
        texts = [pc.utf8_lower(text.filter(mask)).to_pylist() for text in sides]
        scorer = Levenshtein.normalized_similarity
        alike[worth] = process.cpdist(*texts, scorer=scorer, score_cutoff=least, dtype=np.float64)
    return alike
