from __future__ import annotations

from pathlib import Path

import pytest

from caravan.core.artifact import MANIFEST, Artifact, write_manifest
from caravan.core.errors import ArtifactError


def make(folder: Path) -> Artifact:
    folder.mkdir()
    (folder / "data.txt").write_text("content")
    return write_manifest(
        folder, kind="corpus", stage="curate", key="k", parents={}, recipe={}, counts={"documents": 1}, seconds=0.1
    )


def test_round_trip(tmp_path: Path) -> None:
    made = make(tmp_path / "a")
    opened = Artifact.open(tmp_path / "a", "corpus")
    assert opened == made
    assert opened.counts == {"documents": 1}
    assert set(opened.manifest.files) == {"data.txt"}


def test_a_folder_without_manifest_is_unfinished(tmp_path: Path) -> None:
    make(tmp_path / "a")
    (tmp_path / "a" / MANIFEST).unlink()
    with pytest.raises(ArtifactError, match="not a finished artifact"):
        Artifact.open(tmp_path / "a")


def test_a_torn_manifest_is_named(tmp_path: Path) -> None:
    make(tmp_path / "a")
    text = (tmp_path / "a" / MANIFEST).read_text()
    (tmp_path / "a" / MANIFEST).write_text(text[: len(text) // 2])
    with pytest.raises(ArtifactError, match="cannot be read"):
        Artifact.open(tmp_path / "a")


def test_another_kind_is_refused(tmp_path: Path) -> None:
    make(tmp_path / "a")
    with pytest.raises(ArtifactError, match="another kind"):
        Artifact.open(tmp_path / "a", "model")
