from __future__ import annotations

from pathlib import Path
from typing import Any

import duckdb
import pytest

from caravan.core.errors import DiskFullError
from caravan.core.files import read_json
from caravan.curate import repeats
from tests.curate.conftest import Curate, rows, sentences, write_jsonl

BANNER = "Subscribe to our caravan letter and never miss a camel again"
FOOTER = "Written by the people of the oasis, with thanks to all who came by"
LINES = {"lines": {"max_documents": 2}}


def pages(count: int) -> list[str]:
    """Documents of two lines of their own around a banner, with a footer apart."""
    own = sentences(2 * count)
    return [f"{own[2 * i]}\n{BANNER if i % 2 else BANNER.upper()}\n{own[2 * i + 1]}\n\n{FOOTER}" for i in range(count)]


def plain(count: int) -> list[str]:
    own = sentences(2 * count)
    return [f"{own[2 * i]}\n{own[2 * i + 1]}" for i in range(count)]


def test_lines_of_many_documents_go_from_all_but_the_first(tmp_path: Path, curate: Curate) -> None:
    write_jsonl(tmp_path / "a.jsonl", pages(2))
    write_jsonl(tmp_path / "b.jsonl", pages(4)[2:])
    curate({"path": "*.jsonl", "language": "en"}, duplicates=LINES)
    out = tmp_path / "out"
    kept = rows(out, "kept")
    assert [row["text"] for row in kept] == [pages(1)[0], *plain(4)[1:]]
    assert [row["removed"] for row in kept] == [None, *["line 2"] * 3]
    removed = rows(out, "removed")
    assert [(row["id"], row["text"]) for row in removed[:2]] == [("a.jsonl#2", BANNER), ("a.jsonl#2", FOOTER)]
    assert {(row["reason"], row["value"], row["duplicate_of"]) for row in removed} == {
        ("repeated line", 4, "a.jsonl#1")
    }
    assert len(removed) == 6
    report = read_json(out / "report.json")
    assert report["removed"] == [{"reason": "repeated line", "parts": 6, "documents": 3, "bytes": 3 * (60 + 66)}]
    assert "repeated line" in (out / "report.html").read_text(encoding="utf-8")


def test_they_can_go_from_all_and_what_stands_in_few_stays(tmp_path: Path, curate: Curate) -> None:
    texts = [*pages(3)[:2], plain(3)[2] + "\n\n" + FOOTER]
    write_jsonl(tmp_path / "a.jsonl", texts)
    curate({"path": "a.jsonl", "language": "en"}, duplicates={"lines": {"max_documents": 2, "keep": "none"}})
    kept = [row["text"] for row in rows(tmp_path / "out", "kept")]
    assert kept == [texts[0].removesuffix("\n\n" + FOOTER), texts[1].removesuffix("\n\n" + FOOTER), plain(3)[2]]
    assert {row["duplicate_of"] for row in rows(tmp_path / "out", "removed")} == {None}


def test_lines_of_copies_and_of_other_languages_do_not_count(tmp_path: Path, curate: Curate) -> None:
    german = "Die Karawane trägt Briefe von Stadt zu Stadt, und niemand weiß, wie lang der Weg zum Meer ist."
    write_jsonl(tmp_path / "en.jsonl", [pages(1)[0]] * 3)
    write_jsonl(tmp_path / "de.jsonl", [f"{german}\n{BANNER}"])
    files = [{"path": "en.jsonl", "language": "en"}, {"path": "de.jsonl", "language": "de"}]
    curate(*files, duplicates={"lines": {}})
    assert BANNER in rows(tmp_path / "out", "kept")[0]["text"]
    assert not (tmp_path / "out" / "removed").exists()


def test_paragraphs_go_whole_and_their_lines_are_not_counted_again(tmp_path: Path, curate: Curate) -> None:
    own = sentences(3)
    write_jsonl(tmp_path / "a.jsonl", [f"{text}\n\n{BANNER}\n{FOOTER}\n\n{text[::-1]}" for text in own])
    curate({"path": "a.jsonl", "language": "en"}, duplicates={"lines": {}, "paragraphs": {}})
    kept = rows(tmp_path / "out", "kept")
    assert [row["text"] for row in kept[1:]] == [f"{text}\n\n{text[::-1]}" for text in own[1:]]
    assert [row["removed"] for row in kept] == [None, "paragraph 1", "paragraph 1"]
    assert rows(tmp_path / "out", "removed")[0]["text"] == f"{BANNER}\n{FOOTER}"


def test_a_document_of_nothing_else_is_dropped_as_it_came(tmp_path: Path, curate: Curate) -> None:
    text = f"{BANNER}\n{FOOTER}\nBye"
    write_jsonl(tmp_path / "a.jsonl", [*pages(3), text])
    counts = curate({"path": "a.jsonl", "language": "en"}, duplicates=LINES)
    (gone,) = rows(tmp_path / "out", "rejected")
    assert (gone["text"], gone["reason"], gone["step"]) == (text, repeats.NOTHING_LEFT, "duplicates")
    assert (gone["value"], gone["removed"]) == (2, None)
    assert "a.jsonl#4" not in {row["id"] for row in rows(tmp_path / "out", "removed")}
    assert counts["documents"] == 3


def test_the_result_is_the_same_however_the_text_is_cut_into_files(tmp_path: Path, curate: Curate) -> None:
    texts = pages(6)
    found = []
    for name, sizes in (("one", [6]), ("three", [1, 3, 2])):
        start = 0
        for number, size in enumerate(sizes):
            write_jsonl(tmp_path / name / f"{number}.jsonl", texts[start : start + size])
            start += size
        curate({"path": f"{name}/*.jsonl", "language": "en"}, duplicates=LINES)
        found.append([row["text"] for row in rows(tmp_path / "out", "kept")])
        (tmp_path / "out").rename(tmp_path / f"out-{name}")
    assert found[0] == found[1]


def test_no_room_for_the_lines_is_a_full_disk_by_name(
    tmp_path: Path, curate: Curate, monkeypatch: pytest.MonkeyPatch
) -> None:
    def without_disk(*limits: Any) -> duckdb.DuckDBPyConnection:
        connection = connect(*limits)
        connection.execute("SET max_temp_directory_size = '0KB'")
        connection.execute("SET memory_limit = '2MB'")
        return connection

    connect = repeats.connect
    monkeypatch.setattr(repeats, "connect", without_disk)
    line = "a line of its own that is long enough to be looked at number"
    write_jsonl(tmp_path / "a.jsonl", [f"{text}\n{line} {i}\n{line} {i}b" for i, text in enumerate(sentences(4000))])
    with pytest.raises(DiskFullError, match="no room to group"):
        curate({"path": "a.jsonl", "language": "en"}, duplicates={"lines": {}, "near": False})
