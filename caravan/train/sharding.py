"""Engines that divide a model among the processes: FSDP2, which is torch's fully_shard, and DeepSpeed's ZeRO-3."""

from __future__ import annotations

import importlib.util
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
import torch.distributed as dist
from torch import nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard
from torch.distributed.tensor import DTensor, distribute_tensor

from caravan.core.errors import MissingDependencyError
from caravan.recipe.train import OptimConfig
from caravan.train.parts import unwrapped
from caravan.train.processes import is_main, world_size

SHARDED = ("fsdp2", "zero3")


def engine(config: OptimConfig) -> str:
    """What several processes are joined by; one has nothing to divide."""
    return getattr(config, "parallel", "ddp") if world_size() > 1 else "none"


def hollow(config: OptimConfig) -> bool:
    """Whether this process makes its model without weights: of FSDP2, all but the first, which hands them out."""
    return engine(config) == "fsdp2" and not is_main()


def on_no_device(needed: bool) -> AbstractContextManager[Any]:
    """Where weights have a shape alone, if this is needed."""
    return torch.device("meta") if needed else nullcontext()


def shard(model: nn.Module) -> None:
    """Divide every layer's parameters, and those outside of layers, among the processes (FSDP2).

    The first process has the weights, the others none: what a process holds is its share and, for a moment, one whole
    parameter; the first holds the model in its CPU's memory besides until all is handed out. Parameters stay in fp32
    between the steps; what is computed in bf16 is cast after they are gathered.
    """
    device = "cuda" if torch.cuda.is_available() else "cpu"
    whole = {name: weight.detach() for name, weight in model.named_parameters()} if is_main() else {}
    mesh = init_device_mesh(device, (world_size(),))
    layers = set(getattr(unwrapped(model), "_no_split_modules", None) or ())
    for module in reversed(list(model.modules())):
        if type(module).__name__ in layers:
            fully_shard(module, mesh=mesh)
    fully_shard(model, mesh=mesh)
    if not is_main():
        model.to_empty(device=device)
    _hand_out(model, whole, device)


@torch.no_grad()
def _hand_out(model: nn.Module, whole: dict[str, torch.Tensor], device: str) -> None:
    """Give every process its share of the first one's weights, and all of the buffers."""
    for name, weight in model.named_parameters():
        assert isinstance(weight, DTensor)
        full = whole.pop(name).to(device) if whole else torch.empty(weight.shape, dtype=weight.dtype, device=device)
        dist.broadcast(full, 0)
        mine = distribute_tensor(full, weight.device_mesh, weight.placements, src_data_rank=None)
        weight.to_local().copy_(mine.to_local())
    for buffer in model.buffers():
        dist.broadcast(buffer, 0)


def zero3() -> dict[str, Any]:
    """DeepSpeed's configuration: ZeRO-3 with this run's optimiser; sizes are those of the Trainer's arguments.

    Raises:
        MissingDependencyError: deepspeed is not installed.
    """
    if importlib.util.find_spec("deepspeed") is None:
        raise MissingDependencyError("deepspeed", "gpu", needed_for="parallel: zero3")
    return {
        "train_micro_batch_size_per_gpu": "auto",
        "gradient_accumulation_steps": "auto",
        "gradient_clipping": "auto",
        "zero_optimization": {"stage": 3, "overlap_comm": torch.cuda.is_available(), "reduce_bucket_size": "auto"},
        "zero_force_ds_cpu_optimizer": False,
        "zero_allow_untested_optimizer": True,
    }
