from __future__ import annotations

import gzip
from pathlib import Path
from typing import Any

import pytest

from caravan.curate.readers import read_documents
from caravan.curate.rows import BrokenFileError, Damage
from caravan.curate.shards import Shard
from caravan.recipe.curate import TextSource
from tests.curate.conftest import Curate, rows, sentences

PROSE = "Die Karawane trägt Briefe über die Berge, und niemand weiß, wie lang der Weg zum Meer ist."
PAGE = f"""<html><head><title>Title</title><script>var x;</script></head><body><nav><a href="/">Home</a></nav>
<main><p>{PROSE}</p></main><footer>Imprint</footer></body></html>"""


def record(kind: str, body: bytes, number: int, content: str) -> bytes:
    head = (
        f"WARC/1.0\r\nWARC-Type: {kind}\r\nWARC-Record-ID: <urn:uuid:{number}>\r\n"
        "WARC-Date: 2026-01-01T00:00:00Z\r\n"
        f"WARC-Target-URI: http://example.com/{number}\r\nContent-Type: {content}\r\n"
        f"Content-Length: {len(body)}\r\n\r\n"
    )
    return head.encode() + body + b"\r\n\r\n"


def page(body: bytes, number: int, *headers: str, status: str = "200 OK") -> bytes:
    head = "\r\n".join((f"HTTP/1.1 {status}", *headers, "", ""))
    return record("response", head.encode() + body, number, "application/http; msgtype=response")


def plain(body: bytes, number: int) -> bytes:
    return record("conversion", body, number, "text/plain")


def read(path: Path) -> tuple[list[dict[str, Any]], Damage, str]:
    """Rows, damage, and why the rest of the file could not be read."""
    damage, found = Damage(path.name), []
    try:
        for batch in read_documents(Shard(str(path), path.name, TextSource(path="x", max_row_mb=1), number=0), damage):
            found += batch.to_pylist()
    except BrokenFileError as error:
        return found, damage, str(error)
    return found, damage, ""


def test_of_pages_the_main_text_is_read_whatever_their_encoding(tmp_path: Path) -> None:
    html = "Content-Type: text/html; charset=iso-8859-1"
    records = [
        record("warcinfo", b"software: x", 0, "application/warc-fields"),
        page(PAGE.encode("latin-1"), 1, html),
        page(gzip.compress(PAGE.encode()), 2, "Content-Type: text/html", "Content-Encoding: gzip"),
        page(PAGE.encode(), 5, "Content-Type: text/html; charset=no-such-thing"),
        page(b"", 6, "Content-Type: text/html"),
        page(b"\x89PNG", 3, "Content-Type: image/png"),
        page(PAGE.encode(), 4, "Content-Type: text/html", status="404 Not Found"),
    ]
    (tmp_path / "a.warc.gz").write_bytes(b"".join(map(gzip.compress, records)))
    found, damage, problem = read(tmp_path / "a.warc.gz")
    assert [(row["text"], row["id"], row["source"]) for row in found] == [
        (PROSE, "<urn:uuid:1>", "http://example.com/1"),
        (PROSE, "<urn:uuid:2>", "http://example.com/2"),
        (PROSE, "<urn:uuid:5>", "http://example.com/5"),
    ]
    assert (damage.rows, problem) == (0, "")


def test_text_records_are_read_as_they_are_and_broken_ones_set_aside(tmp_path: Path) -> None:
    bodies = [PROSE.encode(), b"bad \xff", b"x" * 1_050_000, b" \n", "商队".encode()]
    (tmp_path / "a.warc.wet").write_bytes(b"".join(plain(body, number) for number, body in enumerate(bodies)))
    found, damage, problem = read(tmp_path / "a.warc.wet")
    assert [row["text"] for row in found] == [PROSE, "商队"]
    assert [(entry.row, entry.problem) for entry in damage.listed] == [
        (2, "invalid UTF-8 at byte 4"),
        (3, "a record of 1,050,000 bytes, more than 1,048,576"),
    ]
    assert problem == ""


@pytest.mark.parametrize("packed", [True, False])
def test_of_a_file_that_was_cut_off_the_rest_is_kept_and_the_end_is_told(tmp_path: Path, packed: bool) -> None:
    records = [plain(f"{PROSE} {number} ".encode() * 200, number) for number in range(8)]
    data = b"".join(map(gzip.compress, records) if packed else records)
    path = tmp_path / ("a.warc.gz" if packed else "a.warc")
    path.write_bytes(data[:-60])
    found, _, problem = read(path)
    assert len(found) >= 5
    assert problem == ("Truncated compressed stream" if packed else "cut off after record 8")


def test_what_is_no_archive_is_told(tmp_path: Path) -> None:
    for name, data in (("a.warc", b"\0\1binary" * 99), ("b.warc", b""), ("c.warc", b"plain text\n")):
        (tmp_path / name).write_bytes(data)
        assert read(tmp_path / name)[2], name


def test_a_crawl_becomes_a_corpus(tmp_path: Path, curate: Curate) -> None:
    good = sentences(3)
    (tmp_path / "crawl.warc.wet").write_bytes(
        b"".join(plain(text.encode(), n) for n, text in enumerate([*good, good[0]]))
    )
    counts = curate({"path": "*.wet"})
    assert [row["text"] for row in rows(tmp_path / "out", "kept")] == good
    assert (counts["documents_read"], counts["documents"]) == (4, 3)
