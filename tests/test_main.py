"""The command line, as a person types it."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from caravan.__main__ import split_words


def caravan(*arguments: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "caravan", *arguments], capture_output=True, text=True, cwd=cwd, check=False, timeout=120
    )


def test_words_are_stages_or_overrides() -> None:
    assert split_words(["sft", "seed=3", "export"]) == (["sft", "export"], ["seed=3"])
    assert split_words(None) == ([], [])


@pytest.mark.parametrize(
    ("recipe", "expected"),
    [
        ("name: x\nsft: {learning_rat: 1}\n", "did you mean learning_rate?"),
        ("name: [\n", "not valid YAML"),
        ("", "a key is missing"),
    ],
)
def test_a_wrong_recipe_ends_with_2_and_says_where(tmp_path: Path, recipe: str, expected: str) -> None:
    (tmp_path / "wrong.yaml").write_text(recipe)
    for command in ("run", "validate"):
        done = caravan(command, "wrong.yaml", cwd=tmp_path)
        assert done.returncode == 2
        assert expected in done.stderr
        assert "wrong.yaml" in done.stderr
        assert "Traceback" not in done.stderr
    assert list(tmp_path.iterdir()) == [tmp_path / "wrong.yaml"]


def test_wrong_usage_ends_with_2(tmp_path: Path) -> None:
    assert caravan("fly", cwd=tmp_path).returncode == 2
    assert caravan("run", cwd=tmp_path).returncode == 2
    (tmp_path / "r.yaml").write_text("name: x\ncurate:\n")
    done = caravan("run", "r.yaml", "sft", cwd=tmp_path)
    assert done.returncode == 2
    assert "the recipe has no stage sft" in done.stderr


def test_missing_data_is_named_before_anything_runs(tmp_path: Path) -> None:
    (tmp_path / "r.yaml").write_text("name: x\ncurate: {sources: [{path: nowhere/*.parquet}]}\n")
    done = caravan("validate", "r.yaml", cwd=tmp_path)
    assert done.returncode == 1
    assert "nowhere/*.parquet" in done.stderr
    assert "data=FOLDER" in done.stderr


def test_inspect_of_nothing_says_so(tmp_path: Path) -> None:
    done = caravan("inspect", ".", cwd=tmp_path)
    assert done.returncode == 1
    assert "nothing to inspect" in done.stderr


def test_road_schema_and_doctor_speak(tmp_path: Path) -> None:
    assert "pretrain" in caravan("road", cwd=tmp_path).stdout
    schema = json.loads(caravan("schema", cwd=tmp_path).stdout)
    assert {"curate", "sft", "serve"} <= schema["properties"].keys()
    doctor = caravan("doctor", cwd=tmp_path).stdout
    assert "cores" in doctor
    assert "torch" in doctor


def test_calibration_writes_nothing_where_something_is_wrong(tmp_path: Path) -> None:
    done = caravan("curate", "calibrate", "nowhere/*.txt", "-o", "limits.yaml", cwd=tmp_path)
    assert done.returncode == 1
    assert "no file matches" in done.stderr
    done = caravan("curate", "calibrate", "a.txt", "-o", "limits.yaml", "--loss", "1", cwd=tmp_path)
    assert done.returncode == 2
    assert "--loss" in done.stderr
    assert list(tmp_path.iterdir()) == []


def test_training_of_filters_names_what_is_wrong(tmp_path: Path) -> None:
    done = caravan("curate", "train-lm", "nowhere/*.txt", "-o", "lm", cwd=tmp_path)
    assert done.returncode == 1
    assert "no file matches" in done.stderr
    done = caravan("curate", "train-lm", "a.txt", "-o", "lm", "--order", "1", cwd=tmp_path)
    assert done.returncode == 2
    assert "--order" in done.stderr
    done = caravan("curate", "train-classifier", "a.txt", "--junk", "nowhere", "-o", "m", "--epochs", "0", cwd=tmp_path)
    assert done.returncode == 2
    assert "--epochs" in done.stderr
    assert list(tmp_path.iterdir()) == []
