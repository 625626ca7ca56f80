from __future__ import annotations

import gzip
import json
import tracemalloc
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from caravan.core.errors import DataError
from caravan.curate import lines, tables
from caravan.curate.readers import read_documents
from caravan.curate.rows import LISTED, BrokenFileError, Damage
from caravan.curate.shards import MEGABYTE, Shard
from caravan.recipe.curate import TextSource
from tests.curate.conftest import write_jsonl, write_parquet


def read(path: Path, **settings: Any) -> tuple[list[dict[str, Any]], Damage]:
    shard = Shard(str(path), path.name, TextSource(path=str(path), **settings), number=2)
    damage = Damage(path.name)
    return [row for batch in read_documents(shard, damage) for row in batch.to_pylist()], damage


def texts(rows: list[dict[str, Any]]) -> list[str]:
    return [row["text"] for row in rows]


def test_parquet_gives_ids_sources_and_keys_in_order(tmp_path: Path) -> None:
    path = write_parquet(
        tmp_path / "a.parquet", text=["one", "two"], name=["x", None], lang=["en", "de"], origin=["web", None]
    )
    rows, damage = read(path, columns={"id": "name", "language": "lang", "source": "origin"})
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
        b'{"text": "seven"}\n{"text": 8}\n' + b"[" * 100_000 + b'\n{"text": "r\xe9sum\xe9"}\n{"text": null}'
    )
    rows, damage = read(path)
    assert [(row["id"], row["text"]) for row in rows] == [("a.jsonl#1", "one"), ("a.jsonl#8", "seven")]
    assert [broken.row for broken in damage.listed] == [3, 4, 5, 6, 7, 9, 10, 11, 12]
    assert damage.listed[0].problem.startswith("not JSON")
    assert "invalid UTF-8 at byte 11" in damage.listed[3].problem
    assert damage.listed[6].problem == "not JSON: nested too deeply"


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


LONG = MEGABYTE + 5


