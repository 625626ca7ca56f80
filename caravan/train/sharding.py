"""Engines that divide a model among the processes: FSDP2, which is torch's fully_shard, and DeepSpeed's ZeRO-3."""

from __future__ import annotations

import importlib.util
from typing import Any

import torch
from torch import nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard

from caravan.core.errors import MissingDependencyError
from caravan.recipe.train import OptimConfig
from caravan.train.parts import unwrapped
from caravan.train.processes import world_size

SHARDED = ("fsdp2", "zero3")


def engine(config: OptimConfig) -> str:
    """What several processes are joined by; one has nothing to divide."""
    return getattr(config, "parallel", "ddp") if world_size() > 1 else "none"


def shard(model: nn.Module) -> None:
    """Divide every layer's parameters, and those outside of layers, among the processes (FSDP2).

    Parameters stay in fp32 between the steps; what is computed in bf16 is cast after they are gathered.
    """
    mesh = init_device_mesh("cuda" if torch.cuda.is_available() else "cpu", (world_size(),))
    layers = set(getattr(unwrapped(model), "_no_split_modules", None) or ())
    for module in reversed(list(model.modules())):
        if type(module).__name__ in layers:
            fully_shard(module, mesh=mesh)
    fully_shard(model, mesh=mesh)


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
