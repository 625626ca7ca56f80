from __future__ import annotations

import gzip
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from caravan.core.errors import DataError
from caravan.curate import lines
from caravan.curate.readers import read_documents
from caravan.curate.rows import LISTED, BrokenFileError, Damage
from caravan.curate.shards import Shard
from caravan.recipe.curate import TextSource
from tests.curate.conftest import write_jsonl, write_parquet


def read(path: Path, **settings: Any) -> tuple[list[dict[str, Any]], Damage]:
    shard = Shard(path, path.name, TextSource(path=str(path), **settings), number=2)
    damage = Damage(path.name)
    return [row for batch in read_documents(shard, damage) for row in batch.to_pylist()], damage


def texts(rows: list[dict[str, Any]]) -> list[str]:
    return [row["text"] for row in rows]


def test_parquet_gives_ids_sources_and_keys_in_order(tmp_path: Path) -> None:
    path = write_parquet(
        tmp_path / "a.parquet", text=["one", "two"], name=["x", None], lang=["en", "de"], origin=["web", None]
    )
    rows, damage = read(path, id="name", language_column="lang", source_column="origin")
    assert [row["id"] for row in rows] == ["x", "a.parquet#2"]
    assert [row["language"] for row in rows] == ["en", "de"]
    assert [row["source"] for row in rows] == ["web", "a.parquet"]
    assert [row["key"] for row in rows] == [(2 << 40) + 1, (2 << 40) + 2]
    assert damage.rows == 0


def test_parquet_rows_without_text_or_with_invalid_utf8_are_set_aside(tmp_path: Path) -> None:
    raw = pa.array([b"good", b"bad \xff\xfe", None, b"fine"], pa.binary())
    text = pa.Array.from_buffers(pa.string(), len(raw), raw.buffers(), null_count=1)
    pq.write_table(pa.table({"text": text}), tmp_path / "a.parquet")
    rows, damage = read(tmp_path / "a.parquet")
    assert texts(rows) == ["good", "fine"]
    assert [(broken.row, broken.problem) for broken in damage.listed] == [
        (2, "invalid UTF-8 at byte 4"), (3, "no text in text"),
    ]  # fmt: skip


@pytest.mark.parametrize("kind", [pa.string(), pa.large_string(), pa.binary(), pa.dictionary(pa.int32(), pa.string())])
def test_parquet_text_comes_in_several_types(tmp_path: Path, kind: pa.DataType) -> None:
    column = (
        pa.array(["ä", "b"]).cast(kind)
        if not pa.types.is_dictionary(kind)
        else pa.array(["ä", "b"]).dictionary_encode()
    )
    pq.write_table(pa.table({"text": column}), tmp_path / "a.parquet")
    assert texts(read(tmp_path / "a.parquet")[0]) == ["ä", "b"]


def test_a_missing_column_is_an_error_that_lists_those_there_are(tmp_path: Path) -> None:
    path = write_parquet(tmp_path / "a.parquet", body=["one"])
    with pytest.raises(DataError, match="no column text") as caught:
        read(path)
    assert caught.value.got == "body"


def test_a_column_of_numbers_is_not_text(tmp_path: Path) -> None:
    path = write_parquet(tmp_path / "a.parquet", text=[1, 2])
    with pytest.raises(DataError, match="does not hold text"):
        read(path)


@pytest.mark.parametrize("left", [0, 3, 400])
def test_truncated_parquet_is_a_broken_file(tmp_path: Path, left: int) -> None:
    path = write_parquet(tmp_path / "a.parquet", text=[f"text {i}" for i in range(1000)])
    path.write_bytes(path.read_bytes()[:left])
    with pytest.raises(BrokenFileError):
        read(path)


def test_jsonl_rows_that_cannot_be_read_are_named_and_the_rest_kept(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_bytes(
        b'{"text": "one"}\n\n{"text": "two\n{"body": "three"}\n[1]\n{"text": "f\xff"}\n{"text": "\\ud800"}\n'
        b'{"text": "seven"}\n{"text": 8}'
    )
    rows, damage = read(path)
    assert [(row["id"], row["text"]) for row in rows] == [("a.jsonl#1", "one"), ("a.jsonl#8", "seven")]
    assert [broken.row for broken in damage.listed] == [3, 4, 5, 6, 7, 9]
    assert damage.listed[0].problem.startswith("not JSON")
    assert "invalid UTF-8 at byte 11" in damage.listed[3].problem


@pytest.mark.parametrize("suffix", ["", ".gz", ".zst"])
def test_jsonl_and_text_are_read_compressed_or_not(tmp_path: Path, suffix: str) -> None:
    lines = {"a.jsonl": b'{"text": "eins"}\n{"text": "zwei"}\n', "a.txt": b"\xef\xbb\xbfeins\n  \nzwei\n"}
    for name, data in lines.items():
        path = tmp_path / (name + suffix)
        with pa.output_stream(str(path), compression="detect") as stream:
            stream.write(data)
        assert texts(read(path)[0]) == ["eins", "zwei"]


def test_plain_text_can_be_one_document_a_file(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("one\ntwo\n")
    assert texts(read(tmp_path / "a.txt", documents="file")[0]) == ["one\ntwo"]


def test_binary_data_under_a_text_name_is_a_broken_file(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_bytes(bytes(range(256)) * 8)
    with pytest.raises(BrokenFileError, match="binary"):
        read(path)


def test_a_truncated_gzip_is_a_broken_file(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl.gz"
    path.write_bytes(gzip.compress(b'{"text": "one"}\n' * 1000)[:-20])
    with pytest.raises(BrokenFileError):
        read(path)


def test_a_line_without_end_is_a_broken_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lines, "LONGEST", 100)
    with pytest.raises(BrokenFileError, match="line 1 is longer"):
        read(write_jsonl(tmp_path / "a.jsonl", ["x" * 200]))


def test_long_files_come_in_batches(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lines, "BATCH_BYTES", 50)
    path = write_jsonl(tmp_path / "a.jsonl", ["x" * 30] * 5)
    shard = Shard(path, "a.jsonl", TextSource(path="a.jsonl"), number=0)
    assert [batch.num_rows for batch in read_documents(shard, Damage("a"))] == [2, 2, 1]


def test_the_list_of_broken_rows_is_bounded_but_not_their_number(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_text('{"text": "good"}\n' + "broken\n" * 1500)
    damage = read(path)[1]
    assert damage.rows == 1500
    assert len(damage.listed) == LISTED
