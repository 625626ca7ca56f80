"""Small sources of text, and the stage run on them."""

from __future__ import annotations

import functools
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from py3langid import langid

from caravan.core.artifact import Artifact
from caravan.core.stage import StageContext
from caravan.curate.classifier.training import train_classifiers
from caravan.curate.stage import run
from caravan.recipe.curate import CurateConfig, TextColumns, TextSource
from caravan.recipe.learned import ClassifierTraining

LANGUAGES = ("en", "de", "zh", "th")
SUBJECTS = ("baker", "teacher", "pilot", "doctor", "farmer", "painter", "singer", "lawyer")
PLACES = ("harbour", "library", "mountain", "kitchen", "garden", "station", "museum", "theatre")
WARES = ("watches", "pills", "loans", "casino chips", "followers", "ringtones", "tickets")

Curate = Callable[..., dict[str, Any]]


@pytest.fixture(scope="session", autouse=True)
def _unpacked_once() -> Iterator[None]:
    """The second identifier's model, which takes half a second to unpack: once for all tests of a process."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(langid, "_load_model_file", functools.cache(langid._load_model_file))
        yield


def sentences(count: int, start: int = 0) -> list[str]:
    """English texts that are all different in most of their words."""
    return [
        f"The {SUBJECTS[i % 8]} number {i} of our street walked slowly towards the {PLACES[i // 8 % 8]} where "
        f"people {'sang' if i % 3 else 'slept'} until {SUBJECTS[(i * 5 + 3) % 8]} {i * 7} arrived with a story about "
        f"the old {PLACES[(i * 3 + 1) % 8]} beside river {i * 13}."
        for i in range(start, start + count)
    ]


def adverts(count: int, start: int = 0) -> list[str]:
    """Junk in English that no rule refuses, all different."""
    return [
        f"Buy {WARES[i % 7]} now, only {i * 11} left! Click here for cheap {WARES[i * 3 % 7]}, best {WARES[i * 5 % 7]} "
        f"and free shipping. Order {WARES[(i + 2) % 7]} today: code {i * 17} saves {i % 90} percent, guaranteed!"
        for i in range(start, start + count)
    ]


def write_parquet(path: Path, **columns: list[Any]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.table(columns), path)
    return path


def write_jsonl(path: Path, texts: list[str]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps({"text": text}, ensure_ascii=False) + "\n" for text in texts), encoding="utf-8")
    return path


def source(path: Path, texts: list[str], language: str = "en") -> TextSource:
    """A file of texts in one language."""
    write_parquet(path, body=texts, lang=[language] * len(texts))
    return TextSource(path=str(path), columns=TextColumns(text="body", language="lang"))


def context(base: Path, languages: tuple[str, ...] = LANGUAGES) -> StageContext:
    out = base / "out"
    out.mkdir(exist_ok=True)
    return StageContext(out=out, inputs={}, base=base, seed=7, languages=languages)


def rows(out: Path, name: str) -> list[dict[str, Any]]:
    """All rows of one part of the corpus, in the order of its files."""
    return [row for file in sorted((out / name).rglob("*.parquet")) for row in pq.read_table(file).to_pylist()]


def configuration(*sources: dict[str, Any], **settings: Any) -> CurateConfig:
    return CurateConfig.model_validate({"sources": list(sources), "workers": 1, **settings})


@pytest.fixture(scope="session")
def classifiers(tmp_path_factory: pytest.TempPathFactory) -> Artifact:
    """A classifier of English; of German there is only junk, of Chinese a single text."""
    base = tmp_path_factory.mktemp("classifiers")
    chinese = ["商队把信从一座城市送到另一座城市。"]
    trusted = [source(base / "t.parquet", sentences(400)), source(base / "z.parquet", chinese, "zh")]
    junk = [source(base / "j.parquet", adverts(200)), source(base / "g.parquet", adverts(120, 900), "de")]
    config = ClassifierTraining(held_out=0.2, bits=16)
    return train_classifiers(trusted, junk, ["en", "de", "zh"], config, base / "models")


@pytest.fixture
def curate(tmp_path: Path) -> Curate:
    """Run the stage on sources below `tmp_path`, into `tmp_path/out`."""

    def curated(*sources: dict[str, Any], **settings: Any) -> dict[str, Any]:
        return run(configuration(*sources, **settings), context(tmp_path))

    return curated
