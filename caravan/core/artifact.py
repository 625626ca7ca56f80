"""An artifact is a folder with a `manifest.json`, written last: a folder without one is unfinished."""

from __future__ import annotations

import importlib.metadata
import platform
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, ValidationError

from caravan.core.errors import ArtifactError
from caravan.core.files import read_json, sha256_file, write_json

MANIFEST = "manifest.json"
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
