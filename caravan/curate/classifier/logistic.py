"""Logistic regression on hashed n-grams: the probability that a text is trusted rather than junk.

A text of m n-grams is a vector of m times 1 / sqrt(m), so that long and short ones count alike; there is no intercept,
because some n-grams, such as a blank, are in nearly every text.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa
from numba import njit

from caravan.core.files import atomic_path
from caravan.curate.characters import kinds, lower
from caravan.curate.classifier.hashing import Hashed, Places, Shape, most_of, places_of
from caravan.curate.kernels import Kinds, Points, buffers
from caravan.curate.ngrams.kneser_ney import Doubles, Floats
from caravan.curate.ngrams.units import Longs

WEIGHTS = "weights.npy"


@njit(inline="always")
def _probability(places: Places, weights: Floats) -> float:
    """Of one text; nan if it has no n-grams."""
    total = 0.0
    for place in places:
        total += weights[place]
    return 1 / (1 + np.exp(-total / np.sqrt(len(places)))) if len(places) else np.nan


@njit(nogil=True, cache=True)
def _descend(
    places: Places, bounds: Longs, order: Longs, targets: Doubles, shares: Doubles, rate: float, weights: Floats
) -> None:
    for row in order:
        mine = places[bounds[row] : bounds[row + 1]]
        if len(mine):
            step = rate * shares[row] * (targets[row] - _probability(mine, weights)) / np.sqrt(len(mine))
            for place in mine:
                weights[place] += step


@njit(nogil=True, cache=True)
def _score(
    data: npt.NDArray[np.uint8], offsets: Longs, shape: Shape, table: Kinds, low: Points, weights: Floats, out: Doubles
) -> None:
    longest = (offsets[1:] - offsets[:-1]).max()
    points, seen = np.empty(longest + 1, np.uint32), np.zeros(max(1, (1 << shape.bits) >> 5), np.uint32)
    places = np.empty(most_of(longest, shape), np.uint32)
    for row in range(len(offsets) - 1):
        many = places_of(data, offsets[row], offsets[row + 1], shape, table, low, points, seen, places)
        out[row] = _probability(places[:many], weights)


class Classifier:
    """Trusted or not, in one language.

    Args:
        weights: of each place [2 ** shape.bits].
    """

    def __init__(self, shape: Shape, weights: Floats | None = None) -> None:
        self.shape = shape
        self.weights = np.zeros(1 << shape.bits, np.float32) if weights is None else weights

    def learn(self, hashed: Hashed, order: Longs, targets: Doubles, shares: Doubles, rate: float) -> None:
        """Descend the gradient of the log loss, text by text.

        Args:
            order: in which texts are looked at [n].
            targets: 1 for trusted text, 0 for junk [n].
            shares: how much each text counts [n].
        """
        _descend(*hashed, order, targets, shares, rate, self.weights)

    def score(self, texts: pa.Array) -> Doubles:
        """Probability of each text [n]; nan for an empty one.

        Args:
            texts: valid UTF-8 strings [n], no nulls.
        """
        out = np.full(len(texts), np.nan)
        if len(texts):
            _score(*buffers(texts), self.shape, kinds(), lower(), self.weights, out)
        return out

    def save(self, folder: Path) -> None:
        """Write the weights; the shape stands in the manifest."""
        with atomic_path(folder / WEIGHTS) as temporary, temporary.open("wb") as file:
            np.save(file, self.weights)

    @classmethod
    def load(cls, folder: Path, shape: Shape) -> Classifier:
        """Map a classifier from disk: processes that score with it share its memory."""
        return cls(shape, np.asarray(np.load(folder / WEIGHTS, mmap_mode="r")))
