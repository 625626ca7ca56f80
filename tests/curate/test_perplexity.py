from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from caravan.core.artifact import Artifact
from caravan.core.errors import ArtifactError, DataError
from caravan.core.files import read_json
from caravan.curate import trusted
from caravan.curate.ngrams import training
from caravan.curate.ngrams.arpa import read_arpa, write_arpa
from caravan.curate.ngrams.kenlm_binary import write_binary
from caravan.curate.ngrams.model import NgramModel
from caravan.curate.ngrams.training import train_models
from caravan.curate.perplexity import PerplexityStep
from caravan.recipe.curate import TextColumns, TextSource
from caravan.recipe.learned import NgramTraining, PerplexityFilter
from tests.curate.conftest import Curate, rows, sentences, write_jsonl, write_parquet

GERMAN = [
    f"Der Bäcker Nummer {i} trägt {('Brot', 'Mehl', 'Salz')[i % 3]} zum Hafen, wo {('viele', 'alte')[i % 2]} Leute "
    f"{('singen', 'warten', 'schlafen', 'reden')[i % 4]}, bis der Abend über dem Fluss {i * 7} kommt."
    for i in range(150)
]


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Artifact:
    """Models of English and German; there is too little Chinese for one."""
    base = tmp_path_factory.mktemp("models")
    languages = ["en"] * 400 + ["de"] * len(GERMAN) + ["zh"]
    texts = [*sentences(400), *GERMAN, "商队把信从一座城市送到另一座城市。"]
    path = write_parquet(base / "text.parquet", body=texts, lang=languages)
    source = TextSource(path=str(path), columns=TextColumns(text="body", language="lang"))
    return train_models([source], ["en", "de", "zh"], NgramTraining(held_out=0.2), base / "lm")


def judge(models: Artifact, texts: list[str], languages: list[str], **settings: Any) -> Any:
    batch = pa.RecordBatch.from_pydict({"text": texts, "language": languages})
    return PerplexityStep(PerplexityFilter.model_validate({"models": str(models.path), **settings})).judge(batch)


def test_the_manifest_says_what_was_learnt(models: Artifact) -> None:
    facts = models.counts["languages"]
    assert sorted(facts) == ["de", "en"]
    assert models.counts["left_out"] == {"zh": {"trusted": 1}}
    assert facts["en"]["documents"] == 320
    assert facts["en"]["held_out"] == 80
    assert facts["en"]["perplexity"]["0.5"] < facts["en"]["perplexity"]["0.99"]
    assert not (models.path / "work").exists()


def test_the_arpa_file_and_the_tables_are_one_model(models: Artifact) -> None:
    again = NgramModel.build(*read_arpa(models.path / "de" / "model.arpa.gz"))
    found = NgramModel.load(models.path / "de").score(pa.array(GERMAN[:3]))
    np.testing.assert_array_equal(again.score(pa.array(GERMAN[:3])).total, found.total)


def test_kenlms_binary_file_is_that_of_the_arpa_file(models: Artifact, tmp_path: Path) -> None:
    write_binary(tmp_path / "model.bin", *read_arpa(models.path / "de" / "model.arpa.gz"))
    assert (models.path / "de" / "model.bin").read_bytes() == (tmp_path / "model.bin").read_bytes()


