from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from caravan.core.errors import ArtifactError, ServeError
from caravan.serve.model import find_model


def test_export_run_folder_and_file_are_the_same_model(exported: Path) -> None:
    folder = find_model(exported, "q4_k_m")
    run = find_model(exported.parent, "q4_k_m")
    file = find_model(exported / "model-q4_k_m.gguf", "q4_k_m", exported / "mmproj-f16.gguf")
    assert folder == run
    assert (file.gguf, file.mmproj, file.tokenizer) == (folder.gguf, folder.mmproj, folder.tokenizer)
    assert folder.name == "tiny"


def test_missing_pieces_are_named(exported: Path, tmp_path: Path) -> None:
    with pytest.raises(ServeError, match=r"model-q8_0\.gguf.*\n.*\n.*\n.*model-f16\.gguf, model-q4_k_m\.gguf"):
        find_model(exported, "q8_0")
    with pytest.raises(ServeError, match=r"none\.gguf"):
        find_model(tmp_path / "none.gguf", "q4_k_m")
    with pytest.raises(ServeError, match="--mmproj"):
        find_model(exported, "q4_k_m", exported / "mmproj-f16.gguf")
    with pytest.raises(ArtifactError):
        find_model(tmp_path, "q4_k_m")
    alone = shutil.copy(exported / "model-q4_k_m.gguf", tmp_path)
    with pytest.raises(ServeError, match=r"tokenizer\.json"):
        find_model(Path(alone), "q4_k_m")


def test_an_unfinished_export_is_refused(exported: Path, tmp_path: Path) -> None:
    shutil.copytree(exported, tmp_path / "export", ignore=shutil.ignore_patterns("manifest.json"))
    with pytest.raises(ArtifactError, match="not a finished artifact"):
        find_model(tmp_path, "q4_k_m")
