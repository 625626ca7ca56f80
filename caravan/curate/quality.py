"""How much text looks like trusted text rather than junk, by a classifier of n-grams."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from caravan.core.artifact import Artifact
from caravan.curate.classifier.hashing import shape_of
from caravan.curate.classifier.logistic import Classifier
from caravan.curate.ngrams.kneser_ney import Doubles
from caravan.curate.signatures import sign
from caravan.curate.steps import Verdict, verdict_of
from caravan.recipe.learned import CLASSIFIERS, ClassifierTraining, QualityFilter

QUALITY = pa.field("quality", pa.float32())
SCORES = "scores.parquet"  # of the trusted text held out from a classifier


class QualityStep:
    """Ask each language's classifier; text in a language without one passes, its column null.

    Raises:
        ArtifactError: no finished folder of classifiers.
    """

    name = "quality"
    notes = (QUALITY,)
    REASONS = ("low quality",)

    def __init__(self, config: QualityFilter) -> None:
        self.config = config
        artifact = Artifact.open(Path(config.models), CLASSIFIERS)
        trained = ClassifierTraining.model_validate(artifact.manifest.recipe[artifact.manifest.stage])
        folders = {language: artifact.path / language for language in artifact.counts["languages"]}
        self._classifiers = {name: Classifier.load(folder, shape_of(trained)) for name, folder in folders.items()}
        self._limits = {name: self._limit(name, folder) for name, folder in folders.items()}

    def _limit(self, language: str, folder: Path) -> float:
        given = self.config.threshold
        threshold = given.get(language) if isinstance(given, dict) else given
        if threshold is not None:
            return threshold
        if self.config.quantile is None:
            return 0.0
        return float(np.quantile(pq.read_table(folder / SCORES)[QUALITY.name].to_numpy(), self.config.quantile))

    def judge(self, batch: pa.RecordBatch) -> Verdict:
        languages = np.array(batch["language"].to_pylist(), np.str_)
        quality, low = np.full(len(languages), np.nan), np.zeros(len(languages), np.bool_)
        for language in np.intersect1d(languages, list(self._classifiers)):
            rows = np.flatnonzero(languages == language)
            quality[rows] = self._classifiers[language].score(batch["text"].take(pa.array(rows)))
            low[rows] = quality[rows] < self._limits[language]
        if self.config.pareto is not None:
            low &= drawn(batch["text"], self.config.pareto) <= 1 - quality
        columns = {QUALITY.name: pa.array(quality, from_pandas=True)}
        return verdict_of(self.REASONS, np.where(low, 0, -1), quality, columns)


def drawn(texts: pa.Array, shape: float) -> Doubles:
    """A number of each text [n] as if drawn from a Pareto distribution that begins at 0, the same for the same text."""
    hashes, _ = sign(texts, [""] * len(texts), [1] * len(texts), bands=0, rows=0)
    uniform = (hashes >> np.uint64(11)) / float(1 << 53)
    return (1 - uniform) ** (-1 / shape) - 1
