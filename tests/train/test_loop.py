"""The loop: resume, interruption, accumulation, schedule, a full disk."""

from __future__ import annotations

import errno
import json
import signal
import subprocess
import sys
import time
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from torch.distributed.checkpoint import FileSystemReader

from caravan.core.errors import DiskFullError
from caravan.recipe.train import OptimConfig, PretrainConfig
from caravan.train import loop, pretrain
from caravan.train.dialogue_rows import collate
from caravan.train.loop import Loop, Task, fit, rate_at
from caravan.train.pack import assemble

SHAPE = {"hidden_size": 32, "layers": 1, "heads": 2}
LONG = {
    "model": SHAPE, "length": 32, "steps": 40, "batch": 4, "micro_batch": 2, "save_every": 10, "precision": "fp32",
    "start": {"weights": {"en": 0.9}}, "end": {"weights": {"en": 0.1}, "pairs": 0.5},
}  # fmt: skip

KILLED = """
import sys, json
import torch
torch.set_num_threads(1)
from pathlib import Path
from types import SimpleNamespace
from caravan.core.stage import StageContext
from caravan.recipe.train import PretrainConfig
from caravan.train.stage import run_pretrain
tokenizer = SimpleNamespace(path=Path(sys.argv[1]))
ctx = StageContext(Path(sys.argv[2]), {"tokenizer": tokenizer}, Path("."), 7, ("en",))
run_pretrain(PretrainConfig(**json.loads(sys.argv[3])), ctx)
"""


def journal(out):
    return [json.loads(line) for line in (out / "train.jsonl").read_text().splitlines()]


def kill_at(step, out, tokenizer_artifact):
    """Run pretraining in a process of its own and SIGKILL it once it is past a step."""
    process = subprocess.Popen([sys.executable, "-c", KILLED, tokenizer_artifact.path, out, json.dumps(LONG)])
    deadline = time.monotonic() + 120
    while process.poll() is None and time.monotonic() < deadline:
        if (out / "train.jsonl").exists() and len((out / "train.jsonl").read_text().splitlines()) >= step:
            break
        time.sleep(0.005)
    process.kill()
    assert process.wait() == -signal.SIGKILL
    assert step <= len(journal(out)) < 40


def test_a_killed_run_ends_like_an_uninterrupted_one(context, tokenizer_artifact):
    whole, killed = context("whole", tokenizer=tokenizer_artifact), context("killed", tokenizer=tokenizer_artifact)
    kill_at(14, killed.out, tokenizer_artifact)
    counts = [pretrain.run(PretrainConfig(**LONG), ctx) for ctx in (whole, killed)]
    assert counts[0].pop("final_loss") == pytest.approx(counts[1].pop("final_loss"), rel=1e-5)
    assert counts[0] == counts[1]
    # The loss of every step tells that its data were the same; no step comes twice or not at all.
    for one, other in zip(journal(whole.out), journal(killed.out), strict=True):
        assert (one["step"], one["tokens"]) == (other["step"], other["tokens"])
        assert one["loss"] == pytest.approx(other["loss"], rel=1e-4)
    first, second = (load_file(ctx.out / "model.safetensors") for ctx in (whole, killed))
    for name, weight in first.items():
        torch.testing.assert_close(weight, second[name], rtol=1e-3, atol=1e-5)


def test_a_finished_run_is_not_done_again(context, tokenizer_artifact, monkeypatch):
    ctx = context(tokenizer=tokenizer_artifact)
    config = PretrainConfig(**{**LONG, "steps": 2})
    counts = pretrain.run(config, ctx)
    monkeypatch.setattr(pretrain, "fit", None)
    assert pretrain.run(config, ctx) == counts


class Rows:
    """Sequences of random documents."""

    def __init__(self, count: int, vocabulary: int = 300) -> None:
        rng = np.random.default_rng(0)
        # Documents of very different length: means over micro-batches would not be means over tokens.
        self.rows = [assemble([(rng.integers(12, vocabulary, rng.integers(3, 24)), None)], 24, 1) for _ in range(count)]

    @property
    def tokens(self):
        return np.array([(row["labels"] >= 0).sum() + 1 for row in self.rows])

    def __len__(self):
        return len(self.rows)

    def __getitem__(self, row):
        return self.rows[row]


def train(model, out, rows=None, collate=collate, **options):
    config = OptimConfig(**{"batch": 4, "micro_batch": 4, "precision": "fp32", "save_every": 3, **options})
    out.mkdir(exist_ok=True)
    rates = {name: config.learning_rate for name, _ in model.named_parameters()}
    return fit(model, rows or Rows(24), collate, config, Task("test", rates, {"use_cache": False}), out, 7)


