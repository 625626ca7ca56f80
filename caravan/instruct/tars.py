"""WebDataset: samples of neighbouring members of a tar archive that share a name up to its first dot.

In a plain archive a medium stays where it is, named by its stretch of the file; a compressed one gives its bytes.
"""

from __future__ import annotations

import itertools
import json
import tarfile
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import Any

import pyarrow as pa

from caravan.core.errors import DataError
from caravan.instruct.containers import COMPRESSIONS, Rows, broken_file, opened
from caravan.instruct.media import kind_of
from caravan.instruct.rows import Row
from caravan.records import Media

Member = tuple[str, str, Any]


def tar_rows(file: Path) -> Rows:
    """A row for each sample: the fields of its `.json`, `text` of its `.txt`, and its media.

    Raises:
        DataError: no archive, or the rest of it cannot be read.
    """
    number = 0
    try:
        for key, members in itertools.groupby(_members(file), key=lambda member: member[0]):
            yield _sample(file, number, key, list(members))
            number += 1
    except (tarfile.TarError, pa.ArrowException, OSError, EOFError) as error:
        raise broken_file(file, f"sample {number}", "a complete tar archive", error) from error


def _members(file: Path) -> Iterator[Member]:
    """Key, extension and content of each file: media as references, others as bytes."""
    packed = file.suffix.lower() in COMPRESSIONS
    with opened(file) as stream, tarfile.open(fileobj=stream, mode="r|") as archive:
        for member in archive:
            # The library keeps every member that it has seen.
            archive.members = []  # type: ignore[attr-defined]
            path = PurePosixPath(member.name)
            if not member.isfile() or path.name.startswith("."):
                continue
            stem, _, extension = path.name.partition(".")
            key = str(path.parent / stem)
            if kind_of(path.name) and not packed:
                yield key, extension, Media(path=f"{file}:{member.offset_data}:{member.size}")
                continue
            content = archive.extractfile(member)
            data = content.read() if content else b""
            yield key, extension, Media(bytes=data) if kind_of(path.name) else data


def _sample(file: Path, number: int, key: str, members: list[Member]) -> Row | DataError:
    values: dict[str, Any] = {"id": key}
    media: dict[str, list[Media]] = {"audio": [], "image": []}
    try:
        for _, extension, content in members:
            if isinstance(content, Media):
                media[str(kind_of(f"x.{extension}"))].append(content)
            elif extension == "json":
                values = {**json.loads(content), "id": key}
            elif extension.split(".")[-1] in ("txt", "text", "caption"):
                values["text"] = content.decode("utf-8")
    except (ValueError, TypeError) as error:
        return DataError("a member cannot be read", where=f"{file}, sample {number} ({key})", got=str(error)[:120],
                         expected="a JSON object, and text in UTF-8", fix="write the sample again")  # fmt: skip
    for name, found in media.items():
        if found:
            values.pop(f"{name}s", None)
            values[name] = found if len(found) > 1 else found[0]
    return Row(file, number, values, "sample")
