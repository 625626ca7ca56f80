"""Interpolated modified Kneser-Ney estimates (Chen & Goodman 1998), pruned as lmplz does (Heafield et al. 2013).

What pruned n-grams would have taken goes to the shorter ones, so that each distribution still sums to one.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from caravan.curate.ngrams.counts import Ngrams
from caravan.curate.ngrams.units import Ints, Longs
from caravan.curate.ngrams.vocabulary import BEGIN

Doubles = npt.NDArray[np.float64]
Floats = npt.NDArray[np.float32]

FALLBACK = (0.0, 0.5, 1.0, 1.5)  # of lmplz, where there is too little text to tell
NEVER = -99.0  # by convention the log10 probability of <s>


@dataclass(frozen=True)
class Level:
    """N-grams of one length, as an ARPA file has them.

    Attributes:
        words: ids of each n-gram's words [m, n].
        values: log10 probability of the last word after the others, and log10 backoff weight [m, 2].
    """

    words: Ints
    values: Floats


def discounts(counts: Longs) -> Doubles:
    """What is taken off a count of 0, 1, 2, and 3 or more."""
    n = np.bincount(np.minimum(counts, 5), minlength=6).astype(np.float64)
    if not n[1:4].all():
        return np.array(FALLBACK)
    y = n[1] / (n[1] + 2 * n[2])
    found = np.array([0.0, *(i - (i + 1) * y * n[i + 1] / n[i] for i in (1, 2, 3))])
    return found if ((found >= 0) & (found <= np.arange(4))).all() else np.array(FALLBACK)


def estimate(grams: Sequence[Ngrams], vocabulary: int, prune: Sequence[int]) -> list[Level]:
    """Levels of a model, the single words (all of the vocabulary, by id) first.

    Args:
        grams: counts of each length.
        vocabulary: words with `<unk>`, `<s>` and `</s>`.
        prune: of each length from 2 on: n-grams that came so often or less are left out; must not fall.
    """
    single = _single(grams[0], vocabulary)
    words, values = [np.arange(vocabulary, dtype=np.int32)[:, None]], [np.stack([single, np.ones(vocabulary)], 1)]
    # Of all n-grams of a length: the words, the probability, and the row in the model, -1 where pruned.
    spelt, shorter, row = grams[0].word[:, None], single[grams[0].word], grams[0].word.astype(np.int64)
    for level, most in zip(grams[1:], prune, strict=True):
        kept = level.count > most
        taken = discounts(level.adjusted)[np.minimum(level.adjusted, 3)]
        total = np.bincount(level.context, level.adjusted, len(shorter))
        left_over = np.bincount(level.context, np.where(kept, taken, level.adjusted), len(shorter))
        backoff = np.divide(left_over, total, out=np.ones(len(shorter)), where=total > 0)
        values[-1][row[row >= 0], 1] = backoff[row >= 0]
        own = np.where(kept, level.adjusted - taken, 0) / total[level.context]
        shorter = own + backoff[level.context] * shorter[level.suffix]
        spelt = np.concatenate([spelt[level.context], level.word[:, None]], 1)
        row = np.where(kept, np.cumsum(kept) - 1, -1)
        words.append(spelt[kept])
        values.append(np.stack([shorter[kept], np.ones(kept.sum())], 1))
    return [
        Level(*level) for level in zip(words, (np.log10(value).astype(np.float32) for value in values), strict=True)
    ]


def _single(grams: Ngrams, vocabulary: int) -> Doubles:
    """Probability of each word alone [v]: what discounts leave over goes to all but `<s>` alike, `<unk>` among them."""
    foretold = grams.word != BEGIN
    counts = grams.adjusted[foretold]
    taken = discounts(counts)[np.minimum(counts, 3)]
    found = np.full(vocabulary, taken.sum() / counts.sum() / (vocabulary - 1))
    found[grams.word[foretold]] += (counts - taken) / counts.sum()
    found[BEGIN] = 10**NEVER
    return found
