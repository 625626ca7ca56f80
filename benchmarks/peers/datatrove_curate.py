"""The steps of `benchmarks/curate.py` in datatrove, run by the Python that has it, on one core.

    python datatrove_curate.py INPUT OUT MODEL

INPUT: a folder of Parquet files with columns id and text. MODEL: lid.176.ftz. Rules and limits are datatrove's own, but
for what its defaults would do to short documents and scripts without spaces.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

from datatrove.data import Document
from datatrove.executor.local import LocalPipelineExecutor
from datatrove.pipeline.dedup import (
    MinhashDedupBuckets,
    MinhashDedupCluster,
    MinhashDedupFilter,
    MinhashDedupSignature,
)
from datatrove.pipeline.dedup.minhash import MinhashConfig
from datatrove.pipeline.filters import GopherQualityFilter, GopherRepetitionFilter, LambdaFilter, LanguageFilter
from datatrove.pipeline.readers import JsonlReader, ParquetReader
from datatrove.pipeline.writers import JsonlWriter
from datatrove.utils.hashing import HashConfig
from datatrove.utils.lid import FT176LID
from datatrove.utils.word_tokenizers import load_word_tokenizer

LANGUAGES = ("zh", "en", "ru", "es", "fr", "pt", "de", "it", "nl", "pl", "ar", "tr", "he", "ja", "ko", "th", "vi", "id")
# datatrove's `zh` does not segment; this is the name under which it does.
NAMES = {"zh": "cmn_Hani"}
UNSPACED = ("zh", "ja", "th")
BANDS, ROWS, SHINGLE = 14, 8, 5


class LocalLid(FT176LID):
    """The same model file that Caravan reads, in place of a download."""

    path = ""

    @property
    def model(self) -> Any:
        if self._model is None:
            from fasttext.FastText import _FastText

            self._model = _FastText(self.path)
        return self._model


def wanted(document: Document) -> bool:
    return document.metadata["language"] in LANGUAGES


def execute(steps: list[Any], logs: Path, tasks: int = 1) -> None:
    LocalPipelineExecutor(steps, tasks=tasks, workers=1, logging_dir=str(logs)).run()
    # The executor copies its steps, and a tokenizer that has been used cannot be copied: the next steps take new ones.
    load_word_tokenizer.cache_clear()


def main(source: Path, out: Path, model: str) -> None:
    LocalLid.path = model
    identify = LanguageFilter(language_threshold=0.5)
    identify.model = LocalLid(None)
    rejected = str(out / "rejected")
    execute(
        [
            ParquetReader(str(source), text_key="text", id_key="id"),
            identify,
            LambdaFilter(wanted, exclusion_writer=JsonlWriter(f"{rejected}/language")),
            JsonlWriter(str(out / "language"), output_filename="${language}/${rank}.jsonl.gz"),
        ],
        out / "logs" / "language",
    )
    for language in LANGUAGES:
        if (out / "language" / language).is_dir():
            one_language(language, out, rejected)


def one_language(language: str, out: Path, rejected: str) -> None:
    name, logs = NAMES.get(language, language), out / "logs" / language
    least = 1 if language in UNSPACED or language == "ko" else 3
    ruled, work = out / "ruled" / language, out / "minhash" / language
    execute(
        [
            JsonlReader(str(out / "language" / language)),
            GopherRepetitionFilter(language=name, exclusion_writer=JsonlWriter(f"{rejected}/repetition/{language}")),
            GopherQualityFilter(
                language=name, min_doc_words=5, min_avg_word_length=least, max_avg_word_length=14, min_stop_words=None,
                max_non_alpha_words_ratio=0.6, exclusion_writer=JsonlWriter(f"{rejected}/quality/{language}"),
            ),
            JsonlWriter(str(ruled)),
        ],
        logs / "rules",
    )  # fmt: skip
    config = MinhashConfig(
        n_grams=SHINGLE, num_buckets=BANDS, hashes_per_bucket=ROWS, hash_config=HashConfig(precision=64)
    )
    signatures, buckets, remove = (str(work / part) for part in ("signatures", "buckets", "remove"))
    execute([JsonlReader(str(ruled)), MinhashDedupSignature(signatures, config, name)], logs / "signatures")
    execute([MinhashDedupBuckets(signatures, buckets, config=config)], logs / "buckets", tasks=BANDS)
    execute([MinhashDedupCluster(buckets, remove, config)], logs / "cluster")
    copies = JsonlWriter(f"{rejected}/copies/{language}")
    kept = JsonlWriter(str(out / "kept" / language))
    execute([JsonlReader(str(ruled)), MinhashDedupFilter(remove, copies), kept], logs / "filter")


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3])
