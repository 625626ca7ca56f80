"""An artifact is a folder with a `manifest.json`, written last: a folder without one is unfinished."""

from __future__ import annotations

import contextlib
import fcntl
import importlib.metadata
import os
import platform
import shutil
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, ValidationError

from caravan.core.errors import ArtifactError, LockedError
from caravan.core.files import full_disk_named, read_json, remove_torn, sha256_file, write_json, write_text
from caravan.core.log import get_logger

log = get_logger(__name__)
MANIFEST = "manifest.json"
KEY = ".key"  # what the work in an unfinished folder was begun for
SCHEMA_VERSION = 1
LIBRARIES = ("caravan", "torch", "transformers", "tokenizers", "numpy", "pyarrow", "xllamacpp", "gguf")


class Manifest(BaseModel):
    """What an artifact is, what it was made of and by what."""

    model_config = ConfigDict(extra="forbid")

    kind: str
    schema_version: int = SCHEMA_VERSION
    stage: str
    key: str
    files: dict[str, str]
    parents: dict[str, str]
    recipe: dict[str, Any]
    counts: dict[str, Any]
    seconds: float
    versions: dict[str, str]


@dataclass(frozen=True)
class Artifact:
    """A finished folder of the road."""

    path: Path
    manifest: Manifest

    @property
    def kind(self) -> str:
        return self.manifest.kind

    @property
    def counts(self) -> dict[str, Any]:
        return self.manifest.counts

    @classmethod
    def open(cls, path: Path, kind: str | None = None) -> Artifact:
        """Open a finished artifact.

        Raises:
            ArtifactError: no such folder, no manifest (unfinished), a manifest that cannot be read, another kind.
        """
        path = Path(path)
        file = path / MANIFEST
        if not file.is_file():
            raise ArtifactError(
                "not a finished artifact",
                where=str(path),
                expected=f"a folder with {MANIFEST}",
                got="no such folder" if not path.exists() else f"a folder without {MANIFEST}",
                fix="run the stage that makes it; an interrupted stage goes on where it stopped",
            )
        try:
            manifest = Manifest.model_validate(read_json(file))
        except (ValueError, ValidationError) as error:
            raise ArtifactError(
                "the manifest cannot be read",
                where=str(file),
                expected=f"a manifest of schema version {SCHEMA_VERSION}",
                got=str(error).splitlines()[0],
                fix="remove this folder and run its stage again",
            ) from error
        if kind is not None and manifest.kind != kind:
            raise ArtifactError(
                "an artifact of another kind",
                where=str(path),
                expected=kind,
                got=manifest.kind,
                fix="give the right path",
            )
        return cls(path, manifest)


def library_versions() -> dict[str, str]:
    """Versions of Python and of the libraries that shape what an artifact holds."""
    versions = {"python": platform.python_version()}
    for name in LIBRARIES:
        try:
            versions[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return versions


def write_manifest(
    folder: Path,
    *,
    kind: str,
    stage: str,
    key: str,
    parents: dict[str, str],
    recipe: dict[str, Any],
    counts: dict[str, Any],
    seconds: float,
) -> Artifact:
    """Hash every file of a folder and write its manifest: from here on it is finished."""
    files = {
        str(file.relative_to(folder)): sha256_file(file)
        for file in sorted(folder.rglob("*"))
        if file.is_file() and file.name != MANIFEST
    }
    manifest = Manifest(
        kind=kind,
        stage=stage,
        key=key,
        files=files,
        parents=parents,
        recipe=recipe,
        counts=counts,
        seconds=seconds,
        versions=library_versions(),
    )
    write_json(folder / MANIFEST, manifest.model_dump())
    return Artifact(folder, manifest)


@contextlib.contextmanager
def locked(folder: Path, name: str = ".lock") -> Iterator[None]:
    """Hold a folder by a file in it; the lock goes with the process, however that ends.

    Raises:
        LockedError: another process holds it.
    """
    with full_disk_named(folder):
        folder.mkdir(parents=True, exist_ok=True)
    with (folder / name).open("a+") as stream:
        try:
            fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            stream.seek(0)
            raise LockedError(
                "another run is at work in this folder",
                where=str(folder),
                expected="one run at a time",
                got=f"process {stream.read().strip() or 'unknown'}",
                fix="wait for it, or give this run a folder of its own: output=FOLDER",
            ) from error
        stream.truncate(0)
        stream.write(str(os.getpid()))
        stream.flush()
        yield


def make_artifact(
    final: Path,
    key: str,
    *,
    kind: str,
    stage: str,
    parents: dict[str, str],
    recipe: dict[str, Any],
    make: Callable[[Path], dict[str, Any]],
) -> tuple[Artifact, bool]:
    """Make an artifact in a folder beside its place, unless it is there with this key.

    Args:
        key: hash of all that goes into it; an unfinished folder of the same key is gone on from.
        make: does the work in a folder and returns the counts of the manifest.

    Returns:
        the artifact, and whether it was made now.
    """
    work = final.with_name(f"{final.name}.partial")
    finished = _finished(final, work, key)
    if finished is not None:
        log.info("%s: up to date", stage)
        return finished, False
    _prepare(work, key, stage)
    started = time.monotonic()
    with full_disk_named(work):
        counts = make(work)
    seconds = round(time.monotonic() - started, 3)
    write_manifest(
        work, kind=kind, stage=stage, key=key, parents=parents, recipe=recipe, counts=counts, seconds=seconds
    )
    _swap(work, final)
    return Artifact.open(final), True


def _finished(final: Path, work: Path, key: str) -> Artifact | None:
    """The artifact of this key, if it is complete; a kill just before the last rename is mended here."""
    if (work / MANIFEST).is_file() and Artifact.open(work).manifest.key == key:
        _swap(work, final)
    if (final / MANIFEST).is_file() and (artifact := Artifact.open(final)).manifest.key == key:
        return artifact
    return None


def _prepare(work: Path, key: str, name: str) -> None:
    """Make the working folder; one that was left by the same work is kept and gone on from."""
    if work.exists():
        if (work / KEY).is_file() and (work / KEY).read_text() == key:
            log.info("%s: goes on where it stopped", name)
            remove_torn(work)
            return
        shutil.rmtree(work)
    work.mkdir(parents=True)
    write_text(work / KEY, key)


def _swap(work: Path, final: Path) -> None:
    """Put the finished folder in its place; the old one stands until then."""
    old = final.with_name(f"{final.name}.old")
    shutil.rmtree(old, ignore_errors=True)
    if final.exists():
        final.rename(old)
    work.rename(final)
    shutil.rmtree(old, ignore_errors=True)
