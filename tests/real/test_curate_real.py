"""Curation and tokenizing of real text in 18 languages: what is good stays, what is junk goes."""

from __future__ import annotations

from collections import defaultdict
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest

from caravan.core.artifact import write_manifest
from caravan.core.stage import StageContext
from caravan.curate.stage import check, run
from caravan.recipe.curate import CurateConfig
from caravan.recipe.tokenize import TokenizeConfig
from caravan.records import LANGUAGES
from caravan.text.indexed import IndexedDataset
from caravan.tokenize.stage import run as tokenize

DATA = Path(__file__).parents[2].parent / "shared/data"
pytestmark = pytest.mark.skipif(not DATA.is_dir(), reason="no real data beside the repository: ../shared/data")
SLICE = 200
# Kinds of junk that rules can see; word salad and lists of words need a model.
SEEN = {"dates", "digits", "ellipsis", "invisible", "longword", "mojibake", "rep_line", "rep_word", "symbols", "urls"}


def sliced(source: Path, target: Path, count: int) -> pa.Table:
    """Some rows of a file, spread over all of it."""
    table = pq.read_table(source)
    table = table.take(list(range(0, len(table), max(1, len(table) // count)))[:count])
    target.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(table, target)
    return table


def context(base: Path, out: Path, **inputs: Any) -> StageContext:
    out.mkdir(parents=True, exist_ok=True)
    return StageContext(out=out, inputs=inputs, base=base, seed=7, languages=LANGUAGES)


def rows(folder: Path) -> list[dict[str, Any]]:
    return [row for file in sorted(folder.rglob("*.parquet")) for row in pq.read_table(file).to_pylist()]


@pytest.fixture(scope="module")
def slices(tmp_path_factory: pytest.TempPathFactory) -> Path:
    base = tmp_path_factory.mktemp("slices")
    for language in LANGUAGES:
        sliced(DATA / "text" / f"{language}.parquet", base / "text" / f"{language}.parquet", SLICE)
    sliced(DATA / "parallel" / "udhr_18way.parquet", base / "udhr.parquet", 31)
    sliced(DATA / "parallel" / "tatoeba_en_xx.parquet", base / "tatoeba.parquet", 600)
    return base


PAIRS = (
    {"pairs": "udhr.parquet"},
    {"pairs": "tatoeba.parquet", "columns": {"en": "en", "xx": "xx"}, "language_column": "lang"},
)


def test_real_text_becomes_a_corpus_and_a_tokenizer(slices: Path) -> None:
    config = CurateConfig.model_validate({"sources": [{"path": "text/{language}.parquet"}, *PAIRS], "workers": 1})
    ctx = context(slices, slices / "curate")
    assert check(config, ctx) == []
    counts = run(config, ctx)
    assert counts["documents_read"] == SLICE * len(LANGUAGES)
    assert counts["documents"] > 0.98 * counts["documents_read"]
    assert set(counts["languages"]) == set(LANGUAGES)
    assert counts["pairs"] > 0.95 * counts["pairs_read"]
    facts: dict[str, Any] = {"stage": "curate", "key": "k", "parents": {}, "recipe": {}, "seconds": 0.0}
    corpus = write_manifest(ctx.out, kind="corpus", counts=counts, **facts)
    ctx = context(slices, slices / "tokenize", corpus=corpus)
    packed = tokenize(TokenizeConfig(heldout=0.05), ctx)
    assert packed["vocabulary"] == 4096
    assert min(packed["bytes_per_token"].values()) > 1.5
    english = IndexedDataset(ctx.out / "packed" / "en")
    heldout = IndexedDataset(ctx.out / "packed" / "heldout" / "en")
    assert len(english) + len(heldout) == counts["languages"]["en"]


def test_languages_are_identified_where_they_are_not_stated(slices: Path) -> None:
    config = CurateConfig.model_validate({"sources": [{"path": "text/*.parquet"}], "workers": 1})
    ctx = context(slices, slices / "identified")
    run(config, ctx)
    kept = rows(ctx.out / "kept")
    right = sum(row["language"] == Path(row["source"]).stem for row in kept)
    assert right > 0.995 * len(kept)
    assert len(kept) > 0.93 * SLICE * len(LANGUAGES)


def test_labelled_junk_and_copies_go_and_clean_text_stays(tmp_path: Path) -> None:
    labelled = pq.read_table(DATA / "curation" / "000.parquet")
    clean = labelled.filter(pc.equal(labelled["kind"], "clean"))[:1500]
    junk = labelled.filter(pc.is_in(labelled["sub"], pa.array(sorted(SEEN))))
    copied = labelled.filter(pc.is_in(labelled["dup_of"], clean["id"]))
    table = pa.concat_tables([clean, junk, copied])
    pq.write_table(table, tmp_path / "labelled.parquet")
    source = {"path": "labelled.parquet", "columns": {"id": "id", "language": "lang"}}
    ctx = context(tmp_path, tmp_path / "out")
    run(CurateConfig.model_validate({"sources": [source], "workers": 1}), ctx)
    gone = {row["id"]: row for row in rows(ctx.out / "rejected")}
    by_rule = {name for name, row in gone.items() if row["step"] == "rules"}
    assert sum(name in by_rule for name in clean["id"].to_pylist()) < 0.03 * len(clean)
    found: dict[str, list[bool]] = defaultdict(list)
    for row in junk.select(["id", "sub"]).to_pylist():
        found[row["sub"]].append(row["id"] in gone)
    assert {kind for kind, hits in found.items() if sum(hits) < 0.8 * len(hits)} == set()
    close = [row for row in copied.select(["id", "dup_of", "jw"]).to_pylist() if row["jw"] >= 0.8]
    assert len(close) > 20
    assert sum(row["id"] in gone or row["dup_of"] in gone for row in close) > 0.95 * len(close)
    wrong = [row for row in gone.values() if row["step"] == "duplicates" and row["id"] in set(clean["id"].to_pylist())]
    assert len(wrong) < 0.01 * len(clean)
