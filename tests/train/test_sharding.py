"""FSDP2 and ZeRO-3 beside one process: the same steps on the same data, and one goes on from what the other saved."""

from __future__ import annotations

import json
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

# The command line, in a process that holds its share alone. The first walks other recipes before its own, so that
# several runs need only one launch; a run into a folder called `cut` ends after the third step, as by a kill.
LAUNCHED = """
import json, os, sys, torch
torch.set_num_threads(1)
from torch.distributed.tensor import DTensor
from caravan.__main__ import main
from caravan.recipe.load import load_recipe
from caravan.road import Walk
from caravan.train import loop
from caravan.train.watch import Watch
def watched(self, args, state, control, model=None, optimizer=None, **rest):
    for parameter in model.parameters():
        assert parameter.to_local().numel() < parameter.numel()
        for part in getattr(optimizer, "parts", (optimizer,)):
            assert all(kept.to_local().numel() < kept.numel() for name, kept in part.state.get(parameter, {}).items()
                       if name != "step")
    if state.global_step == 4 and "cut" in args.output_dir.split("/"):
        raise KeyboardInterrupt
Watch.on_step_begin = watched
def from_the_first(model, shard=loop.shard):
    assert {weight.device.type for weight in model.parameters()} == {"meta" if int(os.environ["RANK"]) else "cpu"}
    shard(model)
loop.shard = from_the_first
def walk_others_too(self, names, walk=Walk.run):
    for recipe, *overrides in json.loads(os.environ["OTHERS"]):
        list(walk(Walk(load_recipe(recipe, overrides))))
    return walk(self, names)
Walk.run = walk_others_too
main()
"""
TUNED = {
    "lora": ["pretrain.from=MODEL", "pretrain.method={name: lora, r: 4, dropout: 0, embeddings: all}"],
    "muon": ["pretrain.optimizer=muon"],
}


@pytest.fixture
def recipe(tmp_path, tokenizer_artifact):
    """A recipe of pretraining alone, on a finished tokenizer."""
    folder = tokenizer_artifact.path
    write_manifest(folder, kind="tokenizer", stage="tokenize", key="k", parents={}, recipe={}, counts={}, seconds=0.0)
    path = tmp_path / "recipe.yaml"
    sections = {"name": "r", "inputs": {"tokenizer": str(folder)}, "output": str(tmp_path / "cut"), "pretrain": SHORT}
    path.write_text(yaml.safe_dump(sections))
    return path


def walk(recipe, *overrides):
    (result,) = Walk(load_recipe(recipe, list(overrides))).run()
    return result


def torchrun(*command, **environment):
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    alone = {**os.environ, "OMP_NUM_THREADS": "1", **environment}
    return subprocess.run([*launcher, *command], capture_output=True, text=True, env=alone)


def same_run(one, other, atol=1e-5):
    """Whether two finished runs took the same steps to the same weights."""
    assert [line["step"] for line in journal(other)] == [line["step"] for line in journal(one)]
    for first, second in zip(journal(one), journal(other), strict=True):
        assert first["tokens"] == second["tokens"]
        assert second["loss"] == pytest.approx(first["loss"], rel=1e-4)
        assert second["grad_norm"] == pytest.approx(first["grad_norm"], rel=1e-3)
    first, second = (load_file(each / "model.safetensors") for each in (one, other))
    assert first.keys() == second.keys()
    for name, weight in first.items():
        torch.testing.assert_close(weight, second[name], rtol=1e-3, atol=atol)


@pytest.fixture
def model(model_artifact):
    return str(model_artifact.path)


def test_a_divided_run_takes_the_steps_of_one_process_which_goes_on_from_it(recipe, model, tmp_path):
    (tmp_path / "launched.py").write_text(LAUNCHED)
    tuned = {name: [each.replace("MODEL", model) for each in overrides] for name, overrides in TUNED.items()}
    divided = [
        [str(recipe), "pretrain.parallel=fsdp2", "pretrain.steps=3", f"output={tmp_path / 'divided' / name}", *rest]
        for name, rest in tuned.items()
    ]
    command = str(tmp_path / "launched.py"), "run", str(recipe), "pretrain.parallel=fsdp2"
    done = torchrun(*command, OTHERS=json.dumps(divided))
    assert done.returncode != 0
    checkpoints = tmp_path / "cut" / "pretrain.partial" / "checkpoints"
    assert checkpoints.is_dir(), done.stderr
    assert [each.name for each in checkpoints.iterdir()] == ["checkpoint-3"], done.stderr
    moved = walk(recipe, "pretrain.parallel=ddp")  # how the work was done is no part of the key
    same_run(walk(recipe, f"output={tmp_path / 'whole'}").artifact.path, moved.artifact.path)
    for name, rest in tuned.items():
        alone = walk(recipe, "pretrain.steps=3", f"output={tmp_path / 'alone' / name}", *rest)
        # Muon orthogonalises in bf16, where sums in another order round otherwise; a step moves a weight by 1e-3.
        same_run(alone.artifact.path, tmp_path / "divided" / name / "pretrain", 2e-4 if name == "muon" else 1e-5)


def test_zero3_takes_the_steps_of_one_process_from_where_it_stopped(recipe, tmp_path):
    pytest.importorskip("deepspeed")
    cut = [str(recipe), "pretrain.parallel=fsdp2"]
    (tmp_path / "launched.py").write_text(LAUNCHED)
    torchrun(str(tmp_path / "launched.py"), "run", *cut, OTHERS="[]")
    done = torchrun("-m", "caravan", "run", str(recipe), "pretrain.parallel=zero3")
    assert done.returncode == 0, done.stderr
    whole = walk(recipe, f"output={tmp_path / 'whole'}")
    same_run(whole.artifact.path, tmp_path / "cut" / "pretrain")


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