@pytest.mark.parametrize("suffix", ["", ".gz", ".zst"])
def test_a_line_over_the_limit_is_set_aside_without_being_held(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"a.jsonl{suffix}"
    whole, limit = 64 * MEGABYTE, MEGABYTE
    with pa.output_stream(str(path), compression="detect") as stream:
        stream.write(b'{"text": "one"}\n')
        for _ in range(whole // MEGABYTE):
            stream.write(b"x" * MEGABYTE)
        stream.write(b'\n{"text": "three"}\n' + b"x" * LONG)
    tracemalloc.start()
    rows, damage = read(path, max_row_mb=1)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert texts(rows) == ["one", "three"]
    assert [(broken.row, broken.problem) for broken in damage.listed] == [
        (2, f"a line of {whole:,} bytes, more than {limit:,}"),
        (4, f"a line of {LONG:,} bytes, more than {limit:,}"),
    ]
    assert peak < 4 * limit


def test_a_line_of_just_the_limit_is_read(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_bytes(b"x" * MEGABYTE + b"\n" + b"y" * MEGABYTE)
    rows, damage = read(tmp_path / "a.txt", max_row_mb=1)
    assert [len(text) for text in texts(rows)] == [MEGABYTE, MEGABYTE]
    assert damage.rows == 0


def test_a_file_that_is_one_document_has_the_same_limit(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_bytes(b"one\n" * (LONG // 4 + 1))
    rows, damage = read(tmp_path / "a.txt", documents="file", max_row_mb=1)
    assert rows == []
    assert damage.listed[0].problem == f"a file of more than {MEGABYTE:,} bytes"


def test_a_cell_over_the_limit_is_set_aside(tmp_path: Path) -> None:
    path = write_parquet(tmp_path / "a.parquet", text=["one", "x" * LONG, "three"], id=["a", "b", "c" * LONG])
    rows, damage = read(path, max_row_mb=1, columns={"id": "id"})
    assert [(row["id"], row["text"]) for row in rows] == [("a", "one"), ("a.parquet#3", "three")]
    assert damage.listed == [("a.parquet", 2, f"a cell of {LONG:,} bytes, more than {MEGABYTE:,}")]


def test_wide_rows_of_a_table_come_few_at_a_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tables, "BATCH_BYTES", 3000)
    path = tmp_path / "a.parquet"
    table = pa.table({"text": [letter * 1000 for letter in "abcdefgh"], "other": ["z" * 5000] * 8})
    pq.write_table(table, path, use_dictionary=False)
    shard = Shard(str(path), "a.parquet", TextSource(path="a.parquet"), number=0)
    assert max(batch.num_rows for batch in read_documents(shard, Damage("a"))) == 2


NESTED = {"content": "body", "title": "Head", "meta": {"url": "http://a", "lang": {"code": "en"}}, "meta.id": 7}
MAP = {"text": ["title", "content"], "id": "meta.id", "language": "meta.lang.code", "source": "meta.url"}


def nested(folder: Path, kind: str, rows: list[dict[str, Any]]) -> Path:
    path = folder / f"a.{kind}"
    if kind == "parquet":
        pq.write_table(pa.Table.from_pylist(rows), path)
    else:
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


@pytest.mark.parametrize("kind", ["parquet", "jsonl"])
def test_the_column_map_reaches_into_fields_and_joins_texts(tmp_path: Path, kind: str) -> None:
    untitled = {**NESTED, "title": "", "meta": {"url": None, "lang": None}, "meta.id": None}
    empty = {**NESTED, "title": None, "content": None}
    rows, damage = read(nested(tmp_path, kind, [NESTED, untitled, empty]), columns=MAP)
    wanted = ("id", "text", "language", "source")
    assert [tuple(row[name] for name in wanted) for row in rows] == [
        ("7", "Head\n\nbody", "en", "http://a"),
        (f"a.{kind}#2", "body", None, f"a.{kind}"),
    ]
    assert damage.listed == [(f"a.{kind}", 3, "no text in title, content")]


@pytest.mark.parametrize("name", ["meta.none", "meta.url.host", "none.url"])
def test_a_field_that_no_row_has_is_a_missing_column(tmp_path: Path, name: str) -> None:
    with pytest.raises(DataError, match=f"no column {name}"):
        read(nested(tmp_path, "parquet", [NESTED]), columns={"text": "content", "id": name})


def test_ids_and_languages_that_are_no_valid_text_count_as_missing(tmp_path: Path) -> None:
    values = [b"\xff", b"", None, b"fine"]
    raw = pa.array(values, pa.binary())
    broken = pa.Array.from_buffers(pa.string(), 4, raw.buffers(), null_count=1)
    columns = {"id": "id", "language": "lang", "source": "from"}
    pq.write_table(
        pa.table({"text": ["text"] * 4, "id": broken, "lang": broken, "from": broken}), tmp_path / "a.parquet"
    )
    lines = [
        json.dumps({"text": "text", **dict.fromkeys(("id", "lang", "from"), value)})
        for value in ("\ud800", "", None, "fine")
    ]
    (tmp_path / "a.jsonl").write_text("\n".join(lines))
    for name in ("a.parquet", "a.jsonl"):
        rows, damage = read(tmp_path / name, columns=columns)
        assert [row["id"] for row in rows] == [f"{name}#1", f"{name}#2", f"{name}#3", "fine"]
        assert [row["language"] for row in rows] == [None, None, None, "fine"]
        assert damage.rows == 0


def test_long_files_come_in_batches(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lines, "BATCH_BYTES", 50)
    path = write_jsonl(tmp_path / "a.jsonl", ["x" * 30] * 5)
    shard = Shard(str(path), "a.jsonl", TextSource(path="a.jsonl"), number=0)
    assert [batch.num_rows for batch in read_documents(shard, Damage("a"))] == [2, 2, 1]


def test_the_list_of_broken_rows_is_bounded_but_not_their_number(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_text('{"text": "good"}\n' + "broken\n" * 1500)
    damage = read(path)[1]
    assert damage.rows == 1500
    assert len(damage.listed) == LISTED