def test_held_out_text_is_not_learnt(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: dict[str, list[str]] = {}

    def look(texts: Path, *_: Any) -> dict[str, Any]:
        for name in (trusted.LEARNT, trusted.HELD_OUT):
            seen[name] = pq.read_table(texts / name)["text"].to_pylist()
        return {}

    monkeypatch.setattr(training, "_train_language", look)
    texts = sentences(200)
    source = TextSource(path=str(write_jsonl(tmp_path / "a.jsonl", [*texts, *texts[:50], "...!"])))
    train_models([source], ["en"], NgramTraining(held_out=0.25), tmp_path / "lm")
    learnt, held_out = seen[trusted.LEARNT], seen[trusted.HELD_OUT]
    assert len(held_out) == 50
    assert sorted(learnt + held_out) == sorted(texts)


def test_no_more_text_is_taken_than_wanted(tmp_path: Path) -> None:
    source = TextSource(path=str(write_jsonl(tmp_path / "a.jsonl", sentences(1000))))
    size = sum(map(len, sentences(1000))) / 1e6
    made = train_models([source], ["en"], NgramTraining(megabytes=size / 2), tmp_path / "lm")
    facts = made.counts["languages"]["en"]
    assert 480 < facts["documents"] + facts["held_out"] < 520


def test_a_killed_training_goes_on_and_a_finished_one_is_not_done_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, texts in (("en", sentences(200)), ("de", GERMAN)):
        write_jsonl(tmp_path / f"{name}.jsonl", texts)
    source = TextSource(path=str(tmp_path / "{language}.jsonl"))
    work: Any = training._train_language
    done: list[str] = []

    def killed_at_second(texts: Path, *rest: Any) -> Any:
        done.append(texts.name)
        if len(done) == 2:
            raise KeyboardInterrupt
        return work(texts, *rest)

    monkeypatch.setattr(training, "_train_language", killed_at_second)
    config = NgramTraining()
    with pytest.raises(KeyboardInterrupt):
        train_models([source], ["en", "de"], config, tmp_path / "lm")
    assert not (tmp_path / "lm").exists()
    first = train_models([source], ["en", "de"], config, tmp_path / "lm")
    assert done == ["en", "de", "de"]
    assert train_models([source], ["en", "de"], config, tmp_path / "lm") == first
    assert len(done) == 3
    changed = train_models([source], ["en", "de"], NgramTraining(order=2), tmp_path / "lm")
    assert changed.manifest.key != first.manifest.key


def test_too_little_text_says_so(tmp_path: Path) -> None:
    source = TextSource(path=str(write_jsonl(tmp_path / "a.jsonl", sentences(20))))
    with pytest.raises(DataError, match="too little text") as caught:
        train_models([source], ["en"], NgramTraining(), tmp_path / "lm")
    assert caught.value.got == "en 20 trusted"


def test_words_thrown_together_and_noise_go_and_text_like_the_trusted_stays(models: Artifact) -> None:
    salad = " ".join(sorted(" ".join(sentences(2, start=500)).split(), key=lambda word: word[::-1]))
    noise = "xq jjw vopq zzkl wqpo rtyl mnbv " * 5
    texts = [*sentences(40, start=450), salad, noise]
    verdict = judge(models, texts, ["en"] * 42)
    assert verdict.reason.to_pylist()[:40].count(None) >= 38
    assert verdict.reason.to_pylist()[40:] == ["high perplexity", "high perplexity"]
    assert verdict.value.to_pylist()[40:] == verdict.columns["perplexity"].to_pylist()[40:]
    verdict = judge(models, texts, ["en"] * 42, perplexity_quantile=None)
    assert verdict.reason.to_pylist()[40:] == ["incoherent", "incoherent"]
    assert verdict.value.to_pylist()[40:] == verdict.columns["coherence"].to_pylist()[40:]


def test_buckets_part_held_out_text_at_its_quantiles(models: Artifact) -> None:
    held_out = sentences(400)[::5]
    verdict = judge(models, held_out, ["en"] * 80, buckets=[0.25, 0.75], drop=["tail"])
    names = np.array(verdict.columns["bucket"])
    perplexity = np.array(verdict.columns["perplexity"])
    assert [(names == bucket).sum() for bucket in ("head", "middle", "tail")] == [20, 40, 20]
    assert perplexity[names == "head"].max() < perplexity[names == "tail"].min()
    reasons = np.array(verdict.reason.to_pylist(), object)
    assert set(reasons[names == "tail"]) <= {"tail bucket", "high perplexity", "incoherent"}
    assert (reasons == "tail bucket").sum() > 15
    assert set(reasons[names != "tail"]) <= {None, "incoherent"}


def test_text_without_a_model_or_words_passes_without_figures(models: Artifact) -> None:
    verdict = judge(models, ["商队把信送到城市。", "...", "Brot"], ["zh", "en", "de"])
    assert verdict.reason.to_pylist()[:2] == [None, None]
    for name in ("perplexity", "coherence", "bucket"):
        assert verdict.columns[name].is_null().to_pylist() == [True, True, False]


def test_limits_can_be_lifted(models: Artifact) -> None:
    noise = ["xq jjw vopq zzkl wqpo rtyl mnbv " * 5]
    off = {"perplexity_quantile": None, "coherence_quantile": None}
    assert judge(models, noise, ["en"], **off).reason.to_pylist() == [None]


def test_curation_writes_the_figures_and_notes_languages_without_a_model(
    tmp_path: Path, curate: Curate, models: Artifact
) -> None:
    good = sentences(5, start=450)
    noise = "xq jjw vopq zzkl wqpo rtyl mnbv ghqw pplz mmqk"
    chinese = "商队把信从一座城市送到另一座城市，没有人知道通往大海的路有多长。"
    write_parquet(tmp_path / "a.parquet", text=[*good, noise, chinese], lang=["en"] * 6 + ["zh"])
    counts = curate({"path": "a.parquet", "columns": {"language": "lang"}}, perplexity={"models": str(models.path)})
    kept = rows(tmp_path / "out", "kept")
    assert {row["text"]: row["bucket"] is None for row in kept} == {**dict.fromkeys(good, False), chinese: True}
    (gone,) = rows(tmp_path / "out", "rejected")
    assert (gone["step"], gone["reason"]) == ("perplexity", "high perplexity")
    assert gone["value"] == pytest.approx(gone["perplexity"])
    assert counts["rejected"] == {"perplexity: high perplexity": 1}
    report = read_json(tmp_path / "out" / "report.json")
    assert "no n-gram model for zh: 1 documents passed without" in report["notes"]
    assert sum(entry["documents"] for entry in report["buckets"]) == 5
    assert "no n-gram model for zh" in (tmp_path / "out" / "report.html").read_text(encoding="utf-8")


def test_a_folder_of_something_else_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ArtifactError, match="not a finished artifact"):
        PerplexityStep(PerplexityFilter(models=str(tmp_path)))


