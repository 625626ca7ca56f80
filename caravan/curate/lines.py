"""Files of lines, compressed or not: numbered lines, JSON records, and lists of rows of a bounded size."""

from __future__ import annotations

import codecs
import contextlib
import io
import itertools
import json
from collections.abc import Callable, Iterator
from typing import Any, TypeVar

import pyarrow as pa

from caravan.curate.rows import BrokenFileError, Damage
from caravan.curate.shards import Shard
from caravan.curate.stores import open_unpacked

BATCH_ROWS = 1024
BATCH_BYTES = 8 << 20
# By little: where a compressed stream breaks, what this one read had decompressed is lost.
BLOCK = 1 << 14
SNIFFED_BYTES = 8192
LEAST_PER_NUL = 1000  # bytes of text for each zero byte but one; compressed data has one in 256
T = TypeVar("T")


def numbered_lines(shard: Shard, damage: Damage) -> Iterator[tuple[int, bytes]]:
    """Numbered lines of a file, from 1, without those that are too long.

    Raises:
        BrokenFileError: binary data, or a damaged compressed stream.
    """
    for number, line, size in measured_lines(shard):
        if line is None:
            damage.add(number, too_long("line", size, shard))
        else:
            yield number, line


def measured_lines(shard: Shard) -> Iterator[tuple[int, bytes | None, int]]:
    """Number, line and bytes of each line of a file; of one that is too long only its size is found out.

    Raises:
        BrokenFileError: binary data, or a damaged compressed stream.
    """
    with _opened(shard) as stream:
        for number in itertools.count(1):
            line = stream.readline(shard.longest + 1)
            if not line:
                return
            if len(line) <= shard.longest or line.endswith(b"\n"):
                yield number, line, len(line)
                continue
            size = len(line)
            while (more := stream.readline(BLOCK)) and not more.endswith(b"\n"):
                size += len(more)
            yield number, None, size + len(more.rstrip(b"\n"))


def whole_file(shard: Shard, damage: Damage) -> Iterator[tuple[int, bytes]]:
    """All of a file as row 1, unless it is too long."""
    with _opened(shard) as stream:
        data = stream.read(shard.longest + 1)
    if len(data) > shard.longest:
        damage.add(1, f"a file of more than {shard.longest:,} bytes")
    else:
        yield 1, data


@contextlib.contextmanager
def _opened(shard: Shard) -> Iterator[io.BufferedReader]:
    """The bytes of a file that holds text; what fails while they are read means that the file is broken."""
    try:
        with io.BufferedReader(open_unpacked(shard.path, shard.options), BLOCK) as stream:
            start = stream.peek(SNIFFED_BYTES)[:SNIFFED_BYTES]
            if start[:2] in (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE):
                raise BrokenFileError("UTF-16, not UTF-8; `iconv -f UTF-16 -t UTF-8` converts it")
            if start.count(0) > 1 + len(start) // LEAST_PER_NUL:
                raise BrokenFileError("binary data, not text in UTF-8")
            yield stream
    except (pa.ArrowException, OSError) as error:
        raise BrokenFileError(first_line(error)) from error


def json_records(shard: Shard, damage: Damage) -> Iterator[tuple[int, Any]]:
    """What stands in each line of JSON; lines without any are passed over.

    Raises:
        BrokenFileError: as `numbered_lines`.
    """
    for number, line in numbered_lines(shard, damage):
        if line.isspace():
            continue
        try:
            record = json.loads(line)
        except UnicodeDecodeError as error:
            damage.add(number, f"invalid UTF-8 at byte {error.start}")
        except ValueError as error:
            damage.add(number, f"not JSON: {error}")
        except RecursionError:
            damage.add(number, "not JSON: nested too deeply")
        else:
            yield number, record


def in_lists(rows: Iterator[T], size: Callable[[T], int]) -> Iterator[list[T]]:
    """Lists of at most BATCH_ROWS rows and about BATCH_BYTES bytes; rows before a break are not lost with it."""
    held: list[T] = []
    total = 0
    broken: BrokenFileError | None = None
    try:
        for row in rows:
            held.append(row)
            total += size(row)
            if len(held) >= BATCH_ROWS or total >= BATCH_BYTES:
                yield held
                held, total = [], 0
    except BrokenFileError as error:
        broken = error
    if held:
        yield held
    if broken:
        raise broken


def first_line(error: BaseException) -> str:
    """An error in one line."""
    return (str(error).splitlines() or [type(error).__name__])[0]


def too_long(what: str, size: int, shard: Shard) -> str:
    """What is said of a row over the recipe's limit."""
    return f"a {what} of {size:,} bytes, more than {shard.longest:,}"
