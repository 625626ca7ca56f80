"""DeepSpeed's ZeRO-3 checkpoints: each rank has a piece of every weight, in float32, one after the other.

As `zero_to_fp32.py` of DeepSpeed 0.19 reads them: ranks hold ceil(n / ranks) values of a weight of n, the last ones
padded; `param_shapes` gives names and order; frozen weights stand apart in their own type.
"""

from __future__ import annotations

import contextlib
import itertools
import re
from collections import OrderedDict
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any, BinaryIO

import torch
from torch import Tensor
from transformers import AutoModelForCausalLM

from caravan.convert.folder import Model
from caravan.convert.other import KEPT, keep_folder, need_folder
from caravan.convert.pickled import Filed, open_pickled, reserve, write_pickled
from caravan.convert.weights import Lazy, Weights, take
from caravan.core.errors import ModelError
from caravan.core.files import atomic_path, read_json, write_text
from caravan.core.progress import track
from caravan.models.grow import CONFIG

LATEST, TAG = "latest", "global_step0"
_RANK = re.compile(r"zero_pp_rank_(\d+)_mp_rank_00_(optim|model)_states\.pt")


def is_zero(source: Path) -> bool:
    """Whether a folder is, or holds, a ZeRO checkpoint."""
    return source.is_dir() and any(_RANK.search(file.name) for file in _step(source).glob("*.pt"))


def read_zero(source: Path, like: Path | None) -> Model:
    """A ZeRO-3 checkpoint's weights in float32, frozen ones in their own type.

    Raises:
        ModelError: files of some ranks are missing, or it is of another stage.
    """
    folder = need_folder(source, like)
    step = _step(source)
    states = [open_pickled(file)["optimizer_state_dict"] for file in _ranks(step, "optim")]
    models = [open_pickled(file) for file in _ranks(step, "model")]
    if states[0].get("partition_count") != len(states) or "fp32_flat_groups" not in states[0]:
        raise ModelError(
            "not a whole ZeRO-3 checkpoint",
            where=str(step),
            expected=f"stage 3, {states[0].get('partition_count')} ranks",
            got=f"stage {states[0].get('zero_stage')}, {len(states)} ranks",
            fix="copy the files of all ranks into one folder",
        )
    flats = [state["fp32_flat_groups"] for state in states]
    settings = read_json(folder / CONFIG)
    return Model(settings, _weights(models, flats, bool(settings.get("tie_word_embeddings"))), folder)


def _weights(models: list[dict[str, Any]], flats: list[list[Filed]], tied: bool) -> Weights:
    shapes = {name: tuple(shape) for group in models[0]["param_shapes"] for name, shape in group.items()}
    weights: Weights = {}
    at = 0
    for name, shape in shapes.items():
        weights[name] = Lazy(shape, torch.float32, partial(_gathered, flats, shape, at))
        at += _piece(shape, len(flats))
    for name, shape in (models[0].get("frozen_param_shapes") or {}).items():
        pieces = [model["frozen_param_fragments"][name] for model in models]
        weights[name] = Lazy(tuple(shape), pieces[0].dtype, partial(_joined, pieces, tuple(shape)))
    buffers = {name: models[0]["module"].get(name) for name in models[0]["buffer_names"]}
    shared = {} if tied else {alias: weights[name] for alias, name in dict(models[0]["shared_params"]).items()}
    return weights | {name: lazy for name, lazy in buffers.items() if isinstance(lazy, Lazy)} | shared


