"""From trusted text to a folder of n-gram models: one a language, its ARPA and binary files, scores of other text."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from caravan.core.artifact import Artifact
from caravan.core.errors import DataError
from caravan.core.files import write_table
from caravan.curate.ngrams.arpa import read_arpa, write_arpa
from caravan.curate.ngrams.counts import NgramCounter
from caravan.curate.ngrams.kenlm_binary import write_binary
from caravan.curate.ngrams.kneser_ney import Level, estimate
from caravan.curate.ngrams.model import NgramModel
from caravan.curate.ngrams.vocabulary import UnitCounter, cut
from caravan.curate.perplexity import SCORES
from caravan.curate.trusted import HELD_OUT, LEARNT, TRUSTED, Texts, make_from_text, quantiles_of, train_each
from caravan.recipe.curate import TextSource
from caravan.recipe.learned import NGRAM_MODELS, NgramTraining

BATCH = 1024


def train(texts: Path, config: NgramTraining) -> tuple[list[str], list[Level]]:
    """Words and n-grams of a model of the texts in a Parquet file."""
    counter = UnitCounter()
    with pq.ParquetFile(texts) as file:
        parts = [counter.add(batch["text"]) for batch in file.iter_batches(BATCH, columns=["text"])]
    names, ids = cut(counter.words, counter.counts, config.vocabulary, config.min_count)
    grams = NgramCounter(config.order)
    for part in parts:
        grams.add(ids[part])
    return names, estimate(grams.by_length(), len(names), config.pruned())


def train_models(sources: Sequence[TextSource], languages: Sequence[str], config: NgramTraining, out: Path) -> Artifact:
    """Make a folder of n-gram models, one of each language; a killed attempt is gone on from, language by language.

    Raises:
        DataError: a file cannot be read, there is too little text in every language, or no model where `arpa` says.
    """
    ready = ready_models(config, languages)
    read = [(str(path), path.stat().st_size, path.stat().st_mtime_ns) for path in ready.values()]

    def make(texts: Texts, work: Path) -> dict[str, Any]:
        facts = train_each(
            texts, work, lambda own, out: _train_language(own[TRUSTED], ready.get(own[TRUSTED].name), config, out)
        )
        return {"order": config.order, "window": config.window, "languages": facts}

    return make_from_text(
        {TRUSTED: sources}, languages, config, out, kind=NGRAM_MODELS, command="train-lm", make=make, also_read=read
    )  # fmt: skip


def ready_models(config: NgramTraining, languages: Sequence[str]) -> dict[str, Path]:
    """The ARPA file of each language that has one where the config names some.

    Raises:
        DataError: no language has one.
    """
    if not config.arpa:
        return {}
    places = {language: Path(config.arpa.replace("{language}", language)) for language in languages}
    found = {language: path for language, path in places.items() if path.is_file()}
    if not found or (len(found) > 1 and "{language}" not in config.arpa):
        raise DataError(
            "no n-gram model of a language",
            where=config.arpa,
            expected="a path with {language} in it, and an ARPA file there for one language at least",
            got="no such file" if not found else "one file for all languages",
            fix="correct the path; for a single language, name that with --languages",
        )
    return found


def _train_language(texts: Path, ready: Path | None, config: NgramTraining, out: Path) -> dict[str, Any]:
    """Train one model, or read the one that is ready, and write it; returns what the manifest says of it."""
    names, levels = read_arpa(ready) if ready else train(texts / LEARNT, config)
    write_arpa(out / "model.arpa.gz", names, levels)
    write_binary(out / "model.bin", names, levels)
    model = NgramModel.build(names, levels)
    model.save(out)
    scores = model.score(pq.read_table(texts / HELD_OUT)["text"].combine_chunks(), config.window)
    measured = {"perplexity": scores.perplexity, "coherence": scores.coherence}
    worth = scores.units > 0
    write_table(out / SCORES, pa.table({name: values[worth] for name, values in measured.items()}))
    return {
        "documents": 0 if ready else pq.read_metadata(texts / LEARNT).num_rows,
        "held_out": int(worth.sum()),
        "ngrams": [len(level.words) for level in levels],
        "unknown": round(float(scores.unknown.sum() / max(1, scores.units.sum())), 4),
        **{name: quantiles_of(values[worth]) for name, values in measured.items()},
    }
