from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from caravan.core.errors import DataError
from caravan.curate.readers import read_documents
from caravan.curate.rows import Damage
from caravan.curate.shards import Shard, cut, fingerprint, plan
from caravan.recipe.curate import TextSource
from tests.curate.conftest import configuration, context, write_jsonl, write_parquet


def test_a_large_parquet_file_is_cut_at_row_groups_and_no_row_is_lost(tmp_path: Path) -> None:
    path = tmp_path / "a.parquet"
    pq.write_table(pa.table({"text": [f"text {i}" for i in range(100)]}), path, row_group_size=10)
    whole = Shard(str(path), "a.parquet", TextSource(path="a.parquet"), size=path.stat().st_size, number=0)
    pieces = list(cut(whole, 200))
    assert len(pieces) > 2
    assert [group for piece in pieces for group in piece.groups or ()] == list(range(10))
    read = [row for piece in pieces for batch in read_documents(piece, Damage("a")) for row in batch.to_pylist()]
    assert [row["id"] for row in read] == [f"a.parquet#{i + 1}" for i in range(100)]
    assert [row["text"] for row in read] == [f"text {i}" for i in range(100)]


def test_the_plan_numbers_files_in_the_order_of_sources_and_names(tmp_path: Path) -> None:
    for name in ("b", "a"):
        write_jsonl(tmp_path / f"{name}.jsonl", ["text"])
    (tmp_path / "c.txt").write_text("text")
    config = configuration({"path": "*.jsonl", "language": "en"}, {"path": "c.txt"})
    shards = plan(config, context(tmp_path), tmp_path / "work")
    assert [(shard.number, shard.name, shard.language) for shard in shards] == [
        (0, "a.jsonl", "en"), (1, "b.jsonl", "en"), (2, "c.txt", None),
    ]  # fmt: skip


def test_a_language_in_the_path_is_known_and_missing_ones_are_left_out(tmp_path: Path) -> None:
    for language in ("en", "zh", "sv"):
        write_jsonl(tmp_path / f"{language}.jsonl", ["text"])
    shards = plan(configuration({"path": "{language}.jsonl"}), context(tmp_path), tmp_path / "work")
    assert [(shard.name, shard.language) for shard in shards] == [("en.jsonl", "en"), ("zh.jsonl", "zh")]


@pytest.mark.parametrize("pattern", ["none/*.jsonl", "none/{language}.jsonl"])
def test_a_source_without_files_is_an_error(tmp_path: Path, pattern: str) -> None:
    with pytest.raises(DataError, match="no file matches"):
        plan(configuration({"path": pattern}), context(tmp_path), tmp_path / "work")


def test_an_unknown_suffix_needs_a_format(tmp_path: Path) -> None:
    (tmp_path / "a.dat").write_text("text")
    with pytest.raises(DataError, match="format is not known"):
        plan(configuration({"path": "a.dat"}), context(tmp_path), tmp_path / "work")
    assert len(plan(configuration({"path": "a.dat", "format": "text"}), context(tmp_path), tmp_path / "work")) == 1


def test_a_changed_file_changes_the_fingerprint(tmp_path: Path) -> None:
    path = write_parquet(tmp_path / "a.parquet", text=["one"])
    config = configuration({"path": "a.parquet"})
    before = fingerprint(plan(config, context(tmp_path), tmp_path / "work"))
    write_parquet(path, text=["one", "two"])
    assert fingerprint(plan(config, context(tmp_path), tmp_path / "work")) != before
