from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from caravan.core.artifact import Artifact
from caravan.core.errors import ArtifactError
from caravan.core.files import read_json
from caravan.curate.quality import QualityStep, drawn
from caravan.recipe.learned import QualityFilter
from tests.curate.conftest import Curate, adverts, rows, sentences, write_parquet

CHINESE = "商队把信从一座城市送到另一座城市，没有人知道通往大海的路有多长。"


def judge(models: Artifact, texts: list[str], languages: list[str], **settings: Any) -> Any:
    batch = pa.RecordBatch.from_pydict({"text": texts, "language": languages})
    return QualityStep(QualityFilter.model_validate({"models": str(models.path), **settings})).judge(batch)


def test_junk_goes_with_its_figure_and_text_like_the_trusted_stays(classifiers: Artifact) -> None:
    texts = [*sentences(40, start=450), *adverts(20, start=400)]
    verdict = judge(classifiers, texts, ["en"] * 60)
    reasons = verdict.reason.to_pylist()
    assert reasons[:40].count(None) >= 38
    assert reasons[40:] == ["low quality"] * 20
    assert verdict.value.to_pylist()[40:] == verdict.columns["quality"].to_pylist()[40:]
    assert max(verdict.value.to_pylist()[40:]) < 0.5


def test_text_without_a_classifier_or_without_characters_passes_without_a_figure(classifiers: Artifact) -> None:
    verdict = judge(classifiers, [CHINESE, ""], ["zh", "en"], threshold=1)
    assert verdict.reason.to_pylist() == [None, None]
    assert verdict.columns["quality"].to_pylist() == [None, None]


def test_a_limit_is_a_quantile_or_a_probability_for_all_or_for_some_languages(classifiers: Artifact) -> None:
    held_out = sentences(400)[::5]
    for settings, gone in (
        ({"quantile": 0.25}, 20),
        ({"quantile": None}, 0),
        ({"threshold": 1}, 80),
        ({"threshold": {"en": 0}}, 0),
        ({"threshold": {"de": 1}, "quantile": 0.5}, 40),
    ):
        assert judge(classifiers, held_out, ["en"] * 80, **settings).reason.to_pylist().count("low quality") == gone


def test_draws_are_paretos_and_the_same_for_the_same_text() -> None:
    texts = pa.array([f"text {i}" for i in range(20_000)])
    draws = drawn(texts, 9.0)
    np.testing.assert_array_equal(draws, drawn(texts, 9.0))
    for least in (0.05, 0.2, 0.5):
        assert (draws > least).mean() == pytest.approx((1 + least) ** -9.0, abs=0.01)


def test_by_lot_some_of_the_poor_text_stays(classifiers: Artifact) -> None:
    poor = adverts(600, start=1000)
    verdict = judge(classifiers, poor, ["en"] * 600, threshold=1, pareto=2)
    quality = np.array(verdict.columns["quality"])
    kept = 600 - verdict.reason.to_pylist().count("low quality")
    assert kept == pytest.approx(((2 - quality) ** -2.0).sum(), abs=60)
    assert 0 < kept < 600


def test_curation_writes_the_figure_and_notes_languages_without_a_classifier(
    tmp_path: Path, curate: Curate, classifiers: Artifact
) -> None:
    good = sentences(5, start=450)
    write_parquet(tmp_path / "a.parquet", text=[*good, *adverts(1), CHINESE], lang=["en"] * 6 + ["zh"])
    source = {"path": "a.parquet", "columns": {"language": "lang"}}
    counts = curate(source, quality={"models": str(classifiers.path), "threshold": 0.5})
    kept = rows(tmp_path / "out", "kept")
    assert {row["text"]: row["quality"] is None for row in kept} == {**dict.fromkeys(good, False), CHINESE: True}
    (gone,) = rows(tmp_path / "out", "rejected")
    assert (gone["step"], gone["reason"]) == ("quality", "low quality")
    assert gone["value"] == pytest.approx(gone["quality"])
    assert counts["rejected"] == {"quality: low quality": 1}
    report = read_json(tmp_path / "out" / "report.json")
    assert "no classifier for zh: 1 documents passed without" in report["notes"]
    (row,) = report["quality"]
    assert (row["language"], row["read"], row["kept"]) == ("en", 6, 5)
    own = [each["quality"] for each in kept if each["quality"]]
    assert row["mean_kept"] == pytest.approx(np.mean(own), abs=1e-4)
    assert row["mean_read"] == pytest.approx(np.mean([*own, gone["quality"]]), abs=1e-4)
    assert "no classifier for zh" in (tmp_path / "out" / "report.html").read_text(encoding="utf-8")


def test_a_folder_of_something_else_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ArtifactError, match="not a finished artifact"):
        QualityStep(QualityFilter(models=str(tmp_path)))