def _piece(shape: tuple[int, ...], ranks: int) -> int:
    """Values of a weight that each rank holds."""
    return -(-torch.Size(shape).numel() // ranks)


def _gathered(flats: list[list[Filed]], shape: tuple[int, ...], at: int) -> Tensor:
    piece = _piece(shape, len(flats))
    parts = [_across(groups, at, piece) for groups in flats]
    return torch.cat(parts)[: torch.Size(shape).numel()].reshape(shape)


def _across(groups: list[Filed], start: int, count: int) -> Tensor:
    """Values of a rank, whose flat groups are read as one."""
    found, begins = [], 0
    for group in groups:
        ends = begins + group.shape[0]
        low, high = max(start, begins), min(start + count, ends)
        if low < high:
            found.append(group.part(low - begins, high - low))
        begins = ends
    return torch.cat(found)


def _joined(pieces: list[Lazy], shape: tuple[int, ...]) -> Tensor:
    flat = torch.cat([piece.read().flatten() for piece in pieces])
    return flat[: torch.Size(shape).numel()].reshape(shape)


def write_zero(model: Model, out: Path, ranks: int) -> dict[str, Any]:
    """Write a checkpoint of so many ranks, without an optimizer's moments.

    Weights of 16 bits are exact in float32; each weight is read once.
    """
    step = out / TAG
    step.mkdir(parents=True, exist_ok=True)
    weights, shared = _in_order(model)
    shapes = OrderedDict((name, torch.Size(lazy.shape)) for name, lazy in weights.items())
    flat = sum(_piece(lazy.shape, ranks) for lazy in weights.values())
    bf16 = "bf16_" if all(lazy.dtype == torch.bfloat16 for lazy in weights.values()) else ""
    for rank in range(ranks):
        file = step / f"zero_pp_rank_{rank}_mp_rank_00_model_states.pt"
        write_pickled(file, _model_states(shapes, shared, ranks))
    with contextlib.ExitStack() as stack, track("writing ranks", len(weights), "tensor") as bar:
        streams = []
        for rank in range(ranks):
            final = step / f"{bf16}zero_pp_rank_{rank}_mp_rank_00_optim_states.pt"
            temporary = stack.enter_context(atomic_path(final))
            (place,) = reserve(temporary, _optim_states(flat, ranks))
            stream = stack.enter_context(temporary.open("r+b"))
            stream.seek(place)
            streams.append(stream)
        for lazy in weights.values():
            _scatter(lazy.read().float().flatten(), streams)
            bar.advance()
    write_text(out / LATEST, TAG)
    keep_folder(model, out / KEPT)
    return {"tensors": len(weights), "ranks": ranks, "values": flat * ranks}


def _scatter(values: Tensor, streams: Sequence[BinaryIO]) -> None:
    """A piece to each rank, the last ones padded with zeros."""
    piece = -(-values.numel() // len(streams))
    for rank, stream in enumerate(streams):
        part = values[rank * piece : (rank + 1) * piece]
        stream.write(part.numpy().data)
        stream.write(bytes(4 * (piece - part.numel())))


def _in_order(model: Model) -> tuple[Weights, dict[str, str]]:
    """Weights in the order of the model's parameters, which is the order of the flat groups; and tied names."""
    with torch.device("meta"):
        built = AutoModelForCausalLM.from_config(model.config)
    first = {id(parameter): name for name, parameter in built.named_parameters()}
    every = built.named_parameters(remove_duplicate=False)
    shared = {name: first[id(parameter)] for name, parameter in every if name != first[id(parameter)]}
    return {name: take(model.weights, name, model.folder) for name in first.values()}, shared


def _model_states(shapes: OrderedDict[str, torch.Size], shared: dict[str, str], ranks: int) -> dict[str, Any]:
    return {
        "module": {},
        "buffer_names": [],
        "optimizer": None,
        "param_shapes": [shapes],
        "frozen_param_shapes": None,
        "frozen_param_fragments": None,
        "shared_params": shared,
        "lr_scheduler": None,
        "data_sampler": None,
        "random_ltd": None,
        "sparse_tensor_module_names": [],
        "skipped_steps": 0,
        "global_steps": 0,
        "global_samples": 0,
        "dp_world_size": ranks,
        "mp_world_size": 1,
        "ds_config": {},
        "ds_version": "0.19.8",
    }


def _optim_states(values: int, ranks: int) -> dict[str, Any]:
    flat = Lazy((values,), torch.float32, lambda: torch.empty(values))
    state = {"zero_stage": 3, "partition_count": ranks, "loss_scaler": None, "fp32_flat_groups": [flat]}
    return {
        "optimizer_state_dict": state | {"optimizer_state_dict": {"state": {}, "param_groups": []}},
        "ds_config": {},
    }


def _ranks(step: Path, kind: str) -> list[Path]:
    found = {
        int(match[1]): file for file in step.glob("*.pt") if (match := _RANK.search(file.name)) and match[2] == kind
    }
    missing = next(rank for rank in itertools.count() if rank not in found)
    if missing < len(found) or not found:
        raise ModelError(
            "files of a rank are missing",
            where=str(step),
            expected=f"zero_pp_rank_{missing}_mp_rank_00_{kind}_states.pt",
            got=f"{len(found)} others",
            fix="copy the files of all ranks into one folder",
        )
    return [found[rank] for rank in sorted(found)]


def _step(source: Path) -> Path:
    """The folder of the step that `latest` names, or the folder itself."""
    return source / (source / LATEST).read_text().strip() if (source / LATEST).is_file() else source
