"""A small corpus in four languages with parallel text, as curation leaves it."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from caravan.core.artifact import Artifact, write_manifest
from caravan.core.stage import StageContext

EN = "The caravan carries letter {n} from the harbour to the market in 20{n}."
DE = "Die Karawane trägt Brief {n} vom Hafen zum Markt im Jahr 20{n}."
ZH = "商队在20{n}年把第{n}封信从港口送到市场。"
DOCUMENTS = {"en": 120, "de": 40, "zh": 60}
SENTENCES = {"en": EN, "de": DE, "zh": ZH}


def texts(language: str) -> list[str]:
    return [SENTENCES[language].format(n=number) for number in range(DOCUMENTS[language])]


def write(path: Path, **columns: list[str]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.table(columns), path)


@pytest.fixture(scope="session")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Artifact:
    folder = tmp_path_factory.mktemp("corpus")
    for language in DOCUMENTS:
        for number, part in enumerate((texts(language)[:25], texts(language)[25:])):
            write(folder / "kept" / language / f"{number:05d}.parquet", text=part)
    parallel = {"source_text": texts("en")[:30], "target_text": texts("zh")[:30]}
    write(folder / "pairs" / "en-zh" / "00000.parquet", **parallel)
    return write_manifest(folder, kind="corpus", stage="curate", key="k", parents={}, recipe={}, counts={}, seconds=0.0)


@pytest.fixture
def context(corpus: Artifact, tmp_path: Path) -> StageContext:
    out = tmp_path / "tokenize"
    out.mkdir()
    return StageContext(out=out, inputs={"corpus": corpus}, base=tmp_path, seed=7, languages=tuple(DOCUMENTS))