def test_accumulated_micro_batches_give_the_gradient_of_the_whole(llama, tmp_path):
    start = {name: weight.clone() for name, weight in llama.state_dict().items()}
    train(llama, tmp_path / "whole")
    whole = {name: weight.clone() for name, weight in llama.state_dict().items()}
    llama.load_state_dict(start)
    train(llama, tmp_path / "parts", micro_batch=1)
    for name, weight in llama.state_dict().items():
        torch.testing.assert_close(weight, whole[name], rtol=1e-3, atol=1e-5)
    for one, other in zip(journal(tmp_path / "whole"), journal(tmp_path / "parts"), strict=True):
        assert one["loss"] == pytest.approx(other["loss"], rel=1e-4)


def test_an_interrupt_saves_first_and_the_rest_follows_from_there(llama, tmp_path):
    start = {name: weight.clone() for name, weight in llama.state_dict().items()}
    train(llama, tmp_path / "whole")
    whole = {name: weight.clone() for name, weight in llama.state_dict().items()}
    llama.load_state_dict(start)
    asked = []

    def interrupting(rows):
        asked.append(rows)
        if len(asked) == 3:
            signal.raise_signal(signal.SIGINT)
        return collate(rows)

    before = signal.getsignal(signal.SIGINT)
    with pytest.raises(KeyboardInterrupt):
        train(llama, tmp_path / "cut", collate=interrupting, save_every=100)
    assert signal.getsignal(signal.SIGINT) is before
    (checkpoint,) = (tmp_path / "cut" / "checkpoints").iterdir()
    assert 1 <= loop.step_of(checkpoint) <= 3
    llama.load_state_dict(start)
    train(llama, tmp_path / "cut")
    for name, weight in llama.state_dict().items():
        torch.testing.assert_close(weight, whole[name], rtol=1e-3, atol=1e-5)
    assert [line["step"] for line in journal(tmp_path / "cut")] == [1, 2, 3, 4, 5, 6]


def test_a_full_disk_is_named_and_the_checkpoint_before_it_stands(llama, tmp_path, monkeypatch):
    real = torch.save

    def full(saved, file, *rest, **options):
        if "checkpoint-6" in str(getattr(file, "name", file)):
            raise OSError(errno.ENOSPC, "No space left on device")
        real(saved, file, *rest, **options)

    monkeypatch.setattr(torch, "save", full)
    with pytest.raises(DiskFullError, match="run the same command again"):
        train(llama, tmp_path)
    assert loop.newest(tmp_path / "checkpoints") == tmp_path / "checkpoints" / "checkpoint-3"


def test_frozen_parameters_stay_and_are_not_in_checkpoints(llama, tmp_path):
    before = {name: weight.clone() for name, weight in llama.state_dict().items()}
    rates = {"lm_head.weight": 1e-2}
    config = OptimConfig(batch=4, save_every=100, precision="fp32")
    fit(llama, Rows(8), collate, config, Task("test", rates, {"use_cache": False}), tmp_path, 7)
    changed = [name for name, weight in llama.state_dict().items() if not torch.equal(weight, before[name])]
    assert changed == ["lm_head.weight"]
    saved = FileSystemReader(tmp_path / "checkpoints" / "checkpoint-2" / "state").read_metadata().state_dict_metadata
    assert {name.partition("/")[2] for name in saved} == {"lm_head.weight"}


def test_each_part_has_its_own_learning_rate(llama, tmp_path):
    task = Task("test", {"lm_head.weight": 1e-2, "model.norm.weight": 1e-3}, {})
    loop.freeze_the_rest(llama, task.rates)
    config = OptimConfig(weight_decay=0.1)
    groups = (
        Loop(task=task, optim=config, model=llama, args=loop.arguments(config, tmp_path, 0))
        .create_optimizer()
        .param_groups
    )
    assert {(group["lr"], group["weight_decay"], len(group["params"])) for group in groups} == {
        (1e-2, 0.1, 1),
        (1e-3, 0.0, 1),
    }


def test_the_rate_warms_up_from_above_zero_and_falls_to_its_floor():
    config = OptimConfig(warmup=10, min_ratio=0.1)
    rates = [rate_at(step, 100, config) for step in range(101)]
    assert 0 < rates[0] < rates[5] < rates[10] == 1.0
    assert rates[55] == pytest.approx(0.55, abs=0.01)
    assert rates[100] == pytest.approx(0.1)
    assert rate_at(3, 100, OptimConfig(warmup=0.1)) == rate_at(3, 100, OptimConfig(warmup=10.0))
    assert rate_at(99, 100, OptimConfig(schedule="constant", warmup=0)) == 1.0


def test_auto_precision_follows_the_hardware(monkeypatch):
    for supported, expected in ((True, "bf16"), (False, "fp32")):
        fake = SimpleNamespace(
            _is_avx512_bf16_supported=lambda supported=supported: supported, _is_amx_tile_supported=lambda: False
        )
        monkeypatch.setattr(loop.torch, "cpu", fake)
        monkeypatch.setattr(loop.torch.cuda, "is_available", lambda: False)
        assert loop.pick_precision("auto") == expected
    assert loop.pick_precision("fp32") == "fp32"
