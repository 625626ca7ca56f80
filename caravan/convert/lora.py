"""LoRA adapters merged into a model's weights, and taken out of them again.

W' = W + s B A, with s = alpha / r, or alpha / sqrt(r) for rank-stabilised adapters, computed in float32 and rounded
once (Hu et al. 2021, arXiv 2106.09685; names and options as peft saves them).
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from caravan.convert.folder import Model, copy_beside, pickled_weights, write_folder
from caravan.convert.weights import Lazy, Weights, safetensors_weights, take
from caravan.core.errors import ModelError
from caravan.core.files import read_json

ADAPTER_CONFIG, ADAPTER, ADAPTER_PICKLED = "adapter_config.json", "adapter_model.safetensors", "adapter_model.bin"
_PREFIX = "base_model.model."
_PART = re.compile(r"(?P<module>.+)\.(?P<part>lora_A|lora_B|lora_embedding_A|lora_embedding_B)(\.weight)?")
_TOKENS = re.compile(r"(?P<module>.+?)\.(token_adapter\.)?trainable_tokens_delta")


@dataclass
class Adapter:
    """What an adapter does to weights by name.

    Attributes:
        added: name -> the two factors and their scale.
        rows: name -> token ids and the rows that stand in their place.
        whole: tensors that take another's place.
    """

    folder: Path
    settings: dict[str, Any]
    added: dict[str, tuple[Lazy, Lazy, float]] = field(default_factory=dict)
    rows: dict[str, tuple[list[int], Lazy]] = field(default_factory=dict)
    whole: Weights = field(default_factory=dict)

    def change(self, name: str, shape: tuple[int, ...]) -> Tensor:
        """What is added to a weight of this shape, in float32; GPT-2's matrices stand the other way round."""
        first, second, scale = self.added[name]
        change = scale * (second.read().float() @ first.read().float())
        square = shape[0] == shape[-1]
        turned = bool(self.settings.get("fan_in_fan_out")) if square else tuple(change.shape) != shape
        return change.T if turned else change


def open_adapter(folder: Path) -> Adapter:
    """An adapter of peft.

    Raises:
        ModelError: no such folder, or a kind of adapter that is not added to weights.
    """
    if not (folder / ADAPTER_CONFIG).is_file():
        raise ModelError(
            "no adapter here",
            where=str(folder),
            expected=f"a folder with {ADAPTER_CONFIG}",
            got="none",
            fix="correct it",
        )
    settings = read_json(folder / ADAPTER_CONFIG)
    read, file = (safetensors_weights, ADAPTER) if (folder / ADAPTER).is_file() else (pickled_weights, ADAPTER_PICKLED)
    held = read(folder / file)
    odd = [name for name in held if "lora_magnitude" in name or "lora_bias" in name or name.endswith("lora_B.bias")]
    if settings.get("peft_type") != "LORA" or odd:
        raise ModelError(
            "this adapter is not merged here",
            where=str(folder),
            expected="LoRA, without DoRA's magnitudes and biases of its own",
            got=odd[0] if odd else settings.get("peft_type"),
            fix="merge it with peft: `merge_and_unload`",
        )
    return _sorted(Adapter(folder, settings), {name.removeprefix(_PREFIX): lazy for name, lazy in held.items()})


def _sorted(adapter: Adapter, held: Weights) -> Adapter:
    factors: dict[str, dict[str, Lazy]] = {}
    for name, lazy in held.items():
        if part := _PART.fullmatch(name):
            factors.setdefault(part["module"], {})[part["part"].removeprefix("lora_")] = lazy
        elif tokens := _TOKENS.fullmatch(name):
            adapter.rows[f"{tokens['module']}.weight"] = (_token_ids(adapter.settings, tokens["module"]), lazy)
        else:
            adapter.whole[name] = lazy
    for module, parts in factors.items():
        table = "embedding_A" in parts
        first, second = parts["embedding_A" if table else "A"], parts["embedding_B" if table else "B"]
        adapter.added[f"{module}.weight"] = (first, second, _scale(adapter.settings, module, first.shape[0]))
    return adapter


def _token_ids(settings: Mapping[str, Any], module: str) -> list[int]:
    told = settings.get("trainable_token_indices")
    if isinstance(told, Mapping):
        told = next(ids for name, ids in told.items() if module == name or module.endswith(f".{name}"))
    return [int(token) for token in told or ()]


