"""How likely text is by n-gram models of trusted text: perplexity and bucket, and whether its words belong together.

Perplexity and buckets are CCNet's (arXiv 1911.00359). Coherence is the mean of log10 p(word | words before) / p(word):
it does not ask whether the words are common, so that it finds words thrown together where perplexity does not.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from caravan.core.artifact import Artifact
from caravan.curate.ngrams.kneser_ney import Doubles
from caravan.curate.ngrams.model import NgramModel
from caravan.curate.steps import Verdict, verdict_of
from caravan.recipe.learned import NGRAM_MODELS, PerplexityFilter

PERPLEXITY, COHERENCE, BUCKET = (
    pa.field("perplexity", pa.float32()), pa.field("coherence", pa.float32()), pa.field("bucket", pa.string()),
)  # fmt: skip
BUCKETS = ("head", "middle", "tail")
SCORES = "scores.parquet"  # of the text held out from a model


@dataclass(frozen=True)
class Trusted:
    """A language's model, and the limits that its held-out text gives.

    Attributes:
        edges: perplexities between the buckets [2].
        most, least: limits of perplexity and coherence.
    """

    model: NgramModel
    edges: Doubles
    most: float
    least: float

    @classmethod
    def load(cls, folder: Path, config: PerplexityFilter) -> Trusted:
        held_out = pq.read_table(folder / SCORES)
        perplexity, coherence = (held_out[name].to_numpy() for name in ("perplexity", "coherence"))
        most, least = config.perplexity_quantile, config.coherence_quantile
        return cls(
            NgramModel.load(folder),
            np.quantile(perplexity, config.buckets),
            np.inf if most is None else float(np.quantile(perplexity, most)),
            -np.inf if least is None else float(np.quantile(coherence, least)),
        )


class PerplexityStep:
    """Ask each language's n-gram model; text in a language without one passes, its columns null.

    Raises:
        ArtifactError: no finished folder of n-gram models.
    """

    name = "perplexity"
    notes = (PERPLEXITY, COHERENCE, BUCKET)
    REASONS = ("high perplexity", "incoherent", *(f"{bucket} bucket" for bucket in BUCKETS))

    def __init__(self, config: PerplexityFilter) -> None:
        self.config = config
        artifact = Artifact.open(Path(config.models), NGRAM_MODELS)
        self._window = artifact.counts["window"]
        self._models = {
            language: Trusted.load(artifact.path / language, config) for language in artifact.counts["languages"]
        }

    def judge(self, batch: pa.RecordBatch) -> Verdict:
        languages = np.array(batch["language"].to_pylist(), np.str_)
        perplexity, coherence = np.full(len(languages), np.nan), np.full(len(languages), np.nan)
        bucket, first = np.full(len(languages), len(BUCKETS)), np.full(len(languages), -1)
        for language in np.intersect1d(languages, list(self._models)):
            rows, known = np.flatnonzero(languages == language), self._models[language]
            scores = known.model.score(batch["text"].take(pa.array(rows)), self._window)
            perplexity[rows], coherence[rows] = found, joined = scores.perplexity, scores.coherence
            bucket[rows] = np.where(np.isnan(found), len(BUCKETS), (found[:, None] > known.edges).sum(1))
            first[rows] = np.where(found > known.most, 0, np.where(joined < known.least, 1, -1))
        dropped = np.isin(bucket, [BUCKETS.index(name) for name in self.config.drop])
        first = np.where((first < 0) & dropped, 2 + bucket, first)
        columns = {
            PERPLEXITY.name: pa.array(perplexity, from_pandas=True),
            COHERENCE.name: pa.array(coherence, from_pandas=True),
            BUCKET.name: pa.array([*BUCKETS, None], pa.string()).take(pa.array(bucket)),
        }
        return verdict_of(self.REASONS, first, np.where(first == 1, coherence, perplexity), columns)
