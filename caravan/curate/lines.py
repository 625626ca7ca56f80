"""Files of lines, compressed or not: numbered lines, JSON records, and lists of rows of a bounded size."""

from __future__ import annotations

import io
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TypeVar

import pyarrow as pa

from caravan.curate.rows import LONGEST, BrokenFileError, Damage

BATCH_ROWS = 1024
BATCH_BYTES = 8 << 20
SNIFFED_BYTES = 8192
T = TypeVar("T")


def numbered_lines(path: Path) -> Iterator[tuple[int, bytes]]:
    """Numbered lines of a file, from 1.

    Raises:
        BrokenFileError: binary data, a damaged compressed stream, or a line of more than LONGEST bytes.
    """
    try:
        with io.BufferedReader(pa.input_stream(str(path), compression="detect")) as stream:
            if b"\0" in stream.peek(SNIFFED_BYTES)[:SNIFFED_BYTES]:
                raise BrokenFileError("binary data, not text in UTF-8")
            number = 0
            while line := stream.readline(LONGEST):
                number += 1
                if len(line) == LONGEST:
                    raise BrokenFileError(f"line {number} is longer than {LONGEST:,} bytes")
                yield number, line
    except (pa.ArrowException, OSError) as error:
        raise BrokenFileError(first_line(error)) from error


def json_records(path: Path, damage: Damage) -> Iterator[tuple[int, Any]]:
    """What stands in each line of JSON; lines without any are passed over.

    Raises:
        BrokenFileError: as `numbered_lines`.
    """
    for number, line in numbered_lines(path):
        if not line.strip():
            continue
        try:
            record = json.loads(line)
        except UnicodeDecodeError as error:
            damage.add(number, f"invalid UTF-8 at byte {error.start}")
        except ValueError as error:
            damage.add(number, f"not JSON: {error}")
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