def _scale(settings: Mapping[str, Any], module: str, rank: int) -> float:
    """alpha / r of a module, which patterns may name."""
    alpha = _by_pattern(settings.get("alpha_pattern"), module, settings["lora_alpha"])
    return float(alpha) / (rank**0.5 if settings.get("use_rslora") else rank)


def _by_pattern(pattern: Mapping[str, Any] | None, module: str, otherwise: Any) -> Any:
    for name, value in (pattern or {}).items():
        if re.fullmatch(rf"(.*\.)?({name})", module):
            return value
    return otherwise


def merge(base: Model, adapter: Adapter, out: Path, *, dtype: str | None, shard_gb: float) -> dict[str, Any]:
    """Write the base with the adapter in its weights; the tokenizer is the adapter's where it has one.

    Raises:
        ModelError: the adapter is not of this base.
    """
    _check(base, adapter)
    weights = {name: _merged(name, lazy, adapter) for name, lazy in base.weights.items()} | {
        name: lazy.cast(take(base.weights, name, base.folder).dtype) for name, lazy in adapter.whole.items()
    }
    settings = _with_rows(base.settings, base.weights, weights)
    write_folder(out, Model(settings, weights, base.folder), dtype=dtype, shard_gb=shard_gb)
    copy_beside(adapter.folder, out)
    return _counts(adapter)


def unmerge(
    model: Model, adapter: Adapter, out: Path, *, base: Model | None, dtype: str | None, shard_gb: float
) -> dict[str, Any]:
    """Write a merged model without its adapter.

    Each value comes back within u (|W'| + |W|) of what it was, where u is half the distance from 1 to the next number
    of the weights' type: one rounding when it was merged, one now. Rows and tensors that the adapter put in others'
    place are only in the base.

    Raises:
        ModelError: the adapter is not of this model, or took other weights' place and no base is given.
    """
    _check(model, adapter)
    replaced = adapter.whole.keys() | adapter.rows.keys()
    if replaced and base is None:
        raise ModelError(
            "what stood in the place of whole tensors is not in the merged model",
            where=str(adapter.folder),
            expected="the base that it was merged into",
            got=f"an adapter that replaces {', '.join(sorted(replaced)[:3])}",
            fix="give it: base=FOLDER",
        )
    weights = {
        name: base.weights[name] if base is not None and name in replaced else _merged(name, lazy, adapter, -1.0)
        for name, lazy in model.weights.items()
    }
    settings = _with_rows(model.settings, model.weights, weights)
    write_folder(out, Model(settings, weights, model.folder), dtype=dtype, shard_gb=shard_gb)
    return _counts(adapter)


def _merged(name: str, lazy: Lazy, adapter: Adapter, sign: float = 1.0) -> Lazy:
    if name not in adapter.added and name not in adapter.rows:
        return lazy

    def read() -> Tensor:
        weight = lazy.read()
        if name in adapter.added:
            weight = (weight.float() + sign * adapter.change(name, lazy.shape)).to(lazy.dtype)
        if name in adapter.rows and sign > 0:
            ids, rows = adapter.rows[name]
            weight = weight.index_copy(0, torch.tensor(ids), rows.read().to(lazy.dtype))
        return weight

    return Lazy(lazy.shape, lazy.dtype, read)


def _check(model: Model, adapter: Adapter) -> None:
    for name, (first, second, _) in adapter.added.items():
        shape = take(model.weights, name, model.folder).shape
        told = (second.shape[0], first.shape[-1])
        if shape not in (told, told[::-1]):
            raise ModelError(
                "the adapter is not of this model", where=name, expected=shape, got=told, fix="name its base"
            )
    for name in (*adapter.rows, *adapter.whole):
        take(model.weights, name, model.folder)


def _with_rows(settings: dict[str, Any], before: Weights, after: Weights) -> dict[str, Any]:
    """The config, with the number of tokens where a table that is put in has another."""
    grown = [after[name].shape[0] for name, lazy in before.items() if lazy.shape and lazy.shape != after[name].shape]
    if not grown:
        return settings
    text = settings.get("text_config")
    if text:
        return settings | {"text_config": text | {"vocab_size": grown[0]}}
    return settings | {"vocab_size": grown[0]}


def _counts(adapter: Adapter) -> dict[str, Any]:
    return {"matrices": len(adapter.added), "tables": len(adapter.rows), "whole": len(adapter.whole)}