def test_a_model_that_there_is_takes_the_place_of_a_trained_one(models: Artifact, tmp_path: Path) -> None:
    arpa = tmp_path / "de.arpa"
    write_arpa(arpa, *read_arpa(models.path / "de" / "model.arpa.gz"))
    texts, languages = [*sentences(60), *GERMAN], ["en"] * 60 + ["de"] * len(GERMAN)
    write_parquet(tmp_path / "text.parquet", body=texts, lang=languages)
    source = TextSource(path=str(tmp_path / "text.parquet"), columns=TextColumns(text="body", language="lang"))
    config = NgramTraining(arpa=str(tmp_path / "{language}.arpa"))
    made = train_models([source], ["en", "de"], config, tmp_path / "lm")
    assert made.counts["languages"]["de"]["documents"] == 0
    assert made.counts["languages"]["en"]["documents"] == 54
    found, wanted = (NgramModel.load(one.path / "de").score(pa.array(GERMAN[:3])) for one in (made, models))
    np.testing.assert_array_equal(found.total, wanted.total)
    names, levels = read_arpa(arpa)
    write_arpa(arpa, names, levels[:2])
    assert train_models([source], ["en", "de"], config, tmp_path / "lm") != made


@pytest.mark.parametrize(("path", "got"), [("no/{language}.arpa", "no such file"), ("a.arpa", "one file for all")])
def test_ready_models_that_are_not_there_are_named(tmp_path: Path, path: str, got: str) -> None:
    (tmp_path / "a.arpa").touch()
    with pytest.raises(DataError, match="no n-gram model") as caught:
        train_models([], ["en", "de"], NgramTraining(arpa=str(tmp_path / path)), tmp_path / "lm")
    assert got in caught.value.got
