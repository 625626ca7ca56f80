from __future__ import annotations

import random
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from caravan.core.errors import ArtifactError
from caravan.core.files import read_json, write_json
from caravan.core.stage import StageContext
from caravan.curate.signatures import shingle_sets
from caravan.curate.similarity import jaccards
from caravan.curate.stage import check, run
from tests.curate.conftest import LANGUAGES, configuration, rows, sentences, write_jsonl


def curated(base: Path, name: str, *sources: str, **duplicates: Any) -> dict[str, tuple[str, str | None]]:
    """Reason and `duplicate_of` of each document by its text, after a run into base/NAME."""
    out = base / name
    out.mkdir()
    ctx = StageContext(out=out, inputs={}, base=base, seed=7, languages=LANGUAGES)
    files = [{"path": source, "language": "en"} for source in sources]
    run(configuration(*files, duplicates=duplicates), ctx)
    verdicts = {row["id"]: ("kept", None) for row in rows(out, "kept")}
    return verdicts | {row["id"]: (row["reason"], row["duplicate_of"]) for row in rows(out, "rejected")}


def months(base: Path) -> None:
    """Two files of sentences with many copies of copies: words are lost, again and again."""
    draw = random.Random(7)
    texts = [" ".join(sentences(6, start=start)) for start in range(0, 240, 6)]
    while len(texts) < 90:
        words = draw.choice(texts).split()
        for _ in range(draw.choice([0, 1, 1, 2, 4])):
            del words[draw.randrange(len(words))]
        texts.append(" ".join(words))
    draw.shuffle(texts)
    write_jsonl(base / "first.jsonl", texts[:45])
    write_jsonl(base / "second.jsonl", texts[45:])


def test_the_next_month_loses_what_it_would_lose_in_one_run_over_both(tmp_path: Path) -> None:
    months(tmp_path)
    first = curated(tmp_path, "one", "first.jsonl", index=True)
    second = curated(tmp_path, "two", "second.jsonl", against=["one"])
    both = curated(tmp_path, "both", "first.jsonl", "second.jsonl")
    gone = {name for name, (reason, _) in second.items() if reason != "kept"}
    assert gone == {name for name in second if both[name][0] != "kept"}
    copies = {name: kept for name, (reason, kept) in second.items() if reason == "copy of indexed document"}
    assert 10 < len(copies) < len(gone)
    # What is named as the original is a document that the first corpus has kept.
    assert {first[str(kept)][0] for kept in copies.values()} == {"kept"}


def test_several_indexes_are_searched_and_a_corpus_may_have_one_of_its_own(tmp_path: Path) -> None:
    texts = [" ".join(sentences(3, start=start)) for start in range(0, 15, 3)]
    for name, part in (("a", texts[:1]), ("b", texts[1:2]), ("c", texts[:4]), ("d", texts)):
        write_jsonl(tmp_path / f"{name}.jsonl", part)
    for name in ("a", "b"):
        curated(tmp_path, f"month-{name}", f"{name}.jsonl", index=True)
    found = curated(tmp_path, "third", "c.jsonl", against=["month-*", "month-a/index"], index=True)
    assert [kept for _, kept in found.values()] == [None, None, "a.jsonl#1", "b.jsonl#1"]
    found = curated(tmp_path, "fourth", "d.jsonl", against=["third"])
    assert sorted(str(kept) for _, kept in found.values()) == [
        "None",
        "a.jsonl#1",
        "b.jsonl#1",
        "c.jsonl#3",
        "c.jsonl#4",
    ]


def test_an_index_is_used_without_verification_and_for_exact_copies_alone(tmp_path: Path) -> None:
    (text,) = [" ".join(sentences(5))]
    write_jsonl(tmp_path / "old.jsonl", [text])
    write_jsonl(tmp_path / "new.jsonl", [text.upper(), text + " End.", *sentences(1, start=50)])
    curated(tmp_path, "exact", "old.jsonl", index=True, near=False)
    found = curated(tmp_path, "one", "new.jsonl", against=["exact"], near=False)
    assert sorted(reason for reason, _ in found.values()) == ["copy of indexed document", "kept", "kept"]
    curated(tmp_path, "near", "old.jsonl", index=True)
    found = curated(tmp_path, "two", "new.jsonl", against=["near"], verify=0)
    assert [reason for reason, _ in found.values()] == ["kept", *["copy of indexed document"] * 2]


@pytest.fixture
def indexed(tmp_path: Path) -> Path:
    write_jsonl(tmp_path / "old.jsonl", sentences(3))
    curated(tmp_path, "old", "old.jsonl", index=True)
    return tmp_path


def other_shingle(corpus: Path) -> None:
    file = corpus / "index" / "index.json"
    settings = read_json(file)
    settings["shingles"]["en"] = 7
    write_json(file, settings)


def torn_settings(corpus: Path) -> None:
    (corpus / "index" / "index.json").write_text('{"version": 1')


def no_settings(corpus: Path) -> None:
    (corpus / "index" / "index.json").unlink()


def torn_file(corpus: Path) -> None:
    file = corpus / "index" / "00000.parquet"
    file.write_bytes(file.read_bytes()[:-50])


def other_columns(corpus: Path) -> None:
    pq.write_table(pa.table({"id": ["a"]}), corpus / "index" / "00000.parquet")


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (other_shingle, r"other settings\n  expected: en 5\n  got: en 7"),
        (torn_settings, "index.json: a file of the index cannot be read"),
        (no_settings, "old: there is no index of documents"),
        (torn_file, "00000.parquet: a file of the index cannot be read"),
        (other_columns, "expected: Parquet with columns id, hash, band_00"),
        (shutil.rmtree, "old: there is no index"),
    ],
)
def test_a_bad_index_is_refused_before_anything_is_read(indexed: Path, spoil: Any, said: str) -> None:
    spoil(indexed / "old")
    with pytest.raises(ArtifactError, match=said):
        curated(indexed, "new", "old.jsonl", against=["old"])
    assert not (indexed / "new" / "work" / "judged").exists()
    ctx = StageContext(out=indexed / "new", inputs={}, base=indexed, seed=7, languages=LANGUAGES)
    config = configuration({"path": "old.jsonl"}, duplicates={"against": ["old"]})
    assert [type(fault) for fault in check(config, ctx)] == [ArtifactError]


def test_the_settings_that_differ_are_named(indexed: Path) -> None:
    with pytest.raises(ArtifactError, match=r"expected: bands 10, rows 4\n  got: bands 14, rows 6"):
        curated(indexed, "new", "old.jsonl", against=["old"], bands=10, rows=4)


def test_a_sketch_estimates_the_similarity_of_long_texts() -> None:
    words = [f"w{i}" for i in range(3000)]
    texts = pa.array([" ".join(words), " ".join(words[:2400] + [f"v{i}" for i in range(600)])])
    whole, sizes = shingle_sets(texts, [1, 1])
    sketch, _ = shingle_sets(texts[1:], [1], 128)
    # 2,400 of 3,600 words are common to both.
    found = np.empty(2)
    starts = np.array([0, sizes[0], sizes.sum(), sizes.sum() + 128])
    most = np.array([2**32 - 1, 2**32 - 1, sketch[-1]], np.uint32)
    jaccards(np.concatenate([whole, sketch]), starts, most, np.array([[0, 1], [0, 2]]), found)
    assert found[0] == pytest.approx(2 / 3)
    assert found[1] == pytest.approx(2 / 3, abs=0.12)
