"""Files of input wherever they lie: on this machine, or behind a URL that fsspec knows (s3://, hf://, https://)."""

from __future__ import annotations

import io
import os
import re
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import fsspec
import pyarrow as pa

from caravan.core.errors import StoreError
from caravan.core.files import sha256_obj
from caravan.core.stage import StageContext

# Seconds before a read that failed is tried again; stores with tries of their own come to this after them.
PAUSES = (1.0, 5.0)
CHAIN = "::"
NOT_FOUND = 404
COMPRESSIONS = {".gz": "gzip", ".zst": "zstd", ".bz2": "bz2"}


@dataclass(frozen=True)
class Found:
    """A file.

    Attributes:
        path: a path of this machine, or a URL.
        name: the same as people know it, in valid Unicode, relative to the data folder if it is below that.
        size: bytes, 0 where the store does not say.
        version: another one when the file has changed.
    """

    path: str
    name: str
    size: int
    version: str


def is_url(path: str) -> bool:
    return "://" in path


def find(pattern: str, ctx: StageContext, options: Mapping[str, Any]) -> list[Found]:
    """Files that a path, glob or URL names, sorted; none if there is none.

    Raises:
        StoreError: the store cannot be reached, or needs a package that is not installed.
    """
    return _find_remote(pattern, options) if is_url(pattern) else _find_local(pattern, ctx)


def _find_local(pattern: str, ctx: StageContext) -> list[Found]:
    found = []
    for path in filter(Path.is_file, ctx.matches(pattern)):
        name = path.relative_to(ctx.base) if path.is_relative_to(ctx.base) else path
        state = path.stat()
        printable = os.fsencode(name).decode("utf-8", "replace")
        found.append(Found(str(path), printable, state.st_size, str(state.st_mtime_ns)))
    return found


def _find_remote(pattern: str, options: Mapping[str, Any]) -> list[Found]:
    # In `zip://*.txt::s3://bucket/texts.zip` the rest of the chain belongs to every file.
    rest = pattern.split(CHAIN)[1:]
    try:
        store, path = fsspec.core.url_to_fs(pattern, **options)
        # A question mark starts the query of a web address; asked for by name, a web server says why there is nothing.
        several = re.search(r"[*\[]" if pattern.startswith("http") else r"[*?\[]", path)
        files: dict[str, dict[str, Any]] = store.glob(path, detail=True) if several else {path: store.info(path)}
        return [
            Found(url, url, info.get("size") or 0, sha256_obj(info)[:16])
            for name, info in sorted(files.items())
            if info["type"] == "file"
            for url in [CHAIN.join([store.unstrip_protocol(name), *rest])]
        ]
    except FileNotFoundError as error:
        # fsspec's web client calls every failure so; what it was stands in the cause.
        if isinstance(error.__cause__, Exception) and getattr(error.__cause__, "status", None) != NOT_FOUND:
            raise unreachable(pattern, error.__cause__) from error
        return []
    except Exception as error:
        raise unreachable(pattern, error) from error


def open_file(path: str, options: Mapping[str, Any]) -> pa.NativeFile:
    """A file as a seekable stream of Arrow's.

    Raises:
        StoreError: the store cannot be reached; its later reads raise the same.
        OSError: a local file cannot be opened.
    """
    if not is_url(path):
        return pa.OSFile(os.fsencode(path))
    try:
        store, inner = fsspec.core.url_to_fs(path, **options)
        return pa.PythonFile(_Remote(store, store.open(inner, "rb"), path), "r")
    except Exception as error:
        raise unreachable(path, error) from error


def open_unpacked(path: str, options: Mapping[str, Any]) -> pa.NativeFile:
    """A file as a stream, decompressed if its name says that it is compressed."""
    file = open_file(path, options)
    packed = COMPRESSIONS.get(suffixes(path)[1])
    return pa.CompressedInputStream(file, packed) if packed else file


def suffixes(path: str) -> tuple[str, str]:
    """Suffix of a path or URL, and that of its compression: `.jsonl` and `.gz`; empty where there is none."""
    inner = path.split(CHAIN)[0]
    name = Path(inner.split("?")[0] if is_url(inner) else inner)
    packed = name.suffix.lower() if name.suffix.lower() in COMPRESSIONS else ""
    return (name.with_suffix("") if packed else name).suffix.lower(), packed


class _Remote(io.RawIOBase):
    """A file of a store. A failed read is tried again; one that fails for good is the store's fault, not the file's."""

    def __init__(self, store: Any, file: Any, where: str) -> None:
        # An archive among stores closes its files when nobody holds it any more.
        self.store, self.file, self.where = store, file, where

    def read(self, size: int = -1) -> bytes:
        for pause in PAUSES:
            try:
                return self.file.read(size)
            except Exception:
                time.sleep(pause)
        try:
            return self.file.read(size)
        except Exception as error:
            raise unreachable(self.where, error) from error

    def seek(self, offset: int, whence: int = 0) -> int:
        return self.file.seek(offset, whence)

    def tell(self) -> int:
        return self.file.tell()

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return bool(self.file.seekable())

    def close(self) -> None:
        self.file.close()
        super().close()


def unreachable(where: str, error: Exception) -> StoreError:
    if isinstance(error, ImportError):
        return StoreError(
            "this kind of store needs a package that is not installed",
            where=where,
            expected="a package for fsspec",
            got=error,
            fix='install what it names; `pip install "caravan[remote]"` brings s3:// and https://',
        )
    return StoreError(
        "the store cannot be read",
        where=where,
        expected="a store that answers, and leave to read",
        got=f"{type(error).__name__}: {error}",
        fix="check address, network, credentials and storage_options, then run the same command again: it goes on from "
        "the last saved point",
    )
