"""Processes with unlike batches, one of text alone, one with media, never wait for each other, and learn the same."""

from __future__ import annotations

import multiprocessing
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed as dist
from torch import Tensor
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard
from torch.nn.parallel import DistributedDataParallel
from transformers import AutoModelForCausalLM, PreTrainedTokenizerFast

from caravan.models.fused import CaravanForConditionalGeneration
from tests.models.conftest import fuse
from tests.models.test_fused import AUDIO, IMAGE, clips, pictures, prompt

Batch = dict[str, Tensor]
WAIT = 120


def batches() -> list[Batch]:
    """Of text alone; of two clips and a picture."""
    text, media = torch.tensor([prompt(20, 30, 31, 32)]), torch.tensor([prompt("a", 20, "i", 30, "a", 31)])
    made: list[Batch] = [
        {"input_ids": text},
        {"input_ids": media, "input_features": clips(2), "pixel_values": pictures()},
    ]
    for batch in made:
        ids = batch["input_ids"]
        batch["labels"] = torch.where((ids == AUDIO) | (ids == IMAGE), -100, ids)
    return made


def load(folder: Path, trained: str) -> CaravanForConditionalGeneration:
    model: Any = AutoModelForCausalLM.from_pretrained(folder)
    for name, weight in model.named_parameters():
        weight.requires_grad_("encoder" not in name or trained in name)
    return model.train()


def gradients(model: Any) -> dict[str, Tensor]:
    found = {}
    for name, weight in model.named_parameters():
        if weight.grad is not None:
            grad = weight.grad.full_tensor() if hasattr(weight.grad, "full_tensor") else weight.grad
            found[name.removeprefix("module.")] = grad.clone()
    return found


def ddp(model: Any) -> Any:
    return DistributedDataParallel(model)


def fsdp(model: Any) -> Any:
    """Each layer, of text model and encoders, and each projector is a unit of its own, as sharding policies have it."""
    mesh = init_device_mesh("cpu", (2,))
    units = [module for module in model.modules() if type(module).__name__.endswith("Layer")]
    for unit in [*units, model.model.speech_projector, model.model.vision_projector, model]:
        fully_shard(unit, mesh=mesh)
    assert all(hasattr(weight, "placements") for weight in model.parameters())
    return model


# How it is spread, and which encoder trains beside projectors and text model.
CASES = {"ddp": (ddp, "none"), "ddp, speech encoder": (ddp, "speech_encoder"), "fsdp": (fsdp, "none")}


def work(rank: int, folder: Path) -> None:
    torch.set_num_threads(1)
    store = dist.FileStore(str(folder / "store"), 2)
    dist.init_process_group("gloo", store=store, rank=rank, world_size=2)
    found = {}
    for name, (spread, trained) in CASES.items():
        model = spread(load(folder / "model", trained))
        for order in (0, 1):  # the second time the other process has the media
            model.zero_grad()
            batch = batches()[(rank + order) % 2]
            model(**batch).loss.backward()
            found[f"{name} {order}"] = gradients(model)
    if rank == 0:
        torch.save(found, folder / "gradients.pt")
    dist.barrier()
    dist.destroy_process_group()


@pytest.fixture(scope="module")
def found(folders: Path, tokenizer: PreTrainedTokenizerFast, tmp_path_factory: pytest.TempPathFactory) -> Any:
    folder = tmp_path_factory.mktemp("unlike")
    fuse(folders, tokenizer).save_pretrained(folder / "model")
    spawn = multiprocessing.get_context("spawn")
    workers = [spawn.Process(target=work, args=(rank, folder), daemon=True) for rank in range(2)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join(WAIT)
    codes = [worker.exitcode for worker in workers]
    for worker in workers:
        worker.kill()
    assert codes == [0, 0], "a process failed, or waited for ever"
    return folder, torch.load(folder / "gradients.pt")


@pytest.mark.parametrize("case", CASES)
def test_gradients_are_the_mean_of_both(found: Any, case: str) -> None:
    folder, of_two = found
    model = load(folder / "model", CASES[case][1])
    for batch in batches():
        (model(**batch).loss / 2).backward()
    expected = gradients(model)
    for order in (0, 1):
        got = of_two[f"{case} {order}"]
        assert got.keys() == expected.keys()
        for name, gradient in expected.items():
            torch.testing.assert_close(
                got[name], gradient, rtol=1e-4, atol=1e-5, msg=lambda text, name=name: f"{name}: {text}"
            )
