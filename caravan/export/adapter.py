"""A LoRA adapter of peft as a GGUF adapter: llama.cpp adds it to any file of the model that it was trained for."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

from gguf import GGMLQuantizationType, GGUFWriter, Keys

from caravan.core.errors import ExportError
from caravan.core.files import read_json, write_json
from caravan.engine import ADAPTER, gguf_files
from caravan.export.convert import (
    FACTS,
    Source,
    ask_torch,
    choose_probes,
    open_source,
    write_model,
    write_senses,
)
from caravan.export.families import head_width
from caravan.export.gguf_file import Array, Tensor, describe_file, write_gguf
from caravan.export.language import is_tied, rotate_pairs
from caravan.export.parity import check_exact, compare
from caravan.export.weights import Weights
from caravan.recipe.export import ExportConfig

SETTINGS, WEIGHTS, FILE = "adapter_config.json", "adapter_model.safetensors", ADAPTER
_NAME = re.compile(r"base_model\.model\.(?P<module>.+)\.lora_(?P<part>[AB])\.weight")
# What peft adds besides B A.
_MORE = ("use_dora", "lora_bias", "fan_in_fan_out", "modules_to_save", "trainable_token_indices", "layer_replication")


def export_adapter(config: ExportConfig, folder: Path, out: Path, seed: int = 0) -> dict[str, Any]:
    """Write `adapter.gguf`, and compare it on its base in f16 with torch; the base's file is deleted after.

    Raises:
        ExportError: an adapter that llama.cpp does not add as peft does, or a file that says something else.
        ModelError: no base model.
    """
    settings = read_json(folder / SETTINGS)
    source = open_source(Path(config.base or settings["base_model_name_or_path"]))
    check_adapter(settings, str(folder / SETTINGS))
    tensors = list(adapter_tensors(settings, Weights(folder, WEIGHTS), source))
    write_gguf(out / FILE, source.family.architecture, _describe, tensors, config.threads)
    facts = {
        "base": str(source.folder),
        "files": {FILE: describe_file(out / FILE)},
        "parity": {"adapter on f16": _compare(config, source, folder, out, seed)} if config.prompts else {},
        "bounds": {"logprob_delta": config.max_logprob_delta, "tie": 2 * config.max_logprob_delta},
    }
    write_json(out / FACTS, facts)
    return facts


def check_adapter(settings: dict[str, Any], where: str) -> None:
    """See that an adapter is nothing but B A added to matrices.

    Raises:
        ExportError: it is not.
    """
    more = [name for name in _MORE if settings.get(name)]
    kind, bias = settings.get("peft_type"), settings.get("bias") or "none"
    if kind != "LORA" or more or bias != "none":
        raise ExportError(
            "this adapter cannot be exported exactly",
            where=where,
            expected="a LoRA of linear layers alone",
            got=", ".join([str(kind), *more, *([f"bias {bias}"] if bias != "none" else [])]),
            fix="merge it into its model, and export that",
        )


def _describe(writer: GGUFWriter) -> None:
    """Scales are in the weights, as they may differ by layer: with an alpha of 0, llama.cpp multiplies by 1."""
    writer.add_type("adapter")
    writer.add_string(Keys.Adapter.TYPE, "lora")
    writer.add_float32(Keys.Adapter.LORA_ALPHA, 0.0)


def adapter_tensors(settings: dict[str, Any], weights: Weights, source: Source) -> Iterator[Tensor]:
    """Both factors of each module, B with its scale.

    Raises:
        ExportError: a tensor that is no factor of a linear layer of the language model.
    """
    for name in weights:
        match = _NAME.fullmatch(name)
        target = _target(match["module"], source) if match else None
        if match is None or target is None:
            raise ExportError(
                "this adapter cannot be exported exactly",
                where=f"{weights.folder}, {name}",
                expected="factors of linear layers of the language model",
                got="something else",
                fix="merge it into its model, and export that",
            )
        shape, unit = weights.shape(name), 1
        read = partial(weights.read, name)
        if match["part"] == "B":
            turned = source.family.pairs and target.endswith((".attn_q", ".attn_k"))
            unit = head_width(source.text) if turned else 1
            read = partial(_scaled, read, scale_of(settings, match["module"], shape[1]), unit)
        yield Tensor(f"{target}.weight.lora_{match['part'].lower()}", shape, GGMLQuantizationType.F32, read, unit)


def _scaled(read: Any, scale: float, width: int, rows: slice) -> Array:
    values: Array = read(rows) * scale
    return rotate_pairs(values, width) if width > 1 else values


def scale_of(settings: dict[str, Any], module: str, rank: int) -> float:
    """What B A is multiplied by: alpha / r, or alpha / sqrt(r) if it is stabilised (arXiv 2312.03732)."""
    patterns: dict[str, float] = settings.get("alpha_pattern") or {}
    own = [alpha for key, alpha in patterns.items() if re.fullmatch(rf"(.*\.)?({key})", module)]
    alpha = own[0] if own else settings["lora_alpha"]
    return float(alpha) / (rank**0.5 if settings.get("use_rslora") else rank)


def _target(module: str, source: Source) -> str | None:
    """llama.cpp's name of a module, None if it is not of the language model's linear layers."""
    if module == "lm_head":
        return None if is_tied(source.text, source.weights) else "output"
    match = re.fullmatch(re.escape(source.prefix) + r"layers\.(\d+)\.(.+)", module)
    name = source.family.modules.get(match[2]) if match else None
    return f"blk.{match[1]}.{name}" if match and name and "norm" not in name else None


def _compare(config: ExportConfig, source: Source, folder: Path, out: Path, seed: int) -> dict[str, Any]:
    probes = choose_probes(config, source.config, None, seed)
    answers = ask_torch(config, source, probes, adapter=folder)
    file, _ = gguf_files(out, "f16")
    mmproj = write_senses(source, out, config.threads)
    write_model(source, answers, "f16", file, config.threads)
    parity = compare(
        file, mmproj, answers.references, answers.stop, config.new_tokens, config.threads, adapter=out / FILE
    )
    check_exact(parity, out / FILE, config.max_logprob_delta)
    for extra in (file, mmproj):
        if extra is not None:
            extra.unlink()
    return {kind: asdict(figures) for kind, figures in parity.items()}
