"""The door of conversion: what a model is converted from is seen from its files, what to is asked for."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, get_args

from caravan.convert.card import write_card
from caravan.convert.delta import apply_delta, make_delta
from caravan.convert.folder import Model, open_folder, torch_dtype, write_folder
from caravan.convert.hub import on_hub, pull, push, staging
from caravan.convert.lora import ADAPTER_CONFIG, merge, open_adapter, unmerge
from caravan.convert.megatron import is_megatron, read_megatron, write_megatron
from caravan.convert.quantise import quantise
from caravan.convert.senses import (
    is_fused,
    to_llava,
    to_plain,
    to_ultravox,
    write_llava_processor,
    write_ultravox_processor,
)
from caravan.convert.tencentpretrain import is_tencentpretrain, read_tencentpretrain, write_tencentpretrain
from caravan.convert.zero import is_zero, read_zero, write_zero
from caravan.core.artifact import MANIFEST, Artifact, make_artifact
from caravan.core.errors import ModelError, UsageError
from caravan.core.files import sha256_obj
from caravan.models.adapters import whole_in_folder
from caravan.recipe.convert import ConvertConfig, Quantised


def convert(source: Path, target: Path, config: ConvertConfig) -> Artifact:
    """Write a model in another layout; done again only if something changed, and gone on with after a kill.

    Raises:
        ModelError: what is there is not what the conversion needs.
        UsageError: settings that do not fit what is there.
        DiskFullError: there is no room.
    """
    if source.resolve() == target.resolve():
        raise UsageError("a model is not converted in its place", expected="another folder", got=target)
    write = WRITERS[config.to]
    named = [path for path in (source, config.base, config.adapter, config.like, config.text) if path is not None]
    key = sha256_obj({"config": config.model_dump(mode="json"), "files": [_stamps(path) for path in named]})
    artifact, _ = make_artifact(
        target,
        key,
        kind="model",
        stage="convert",
        parents={str(path): _key(path) for path in named},
        recipe={"convert": config.model_dump(mode="json")},
        make=lambda out: write(source, out, config),
    )
    return artifact


def convert_named(source: str, target: str, config: ConvertConfig) -> str:
    """`convert` with folders of this machine or repositories of the hub (`hf://owner/name`); what was written, where.

    Raises:
        StoreError: the hub cannot be reached or refuses.
    """
    folder = pull(source) if on_hub(source) else Path(source)
    if not on_hub(target):
        return str(convert(folder, Path(target), config).path)
    artifact = convert(folder, staging(target), config)
    return push(artifact.path, target, private=config.private)


def _stamps(path: Path) -> list[tuple[str, int, int]]:
    """Names, sizes and times of the files that are read: their values would take as long as the conversion."""
    files = [path] if path.is_file() else sorted(file for file in path.rglob("*") if file.is_file())
    if not files:
        raise ModelError(
            "nothing to convert", where=str(path), expected="a model", got="no files", fix="correct the path"
        )
    return [(str(file), file.stat().st_size, file.stat().st_mtime_ns) for file in files]


def _key(path: Path) -> str:
    return Artifact.open(path).manifest.key if (path / MANIFEST).is_file() else sha256_obj(_stamps(path))


def _to_hf(source: Path, out: Path, config: ConvertConfig) -> dict[str, Any]:
    """A plain folder: a delta or an adapter put on its base, or another layout."""
    options: dict[str, Any] = {"dtype": config.dtype, "shard_gb": config.shard_gb}
    if (source / ADAPTER_CONFIG).is_file():
        return merge(_base(config), open_adapter(source), out, **options)
    model = open_model(source, config)
    if config.base is not None:
        return apply_delta(model, open_folder(config.base), out, new_rows=config.new_rows, **options)
    plain = to_plain(model) if is_fused(model) else model
    _write_carded(plain, source, out, config)
    return {"tensors": len(plain.weights)}


def _to_llava(source: Path, out: Path, config: ConvertConfig) -> dict[str, Any]:
    model = open_model(source, config)
    llava = to_llava(model)
    _write_carded(llava, source, out, config)
    write_llava_processor(model, out)
    return {"tensors": len(llava.weights)}


def _to_ultravox(source: Path, out: Path, config: ConvertConfig) -> dict[str, Any]:
    model = open_model(source, config)
    ultravox = to_ultravox(model)
    _write_carded(ultravox, source, out, config)
    write_ultravox_processor(model, out)
    return {"tensors": len(ultravox.weights)}


def _write_carded(model: Model, source: Path, out: Path, config: ConvertConfig) -> None:
    """A folder with a model card."""
    write_folder(out, model, dtype=config.dtype, shard_gb=config.shard_gb)
    _write_card(_cast(model, config.dtype), source, out, config)


def _write_card(model: Model, source: Path, out: Path, config: ConvertConfig) -> None:
    name = out.name.removesuffix(".partial").rpartition("--")[2]
    write_card(out, model, source, name, licence=config.license, licenses=config.licenses)


def open_model(source: Path, config: ConvertConfig) -> Model:
    """A model in any layout that is read, by the names of Hugging Face."""
    if is_zero(source):
        return read_zero(source, config.like)
    if is_megatron(source):
        return read_megatron(source, config.like)
    if is_tencentpretrain(source):
        return read_tencentpretrain(source, config.like)
    whole_in_folder(source)
    return open_folder(source)


def _cast(model: Model, dtype: str | None) -> Model:
    return replace(model, weights={name: lazy.cast(torch_dtype(dtype)) for name, lazy in model.weights.items()})


def _to_tencentpretrain(source: Path, out: Path, config: ConvertConfig) -> dict[str, Any]:
    return write_tencentpretrain(_cast(open_model(source, config), config.dtype), out)


def _to_deepspeed(source: Path, out: Path, config: ConvertConfig) -> dict[str, Any]:
    return write_zero(_cast(open_model(source, config), config.dtype), out, config.ranks)


def _to_megatron(source: Path, out: Path, config: ConvertConfig) -> dict[str, Any]:
    model = _cast(open_model(source, config), config.dtype)
    return write_megatron(model, out, config.tensor_parallel, config.pipeline_parallel)


def _to_delta(source: Path, out: Path, config: ConvertConfig) -> dict[str, Any]:
    options: dict[str, Any] = {"dtype": config.dtype, "shard_gb": config.shard_gb, "new_rows": config.new_rows}
    return make_delta(open_folder(source), _base(config), out, **options)


def _unmerged(source: Path, out: Path, config: ConvertConfig) -> dict[str, Any]:
    assert config.adapter is not None
    whole_in_folder(source)
    base = open_folder(config.base) if config.base else None
    adapter = open_adapter(config.adapter)
    return unmerge(open_folder(source), adapter, out, base=base, dtype=config.dtype, shard_gb=config.shard_gb)


def _quantised(source: Path, out: Path, config: ConvertConfig) -> dict[str, Any]:
    whole_in_folder(source)
    model = open_folder(source)
    counts = quantise(model, out, config)
    _write_card(model, source, out, config)
    return counts


def _base(config: ConvertConfig) -> Model:
    if config.base is None:
        raise UsageError(
            "this belongs to a base", where="command line, base", expected="its Hugging Face folder", got="none"
        )
    return open_folder(config.base)


WRITERS: dict[str, Callable[[Path, Path, ConvertConfig], dict[str, Any]]] = {
    "hf": _to_hf,
    "delta": _to_delta,
    "unmerged": _unmerged,
    "tencentpretrain": _to_tencentpretrain,
    "deepspeed": _to_deepspeed,
    "megatron": _to_megatron,
    "llava": _to_llava,
    "ultravox": _to_ultravox,
    **dict.fromkeys(get_args(Quantised), _quantised),
}
