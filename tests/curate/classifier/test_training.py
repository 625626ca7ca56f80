from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest

from caravan.core.artifact import Artifact
from caravan.core.errors import DataError
from caravan.curate import trusted
from caravan.curate.classifier import training
from caravan.curate.classifier.training import area, train_classifiers
from caravan.recipe.curate import TextSource
from caravan.recipe.learned import ClassifierTraining
from tests.curate.conftest import adverts, sentences, source, write_parquet


def test_the_manifest_says_what_was_learnt_and_how_well(classifiers: Artifact) -> None:
    facts = classifiers.counts["languages"]
    assert list(facts) == ["en"]
    assert classifiers.counts["left_out"] == {"de": {"trusted": 0, "junk": 120}, "zh": {"trusted": 1, "junk": 0}}
    assert (facts["en"]["trusted_documents"], facts["en"]["junk_documents"], facts["en"]["held_out"]) == (320, 160, 80)
    assert facts["en"]["auc"] > 0.99
    assert facts["en"]["junk_found_at_0.01"] > 0.95
    assert facts["en"]["quality"]["0.5"] > 0.8


def test_both_kinds_count_alike_however_many_there_are(tmp_path: Path) -> None:
    files = [
        write_parquet(tmp_path / "t.parquet", text=sentences(1200)),
        write_parquet(tmp_path / "j.parquet", text=adverts(100)),
    ]
    classifier = training.train(*files, ClassifierTraining(bits=14))
    good, bad = (pq.read_table(file)["text"].combine_chunks() for file in files)
    assert np.median(classifier.score(good)) == pytest.approx(1 - np.median(classifier.score(bad)), abs=0.15)


def test_a_killed_training_goes_on_language_by_language(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for language in ("en", "de"):
        write_parquet(tmp_path / f"good.{language}.parquet", text=sentences(120))
        write_parquet(tmp_path / f"bad.{language}.parquet", text=adverts(120))
    good, bad = (TextSource(path=str(tmp_path / f"{kind}.{{language}}.parquet")) for kind in ("good", "bad"))
    monkeypatch.setitem(trusted.RULES, "trusted", trusted.RULES["junk"])
    work: Any = training._train_language
    done: list[str] = []

    def killed_at_second(texts: Any, *rest: Any) -> Any:
        done.append(texts["junk"].name)
        if len(done) == 2:
            raise KeyboardInterrupt
        return work(texts, *rest)

    monkeypatch.setattr(training, "_train_language", killed_at_second)
    arguments = ([good], [bad], ["en", "de"], ClassifierTraining(bits=12), tmp_path / "out")
    with pytest.raises(KeyboardInterrupt):
        train_classifiers(*arguments)
    assert not (tmp_path / "out").exists()
    made = train_classifiers(*arguments)
    assert done == ["en", "de", "de"]
    assert train_classifiers(*arguments) == made
    assert sorted(made.counts["languages"]) == ["de", "en"]


def test_too_little_junk_says_so(tmp_path: Path) -> None:
    good, junk = source(tmp_path / "t.parquet", sentences(120)), source(tmp_path / "j.parquet", adverts(3))
    with pytest.raises(DataError, match="too little text") as caught:
        train_classifiers([good], [junk], ["de", "en", "th"], ClassifierTraining(), tmp_path / "out")
    assert caught.value.got == "en 120 trusted, 3 junk"


def test_area_under_the_curve_is_the_share_of_pairs_in_order() -> None:
    rng = np.random.default_rng(0)
    good, bad = rng.integers(0, 9, 50).astype(float), rng.integers(0, 7, 30).astype(float)
    pairs = [(g > b) + (g == b) / 2 for g in good for b in bad]
    assert area(good, bad) == pytest.approx(np.mean(pairs))


def test_a_language_with_too_little_text_is_named(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    german = [f"Das alte Haus Nummer {i} steht seit langem am Ende der kleinen Straße." for i in range(9)]
    good = [source(tmp_path / "en.parquet", sentences(120)), source(tmp_path / "de.parquet", german, "de")]
    junk = source(tmp_path / "junk.parquet", adverts(60))
    train_classifiers(good, [junk], ["en", "de", "th"], ClassifierTraining(bits=12), tmp_path / "out")
    assert "fewer than 50 documents, and so no model: de 9 trusted, 0 junk\n" in caplog.text
