"""Web archives: the main text of each page of a WARC file, and each record of a WET file, which is text already."""

from __future__ import annotations

import io
from collections.abc import Iterator

import pyarrow as pa
from fastwarc.warc import ArchiveIterator, WarcRecord, WarcRecordType
from resiliparse.extract.html2text import extract_plain_text
from resiliparse.parse.encoding import bytes_to_str, detect_encoding

from caravan.curate.lines import too_long
from caravan.curate.rows import BrokenFileError, Damage, Row
from caravan.curate.shards import Shard
from caravan.curate.stores import open_unpacked

PAGES = ("text/html", "application/xhtml+xml")
MOST_READ = 1 << 14
RECORD_END = b"\r\n\r\n"
WANTED = WarcRecordType.response | WarcRecordType.conversion


def archive_rows(shard: Shard, damage: Damage) -> Iterator[Row]:
    """A row for each page that was found, and for each record of plain text; other records are passed over.

    The id is the record's, the source its URL. What a page says of its language is not believed.

    Raises:
        BrokenFileError: no web archive, or the rest of it cannot be read.
    """
    number = 0
    try:
        source = _Source(shard)
        for record in ArchiveIterator(source, WANTED, auto_decode="all", stream_detect=False):
            number += 1
            if record.content_length > shard.longest:
                damage.add(number, too_long("record", record.content_length, shard))
            elif record.record_type == WarcRecordType.conversion or _is_page(record):
                try:
                    text = _text(record)
                except UnicodeDecodeError as error:
                    damage.add(number, f"invalid UTF-8 at byte {error.start}")
                    continue
                if text:
                    yield Row(number, text, record.record_id, None, record.headers.get("WARC-Target-URI"))
    except (pa.ArrowException, OSError) as error:
        raise BrokenFileError(str(error)) from error
    if source.end != RECORD_END:
        raise BrokenFileError(f"cut off after record {number}" if number else "no record of a web archive")


class _Source:
    """The decompressed bytes of a file, and the last of them: fastwarc says nothing of a file that was cut off."""

    def __init__(self, shard: Shard) -> None:
        self.stream = open_unpacked(shard.path, shard.options)
        self.position, self.end = 0, b""

    def read(self, size: int = MOST_READ) -> bytes:
        # By little: where the stream breaks, what this one call had decompressed is lost.
        data: bytes = self.stream.read(min(size, MOST_READ))
        self.position += len(data)
        self.end = (self.end + data[-len(RECORD_END) :])[-len(RECORD_END) :]
        return data

    def tell(self) -> int:
        return self.position

    def seek(self, offset: int, whence: int = 0) -> int:
        raise io.UnsupportedOperation("an archive is read from its start to its end")

    def close(self) -> None:
        self.stream.close()


def _is_page(record: WarcRecord) -> bool:
    return bool(record.is_http and record.http_headers.status_code == 200 and record.http_content_type in PAGES)


def _text(record: WarcRecord) -> str:
    data = record.reader.read()
    if record.record_type == WarcRecordType.conversion:
        return str(data.decode()).strip()
    try:
        page = bytes_to_str(data, record.http_charset or detect_encoding(data) or "utf-8")
    except LookupError:  # no such charset
        page = bytes_to_str(data, detect_encoding(data) or "utf-8")
    return str(extract_plain_text(page, main_content=True, alt_texts=False, preserve_formatting=True)).strip()
