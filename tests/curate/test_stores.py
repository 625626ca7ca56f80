"""Input that lies elsewhere: the hub, S3, web servers, and whatever else fsspec knows."""

from __future__ import annotations

import gzip
import io
import json
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import fsspec
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from fsspec.implementations.memory import MemoryFile, MemoryFileSystem

from caravan.core.errors import DataError, StoreError
from caravan.curate import stores
from caravan.curate.shards import files_of, plan
from caravan.curate.stage import check
from caravan.curate.stores import find, suffixes
from caravan.recipe.curate import TextSource
from tests.curate.conftest import Curate, configuration, context, rows, sentences
from tests.curate.loopback import serve
from tests.curate.test_archives import plain


def parquet(texts: list[str]) -> bytes:
    sink = io.BytesIO()
    pq.write_table(pa.table({"text": texts}), sink, row_group_size=2)
    return sink.getvalue()


def jsonl(texts: list[str]) -> bytes:
    return "".join(json.dumps({"text": text}) + "\n" for text in texts).encode()


def of_all_formats(texts: list[str]) -> dict[str, bytes]:
    """The texts, a fifth of them in each of these files."""
    parts = [texts[index::5] for index in range(5)]
    return {
        "en/a.parquet": parquet(parts[0]),
        "en/b.jsonl.gz": gzip.compress(jsonl(parts[1])),
        "en/c.txt.zst": pa.Codec("zstd").compress("\n".join(parts[2]).encode(), asbytes=True),
        "en/d.warc.wet.gz": b"".join(gzip.compress(plain(text.encode(), n)) for n, text in enumerate(parts[3])),
        "en/e.jsonl": jsonl(parts[4]),
    }


def kept_texts(base: Path) -> list[str]:
    return sorted(row["text"] for row in rows(base / "out", "kept"))


@pytest.fixture
def memory() -> Iterator[MemoryFileSystem]:
    """fsspec's store in memory, empty before and after."""
    store = MemoryFileSystem()
    store.store.clear()
    yield store
    store.store.clear()


def test_every_format_is_read_from_a_store_as_from_disk(
    tmp_path: Path, curate: Curate, memory: MemoryFileSystem
) -> None:
    texts = sentences(25)
    for name, data in of_all_formats(texts).items():
        memory.pipe(f"/texts/{name}", data)
    counts = curate({"path": "memory://texts/{language}/*"})
    assert counts["languages"] == {"en": 25}
    assert kept_texts(tmp_path) == sorted(texts)
    assert "memory:///texts/en/e.jsonl#2" in {row["id"] for row in rows(tmp_path / "out", "kept")}


def test_a_large_table_of_a_store_is_cut_at_row_groups(tmp_path: Path, memory: MemoryFileSystem) -> None:
    texts = [letter * 300_000 + str(index) for index, letter in enumerate("abcdefgh")]
    sink = io.BytesIO()
    pq.write_table(pa.table({"text": texts}), sink, row_group_size=2, compression="none", use_dictionary=False)
    memory.pipe("/a.parquet", sink.getvalue())
    config = configuration({"path": "memory://a.parquet"}, shard_mb=1)
    pieces = plan(config, context(tmp_path), tmp_path / "work")
    assert [piece.groups for piece in pieces] == [(0, 1), (2, 3)]
    assert [piece.first_row for piece in pieces] == [0, 4]


def test_the_hub_is_read_by_name_revision_and_pattern(tmp_path: Path, curate: Curate) -> None:
    texts = sentences(10)
    files = {"data/en-0.parquet": parquet(texts[:5]), "data/de-0.parquet": parquet(texts[5:]), "README.md": b"# name"}
    with serve(files) as server:
        options = {"endpoint": server.url, "token": False}
        counts = curate({"hub": "owner/name", "storage_options": options})
        assert (counts["documents_read"], counts["documents"]) == (10, 10)
        source = TextSource(hub="owner/name", path="data/{language}-*.parquet", storage_options=options)
        found = files_of(source, context(tmp_path))
        assert [(shard.name, shard.language) for shard in found] == [
            ("hf://datasets/owner/name/data/en-0.parquet", "en"),
            ("hf://datasets/owner/name/data/de-0.parquet", "de"),
        ]
        converted = TextSource(hub="owner/name", revision="refs/convert/parquet", storage_options=options)
        (tmp_path / "out").rename(tmp_path / "main")
        assert curate(converted.model_dump())["documents"] == 10
        assert any("/resolve/refs%2Fconvert%2Fparquet/data/" in path for path in server.asked)


def test_a_bucket_of_s3_is_read(tmp_path: Path, curate: Curate) -> None:
    texts = sentences(25)
    with serve(of_all_formats(texts)) as server:
        options = {"anon": True, "endpoint_url": server.url}
        assert curate({"path": "s3://bucket/en/*", "storage_options": options})["documents"] == 25
    assert kept_texts(tmp_path) == sorted(texts)


