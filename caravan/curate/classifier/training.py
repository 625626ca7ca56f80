"""From trusted text and junk to a folder of classifiers: one a language, and its scores of held-out text."""

from __future__ import annotations

import contextlib
import itertools
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from caravan.core.artifact import Artifact
from caravan.core.files import write_table
from caravan.curate.classifier.hashing import hash_texts, shape_of
from caravan.curate.classifier.logistic import Classifier
from caravan.curate.ngrams.kneser_ney import Doubles
from caravan.curate.quality import SCORES
from caravan.curate.trusted import HELD_OUT, JUNK, LEARNT, TRUSTED, Texts, make_from_text, quantiles_of, train_each
from caravan.recipe.curate import TextSource
from caravan.recipe.learned import CLASSIFIERS, ClassifierTraining

BATCH = 1024
LOST = 0.01  # share of trusted text at whose loss the manifest says how much junk is found


def train(trusted: Path, junk: Path, config: ClassifierTraining) -> Classifier:
    """A classifier of the texts in two Parquet files, which are read once an epoch.

    Both kinds count alike, however many texts there are of each; the rate falls to nothing (Bottou 2010).
    """
    many = np.array([pq.read_metadata(file).num_rows for file in (junk, trusted)])
    steps = -(-int(many.sum()) // BATCH)
    classifier = Classifier(shape_of(config))
    draw = np.random.default_rng(0)
    for epoch in range(config.epochs):
        for step, (texts, targets) in enumerate(_batches([junk, trusted], (-(-many // steps)).tolist())):
            rate = config.rate * (1 - (epoch + step / steps) / config.epochs)
            shares = many.sum() / 2 / many[targets.astype(np.int64)]
            classifier.learn(
                hash_texts(texts, classifier.shape), draw.permutation(len(texts)), targets, shares, rate
            )  # fmt: skip
    return classifier


def _batches(files: Sequence[Path], rows: Sequence[int]) -> Iterator[tuple[pa.Array, Doubles]]:
    """So many texts of each file at a time, and the number of the file that each is from."""
    with contextlib.ExitStack() as stack:
        opened = [stack.enter_context(pq.ParquetFile(file)) for file in files]
        parts = [file.iter_batches(size, columns=["text"]) for file, size in zip(opened, rows, strict=True)]
        for batches in itertools.zip_longest(*parts):
            texts = {number: batch["text"] for number, batch in enumerate(batches) if batch is not None}
            targets = [np.full(len(part), number, np.float64) for number, part in texts.items()]
            yield pa.concat_arrays(texts.values()), np.concatenate(targets)


def train_classifiers(
    trusted: Sequence[TextSource],
    junk: Sequence[TextSource],
    languages: Sequence[str],
    config: ClassifierTraining,
    out: Path,
) -> Artifact:
    """Make a folder of classifiers, one of each language; a killed attempt is gone on from, language by language.

    Args:
        junk: text that is to be told from the trusted, such as raw text of a crawl.

    Raises:
        DataError: a file cannot be read, or there is too little text of either kind in every language.
    """

    def make(texts: Texts, work: Path) -> dict[str, Any]:
        return {"languages": train_each(texts, work, lambda folders, folder: _train_language(folders, config, folder))}

    return make_from_text(
        {TRUSTED: trusted, JUNK: junk}, languages, config, out, kind=CLASSIFIERS, command="train-classifier", make=make
    )  # fmt: skip


def _train_language(texts: Mapping[str, Path], config: ClassifierTraining, out: Path) -> dict[str, Any]:
    """Train and write one classifier; returns what the manifest says of it."""
    classifier = train(texts[TRUSTED] / LEARNT, texts[JUNK] / LEARNT, config)
    classifier.save(out)
    quality = {kind: classifier.score(pq.read_table(folder / HELD_OUT)["text"].combine_chunks())
               for kind, folder in texts.items()}  # fmt: skip
    write_table(out / SCORES, pa.table({"quality": quality[TRUSTED]}))
    limit = np.quantile(quality[TRUSTED], LOST)
    return {
        **{f"{kind}_documents": pq.read_metadata(folder / LEARNT).num_rows for kind, folder in texts.items()},
        "held_out": len(quality[TRUSTED]),
        "quality": quantiles_of(quality[TRUSTED]),
        "auc": round(area(quality[TRUSTED], quality[JUNK]), 4),
        f"junk_found_at_{LOST}": round(float((quality[JUNK] < limit).mean()), 4),
    }


def area(positive: Doubles, negative: Doubles) -> float:
    """Area under the ROC curve: how often a positive score is above a negative one, equal ones counted half."""
    ranked = np.sort(negative)
    below, not_above = (np.searchsorted(ranked, positive, side=side) for side in ("left", "right"))
    return float((below + not_above).sum() / 2 / (len(positive) * len(negative)))
