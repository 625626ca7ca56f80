"""The runner, with stages that only count how often they ran; the real ones run in tests/test_end_to_end.py."""

from __future__ import annotations

import subprocess
import sys
import textwrap
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from caravan.core.artifact import MANIFEST, Artifact, locked, write_manifest
from caravan.core.errors import ArtifactError, LockedError, UsageError
from caravan.core.stage import StageContext
from caravan.recipe.recipe import Recipe
from caravan.road import Stage, Walk


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Names of the stages that really ran, in order."""
    ran: list[str] = []

    def function(stage: Stage, verb: str) -> Callable[..., Any]:
        def work(config: Any, context: StageContext) -> dict[str, Any]:
            ran.append(stage.name)
            (context.out / "made.txt").write_text(f"{config.model_dump_json()} {sorted(context.inputs)}")
            return {"calls": len(ran)}

        return work

    monkeypatch.setattr(Stage, "function", function)
    return ran


def recipe(tmp_path: Path, **changes: Any) -> Recipe:
    stages: dict[str, Any] = {"curate": {}, "tokenize": {}, "pretrain": {}}
    return Recipe.model_validate({"name": "x", "output": str(tmp_path / "run"), **stages, **changes})


def test_a_second_run_does_nothing(tmp_path: Path, calls: list[str]) -> None:
    first = list(Walk(recipe(tmp_path)).run())
    second = list(Walk(recipe(tmp_path)).run())
    assert calls == ["curate", "tokenize", "pretrain"]
    assert [result.fresh for result in first] == [True] * 3
    assert [result.fresh for result in second] == [False] * 3
    assert [r.artifact for r in first] == [r.artifact for r in second]


def test_a_change_reruns_its_stage_and_those_after_it(tmp_path: Path, calls: list[str]) -> None:
    list(Walk(recipe(tmp_path)).run())
    calls.clear()
    list(Walk(recipe(tmp_path, tokenize={"vocab_size": 999})).run())
    assert calls == ["tokenize", "pretrain"]


def test_the_old_artifact_stands_until_the_new_one_is_done(
    tmp_path: Path, calls: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    (before,) = list(Walk(recipe(tmp_path)).run(["curate"]))

    def fail(stage: Stage, verb: str) -> Callable[..., Any]:
        raise RuntimeError("killed")

    monkeypatch.setattr(Stage, "function", fail)
    with pytest.raises(RuntimeError):
        list(Walk(recipe(tmp_path, seed=8)).run(["curate"]))
    assert Artifact.open(tmp_path / "run" / "curate") == before.artifact
    assert not (tmp_path / "run" / "curate.partial" / MANIFEST).exists()


def test_the_same_work_goes_on_in_the_same_folder_and_other_work_does_not(
    tmp_path: Path, calls: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[bool] = []

    def function(stage: Stage, verb: str) -> Callable[..., Any]:
        def work(config: Any, context: StageContext) -> dict[str, Any]:
            seen.append((context.out / "half").exists())
            (context.out / "half").touch()
            raise KeyboardInterrupt

        return work

    monkeypatch.setattr(Stage, "function", function)
    for seed in (7, 7, 8):
        with pytest.raises(KeyboardInterrupt):
            list(Walk(recipe(tmp_path, seed=seed)).run(["curate"]))
    assert seen == [False, True, False]


def test_a_kill_before_the_last_rename_is_mended(tmp_path: Path, calls: list[str]) -> None:
    list(Walk(recipe(tmp_path)).run(["curate"]))
    folder = tmp_path / "run"
    (folder / "curate").rename(folder / "curate.partial")
    (result,) = Walk(recipe(tmp_path)).run(["curate"])
    assert calls == ["curate"]
    assert not result.fresh


def test_the_resolved_recipe_lies_beside_each_artifact(tmp_path: Path, calls: list[str]) -> None:
    from caravan.recipe.load import load_recipe

    list(Walk(recipe(tmp_path)).run())
    assert load_recipe(tmp_path / "run" / "pretrain" / "recipe.yaml") == recipe(tmp_path)


def test_a_stage_without_its_input_is_named(tmp_path: Path, calls: list[str]) -> None:
    with pytest.raises(ArtifactError, match="tokenize has no corpus"):
        list(Walk(recipe(tmp_path, curate=False)).run())
    with pytest.raises(ArtifactError, match="not a finished artifact"):
        list(Walk(recipe(tmp_path)).run(["pretrain"]))


def test_inputs_of_the_recipe_stand_in_for_stages(tmp_path: Path, calls: list[str]) -> None:
    list(Walk(recipe(tmp_path)).run())
    other = Recipe.model_validate(
        {
            "name": "y",
            "output": str(tmp_path / "other"),
            "pretrain": {},
            "inputs": {"tokenizer": str(tmp_path / "run" / "tokenize")},
        }
    )
    (result,) = Walk(other).run()
    assert result.artifact.manifest.parents.keys() == {"tokenizer"}


def test_an_unknown_stage_is_named(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no stage sfft"):
        list(Walk(recipe(tmp_path)).run(["sfft"]))


def test_two_runs_on_one_folder_are_refused(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    code = f"""
        import sys
        from pathlib import Path
        from caravan.core.artifact import locked
        with locked(Path({str(folder)!r})):
            print("held", flush=True)
            sys.stdin.read()
    """
    holder = subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(code)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert holder.stdout is not None
    assert holder.stdin is not None
    assert holder.stdout.readline() == "held\n"
    with pytest.raises(LockedError, match=f"process {holder.pid}"), locked(folder):
        raise AssertionError("the lock was given twice")
    holder.kill()
    holder.wait()
    holder.stdin.close()
    holder.stdout.close()
    with locked(folder):
        assert (folder / ".lock").exists()


def test_what_a_named_artifact_holds_is_part_of_the_key(tmp_path: Path, calls: list[str]) -> None:
    def made(key: str) -> None:
        facts: dict[str, Any] = {"stage": "train-lm", "parents": {}, "recipe": {}, "counts": {}, "seconds": 0.0}
        (tmp_path / "lm").mkdir(exist_ok=True)
        write_manifest(tmp_path / "lm", kind="ngram-models", key=key, **facts)

    named = recipe(tmp_path, curate={"perplexity": {"models": str(tmp_path / "lm")}})
    with pytest.raises(ArtifactError, match="not a finished artifact"):
        list(Walk(named).run(["curate"]))
    made("one")
    (first,) = Walk(named).run(["curate"])
    assert first.artifact.manifest.parents == {"ngram-models": "one"}
    made("two")
    assert [result.fresh for result in Walk(named).run(["curate"])] == [True]
    assert [result.fresh for result in Walk(named).run(["curate"])] == [False]