def test_parallel_text_is_read_from_a_store(tmp_path: Path, curate: Curate, memory: MemoryFileSystem) -> None:
    memory.pipe("/moses/a.en", b"tea\nbread\n")
    memory.pipe("/moses/a.de", b"Tee\nBrot\n")
    memory.pipe("/wide.jsonl.gz", gzip.compress(b'{"en": "milk", "de": "Milch"}\n'))
    curate({"pairs": "memory://moses/*.{language}"}, {"pairs": "memory://wide.jsonl.gz"})
    kept = rows(tmp_path / "out", "pairs/de-en")
    assert [(row["target_text"], row["source"]) for row in kept] == [
        ("tea", "memory:///moses/a.{language}"),
        ("bread", "memory:///moses/a.{language}"),
        ("milk", "memory:///wide.jsonl.gz"),
    ]


def test_a_web_server_is_read_by_name_and_by_index(tmp_path: Path, curate: Curate) -> None:
    texts = sentences(10)
    with serve({"a.jsonl.gz": gzip.compress(jsonl(texts[:5])), "b.parquet": parquet(texts[5:])}) as server:
        sources = ({"path": f"{server.url}/files/a.jsonl.gz?download=true"}, {"path": f"{server.url}/files/*.parquet"})
        assert curate(*sources)["documents"] == 10
    assert kept_texts(tmp_path) == sorted(texts)


def test_files_inside_an_archive_are_read(tmp_path: Path, curate: Curate) -> None:
    texts = sentences(6)
    with zipfile.ZipFile(tmp_path / "texts.zip", "w") as archive:
        for index, text in enumerate(texts):
            archive.writestr(f"{index}.txt", text)
    assert curate({"path": f"zip://*.txt::{tmp_path}/texts.zip"})["documents"] == 6


def test_a_store_without_such_files_says_so(tmp_path: Path, memory: MemoryFileSystem) -> None:
    with pytest.raises(DataError, match="no file matches") as caught:
        files_of(TextSource(path="memory://none/*.jsonl"), context(tmp_path))
    assert caught.value.where == "memory://none/*.jsonl"
    assert not isinstance(caught.value, StoreError)


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("dropbox://a/*.jsonl", "package"),
        ("no-such://a", "cannot be read"),
        ("http://127.0.0.1:9/a.txt", "cannot be read"),
    ],
)
def test_a_store_that_cannot_be_reached_is_named(tmp_path: Path, url: str, said: str) -> None:
    faults = check(configuration({"path": url}), context(tmp_path))
    assert [type(fault) for fault in faults] == [StoreError]
    assert said in faults[0].problem
    assert faults[0].where == url


class Flaky(MemoryFileSystem):
    """A store in memory whose next reads fail."""

    protocol = "flaky"
    failures = 0

    @classmethod
    def _strip_protocol(cls, path: str) -> str:
        return MemoryFileSystem._strip_protocol(path.replace("flaky://", "memory://"))

    def _open(self, *arguments: Any, **options: Any) -> Any:
        return _Failing(super()._open(*arguments, **options))


class _Failing:
    def __init__(self, file: MemoryFile) -> None:
        self.file = file

    def read(self, size: int = -1) -> bytes:
        if Flaky.failures:
            Flaky.failures -= 1
            raise TimeoutError("no answer")
        return self.file.read(size)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.file, name)


@pytest.fixture
def flaky(memory: MemoryFileSystem, monkeypatch: pytest.MonkeyPatch) -> Iterator[type[Flaky]]:
    fsspec.register_implementation("flaky", Flaky, clobber=True)
    monkeypatch.setattr(stores, "PAUSES", (0.0, 0.0))
    Flaky.failures = 0
    yield Flaky
    Flaky.failures = 0


@pytest.mark.parametrize("name", ["a.jsonl.gz", "a.parquet", "a.warc.gz"])
def test_reads_that_fail_are_tried_again_and_a_dead_store_breaks_no_file(
    tmp_path: Path, curate: Curate, flaky: type[Flaky], name: str
) -> None:
    texts = sentences(5)
    packed = b"".join(gzip.compress(plain(text.encode(), number)) for number, text in enumerate(texts))
    data = {"a.jsonl.gz": gzip.compress(jsonl(texts)), "a.parquet": parquet(texts), "a.warc.gz": packed}[name]
    Flaky().pipe(f"/{name}", data)
    source = {"path": f"flaky://{name}"}
    flaky.failures = 3
    with pytest.raises(StoreError, match="TimeoutError: no answer") as caught:
        curate(source, broken="skip")
    assert "goes on" in str(caught.value.fix)
    flaky.failures = 2
    assert curate(source)["documents"] == 5


def test_a_file_of_a_store_that_changed_has_another_version(tmp_path: Path, memory: MemoryFileSystem) -> None:
    def version() -> str:
        return find("memory://a.txt", context(tmp_path), {})[0].version

    memory.pipe("/a.txt", b"one")
    first = version()
    assert version() == first
    memory.pipe("/a.txt", b"two")
    assert version() != first


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("a/b.jsonl", (".jsonl", "")),
        ("a/b.JSONL.GZ", (".jsonl", ".gz")),
        ("/a.b/c", ("", "")),
        ("https://host/a.txt.zst?download=true", (".txt", ".zst")),
        ("zip://a.parquet::s3://bucket/b.zip", (".parquet", "")),
        ("/odd?name.txt", (".txt", "")),
    ],
)
def test_suffixes_are_those_of_the_inner_file(path: str, expected: tuple[str, str]) -> None:
    assert suffixes(path) == expected
