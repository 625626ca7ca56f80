"""py3langid's model run by numba: naive Bayes over byte n-grams that an automaton finds (Lui & Baldwin, ACL 2012).

The model and its numbers are py3langid's (github.com/adbar/py3langid); a text takes a tenth of the time.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable, Sequence

import numpy as np
import numpy.typing as npt
from numba import njit
from py3langid.langid import MODEL_FILE, LanguageIdentifier

Floats = npt.NDArray[np.float32]


@njit(nogil=True, cache=True)
def _score(
    data: npt.NDArray[np.uint8],
    moves: npt.NDArray[np.uint32],
    rows: npt.NDArray[np.int64],
    features: npt.NDArray[np.int64],
    weights_FC: Floats,
    counts_F: Floats,
    score_C: Floats,
) -> None:
    """Add the weights of the features whose states the automaton reaches; the counts are zero before and after."""
    seen = np.empty(len(data), np.int64)
    many = 0
    state = np.uint32(0)
    for byte in data:
        state = moves[rows[state] + byte]
        feature = features[state]
        if feature >= 0:
            if not counts_F[feature]:
                seen[many] = feature
                many += 1
            counts_F[feature] += 1
    for feature in seen[:many]:
        count = np.log1p(counts_F[feature])
        for label in range(len(score_C)):
            score_C[label] += count * weights_FC[feature, label]
        counts_F[feature] = 0


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
        self._rows_S, self._features_S = np.array(model.tk_row, np.int64) << 8, np.array(model.tk_output, np.int64)

    def probabilities(self, texts: Sequence[str]) -> Floats:
        """Probability of each candidate for each text [n, C], softened by the text's length as py3langid does."""
        out = np.zeros((len(texts), len(self.labels)), np.float32)
        counts = np.zeros(len(self._weights_FC), np.float32)
        for row, text in enumerate(texts):
            data = np.frombuffer(normalised(text), np.uint8)
            score = np.zeros(len(self._prior_C), np.float32)
            _score(data, self._moves, self._rows_S, self._features_S, self._weights_FC, counts, score)
            if score.any():
                score += self._prior_C
            score = np.exp((score - score.max()) / np.sqrt(max(1, len(data))))
            # Some languages stand in the model twice, under two names.
            np.add.at(out[row], self._column_of, score / score.sum())
        return out


def normalised(text: str) -> bytes:
    """What the model was trained on: composed characters, and lower case for text in capitals."""
    return unicodedata.normalize("NFC", text.lower() if text.isupper() else text).encode()
