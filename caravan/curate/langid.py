"""py3langid's model run by numba: naive Bayes over byte n-grams that an automaton finds (Lui & Baldwin, ACL 2012).

The model and its numbers are py3langid's (github.com/adbar/py3langid); a text takes a tenth of the time.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable, Sequence

import numpy as np
import numpy.typing as npt
import pyarrow as pa
from numba import njit
from py3langid.langid import MODEL_FILE, LanguageIdentifier

from caravan.curate.kernels import Points, buffers

LANES = 8

Floats = npt.NDArray[np.float32]
Integers = npt.NDArray[np.int32]
Offsets = npt.NDArray[np.int64]


@njit(nogil=True, cache=True)
def _walk(
    data: npt.NDArray[np.uint8], offsets: Offsets, moves: Points, rows: Points, features: Integers, found: Integers
) -> None:
    """Fill the feature that the automaton reaches at each byte, -1 for none.

    Each move waits for memory: some texts go side by side, so that they wait together.
    """
    state = np.empty(LANES, np.uint32)
    for first in range(0, len(offsets) - 1, LANES):
        lanes = min(LANES, len(offsets) - 1 - first)
        state[:] = 0
        longest = (offsets[first + 1 : first + lanes + 1] - offsets[first : first + lanes]).max()
        for step in range(longest):
            for lane in range(lanes):
                at = offsets[first + lane] + step
                if at < offsets[first + lane + 1]:
                    state[lane] = moves[rows[state[lane]] + data[at]]
                    found[at] = features[state[lane]]


@njit(nogil=True, cache=True)
def _score(
    found: Integers, offsets: Offsets, weights_FC: Floats, prior_C: Floats, column_of: Offsets, out: Floats
) -> None:
    """Fill the probability of each label for each text [n, C], of the softened sums of its features' weights."""
    counts_F = np.zeros(len(weights_FC), np.int32)
    score_C = np.empty(len(prior_C), np.float32)
    for row in range(len(offsets) - 1):
        score_C[:] = 0
        features = found[offsets[row] : offsets[row + 1]]
        for feature in features:
            counts_F[max(feature, 0)] += feature >= 0
        for feature in features:
            if feature >= 0 and counts_F[feature]:
                weight = np.float32(np.log1p(np.float32(counts_F[feature])))
                for label in range(len(score_C)):
                    score_C[label] += weight * weights_FC[feature, label]
                counts_F[feature] = 0
        if score_C.any():
            score_C += prior_C
        score_C[:] = np.exp((score_C - score_C.max()) / np.float32(np.sqrt(max(1, len(features)))))
        score_C /= score_C.sum()
        # Some languages stand in the model twice, under two names.
        for label in range(len(score_C)):
            out[row, column_of[label]] += score_C[label]


class LangId:
    """Naive Bayes over the languages of a run.

    Args:
        languages: candidates; those that the model does not know are passed over.

    Attributes:
        known: all languages of the model.
        labels: of the candidates [C].
    """

    def __init__(self, languages: Iterable[str]) -> None:
        model = LanguageIdentifier.from_model_file(MODEL_FILE)
        self.known = frozenset(model.labels)
        model.set_languages(set(languages) & self.known)
        self.labels: tuple[str, ...] = tuple(model.labels)
        self._column_of = np.array([self.labels.index(name) for name in model.nb_classes])
        self._weights_FC, self._prior_C = np.asarray(model.nb_ptc, np.float32), np.asarray(model.nb_pc, np.float32)
        self._moves = np.array(model.tk_nextmove, np.uint32)
        self._rows_S, self._features_S = (
            np.array(model.tk_row, np.uint32) * np.uint32(256),
            np.array(model.tk_output, np.int32),
        )

    def probabilities(self, texts: Sequence[str]) -> Floats:
        """Probability of each candidate for each text [n, C], softened by the text's length as py3langid does."""
        out = np.zeros((len(texts), len(self.labels)), np.float32)
        if len(texts):
            data, offsets = buffers(pa.array(map(normalised, texts), pa.large_binary()))
            found = np.empty(len(data), np.int32)
            _walk(data, offsets, self._moves, self._rows_S, self._features_S, found)
            _score(found, offsets, self._weights_FC, self._prior_C, self._column_of, out)
        return out


def normalised(text: str) -> bytes:
    """What the model was trained on: composed characters, and lower case for text in capitals."""
    return unicodedata.normalize("NFC", text.lower() if text.isupper() else text).encode()
