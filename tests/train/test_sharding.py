"""FSDP2 and ZeRO-3 beside one process: the same steps on the same data, and one goes on from what the other saved."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest
import torch
import yaml
from safetensors.torch import load_file

from caravan.core.artifact import write_manifest
from caravan.core.errors import MissingDependencyError
from caravan.recipe.load import load_recipe
from caravan.recipe.train import PretrainConfig
from caravan.road import Walk
from caravan.train import sharding
from tests.train.test_loop import LONG, journal

SHORT = {**LONG, "steps": 6, "save_every": 3}

# The command line, in a process that holds its share alone, and is cut off after the third step, as by a kill.
CUT_OFF = """
import sys, torch
torch.set_num_threads(1)
from torch.distributed.tensor import DTensor
from caravan.__main__ import main
from caravan.train.watch import Watch
def cut_off(self, args, state, control, model=None, optimizer=None, **rest):
    for parameter in model.parameters():
        assert parameter.to_local().numel() < parameter.numel()
        kept = optimizer.state.get(parameter, {})
        assert state.global_step == 0 or isinstance(kept["exp_avg"], DTensor)
    if state.global_step == 4:
        raise KeyboardInterrupt
Watch.on_step_begin = cut_off
main()
"""


@pytest.fixture
def recipe(tmp_path, tokenizer_artifact):
    """A recipe of pretraining alone, on a finished tokenizer."""
    folder = tokenizer_artifact.path
    write_manifest(folder, kind="tokenizer", stage="tokenize", key="k", parents={}, recipe={}, counts={}, seconds=0.0)
    path = tmp_path / "recipe.yaml"
    sections = {"name": "r", "inputs": {"tokenizer": str(folder)}, "output": str(tmp_path / "run"), "pretrain": SHORT}
    path.write_text(yaml.safe_dump(sections))
    return path


def walk(recipe, *overrides):
    (result,) = Walk(load_recipe(recipe, list(overrides))).run()
    return result


def torchrun(*command):
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    alone = {**os.environ, "OMP_NUM_THREADS": "1"}
    return subprocess.run([*launcher, *command], capture_output=True, text=True, env=alone)


def test_engines_agree_and_one_goes_on_from_the_other(recipe, tmp_path):
    pytest.importorskip("deepspeed")
    (tmp_path / "cut_off.py").write_text(CUT_OFF)
    done = torchrun(str(tmp_path / "cut_off.py"), "run", str(recipe), "pretrain.parallel=fsdp2")
    assert done.returncode != 0
    work = tmp_path / "run" / "pretrain.partial"
    assert [each.name for each in (work / "checkpoints").iterdir()] == ["checkpoint-3"], done.stderr
    done = torchrun("-m", "caravan", "run", str(recipe), "pretrain.parallel=zero3")
    assert done.returncode == 0, done.stderr
    moved = walk(recipe, "pretrain.parallel=ddp")
    assert not moved.fresh  # how the work was done is no part of the key
    whole = walk(recipe, f"output={tmp_path / 'whole'}")
    assert [line["step"] for line in journal(moved.artifact.path)] == list(range(1, 7))
    for one, other in zip(journal(whole.artifact.path), journal(moved.artifact.path), strict=True):
        assert one["tokens"] == other["tokens"]
        assert one["loss"] == pytest.approx(other["loss"], rel=1e-4)
        assert one["grad_norm"] == pytest.approx(other["grad_norm"], rel=1e-3)
    first, second = (load_file(each.artifact.path / "model.safetensors") for each in (whole, moved))
    assert first.keys() == second.keys()
    for name, weight in first.items():
        torch.testing.assert_close(weight, second[name], rtol=1e-3, atol=1e-5)


def test_what_cannot_be_divided_is_refused_before_a_run(monkeypatch):
    for wrong, said in (
        ({"parallel": "zero3", "optimizer": "muon"}, "adamw for parallel: zero3"),
        ({"parallel": "fsdp2", "from": "m", "method": {"name": "qlora"}}, "ddp for the method qlora"),
    ):
        with pytest.raises(ValueError, match=said):
            PretrainConfig.model_validate(wrong)
    plain = PretrainConfig.model_validate({})
    assert PretrainConfig.model_validate({"processes": 2, "parallel": "fsdp2"}).basis() == plain.basis()
    assert PretrainConfig.model_validate({"steps": 7}).basis() != plain.basis()
    monkeypatch.setattr(sharding.importlib.util, "find_spec", lambda name: object())
    assert sharding.zero3()["zero_optimization"]["stage"] == 3
    monkeypatch.setattr(sharding.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(MissingDependencyError, match=r"caravan\[gpu\]"):
        sharding.zero3()
