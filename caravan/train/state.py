"""What a run must keep to go on: weights that train and the optimiser's states, in torch's distributed checkpoints.

Each process writes and reads its own share. How a tensor was divided is no part of the files, so any number of
processes goes on from them, with any engine.
"""

from __future__ import annotations

import contextlib
import warnings
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from torch import nn
from torch.distributed.checkpoint.filesystem import FileSystemReader
from torch.distributed.checkpoint.metadata import TensorStorageMetadata
from torch.distributed.checkpoint.state_dict_loader import load as load_shares
from torch.distributed.checkpoint.state_dict_saver import save as save_shares
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.tensor import DTensor, Shard, distribute_tensor
from torch.distributed.tensor import empty as empty_dtensor

Tensors = dict[str, torch.Tensor]
WEIGHT = "weight"


class Held:
    """Parameters that a process has whole, or its share of as a DTensor, and an optimiser's states of them."""

    def __init__(self, parameters: Mapping[str, nn.Parameter], optimizer: Any = None) -> None:
        self.parameters = parameters
        self.optimizers = getattr(optimizer, "parts", (optimizer,)) if optimizer is not None else ()

    def values(self, parameter: nn.Parameter) -> Tensors:
        """The parameter's weight and what the optimiser knows of it."""
        states = [part.state[parameter] for part in self.optimizers if parameter in part.state]
        return {WEIGHT: parameter.detach(), **{kind: value for state in states for kind, value in state.items()}}

    def room(self, parameter: nn.Parameter, size: torch.Size, dtype: torch.dtype) -> torch.Tensor:
        """A tensor into which this process's share of a value of this size can be read."""
        if size == parameter.shape:
            return torch.empty_like(parameter, dtype=dtype, requires_grad=False)
        return torch.empty(size, dtype=dtype, device=parameter.device)

    def put(self, parameter: nn.Parameter, values: Tensors) -> None:
        """Take what `values` gave."""
        with torch.no_grad():
            parameter.copy_(values[WEIGHT])
        states = {kind: value for kind, value in values.items() if kind != WEIGHT}
        for part in self.optimizers:
            if any(parameter is member for group in part.param_groups for member in group["params"]):
                part.state[parameter] = states


class HeldByZero(Held):
    """The same of a DeepSpeed engine at ZeRO-3, whose parameters lie flat in pieces: one at a time is made whole."""

    def __init__(self, parameters: Mapping[str, nn.Parameter], optimizer: Any) -> None:
        super().__init__(parameters)
        self.zero = optimizer
        self.mesh = init_device_mesh("cuda" if torch.cuda.is_available() else "cpu", (dist.get_world_size(),))

    def values(self, parameter: nn.Parameter) -> Tensors:
        from deepspeed.utils import safe_get_full_fp32_param, safe_get_full_optimizer_state

        inner = self.zero.optimizer
        first = inner.state[self.zero.fp32_partitioned_groups_flat[0]]
        found: Tensors = {WEIGHT: self._share(safe_get_full_fp32_param(parameter))}
        for kind, value in first.items():
            scalar = value.ndim == 0
            found[kind] = value if scalar else self._share(safe_get_full_optimizer_state(parameter, kind))
        return found

    def _share(self, whole: torch.Tensor) -> DTensor:
        return distribute_tensor(whole.detach().clone(), self.mesh, [Shard(0)], src_data_rank=None)

    def room(self, parameter: nn.Parameter, size: torch.Size, dtype: torch.dtype) -> torch.Tensor:
        if not size:
            return torch.empty(size, dtype=dtype)
        return empty_dtensor(size, dtype=dtype, device_mesh=self.mesh, placements=[Shard(0)])

    def put(self, parameter: nn.Parameter, values: Tensors) -> None:
        from deepspeed.runtime.zero import GatheredParameters
        from deepspeed.utils import safe_set_full_fp32_param, safe_set_full_optimizer_state

        for flat in self.zero.fp32_partitioned_groups_flat:
            state = self.zero.optimizer.state[flat]
            for kind, value in values.items():
                if not isinstance(value, DTensor):
                    state[kind] = value.to(flat.device, copy=True)
                elif kind != WEIGHT:
                    state.setdefault(kind, torch.zeros_like(flat))
        for kind, value in values.items():
            if isinstance(value, DTensor):
                whole = value.full_tensor()
                if kind == WEIGHT:
                    safe_set_full_fp32_param(parameter, whole)
                    with GatheredParameters(parameter, modifier_rank=0):  # what is computed with is a copy
                        parameter.data.copy_(whole)
                else:
                    safe_set_full_optimizer_state(parameter, whole, kind)


def save(held: Held, folder: Path) -> None:
    """Write everything that is held; every process takes part."""
    values = {
        f"{kind}/{name}": value
        for name, parameter in held.parameters.items()
        for kind, value in held.values(parameter).items()
    }
    with _alone_unsaid():
        save_shares(values, checkpoint_id=folder, no_dist=not dist.is_initialized())


def load(held: Held, folder: Path, *, alone: bool = False, kinds: tuple[str, ...] = ()) -> None:
    """Take what `save` wrote, with however many processes and whichever engine.

    Args:
        alone: this process reads, whatever others do.
        kinds: only these, such as the weights; default: all.
    """
    known = FileSystemReader(folder).read_metadata().state_dict_metadata
    values: dict[str, Tensors] = {name: {} for name in held.parameters}
    flat: Tensors = {}
    for key, found in known.items():
        kind, _, name = key.partition("/")
        if not kinds or kind in kinds:
            assert isinstance(found, TensorStorageMetadata)
            values[name][kind] = held.room(held.parameters[name], found.size, found.properties.dtype)
            flat[key] = values[name][kind]
    with _alone_unsaid():
        load_shares(flat, checkpoint_id=folder, no_dist=alone or not dist.is_initialized())
    for name, parameter in held.parameters.items():
        held.put(parameter, values[name])


@contextlib.contextmanager
def _alone_unsaid() -> Iterator[None]:
    """Without torch's warning that one process saves alone: it is meant."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "torch.distributed is disabled")
        yield
