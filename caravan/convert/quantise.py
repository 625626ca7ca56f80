"""A language model in fewer bits, for GPUs, and what that costs in bits per byte of held-out text.

int8 (arXiv 2208.07339) and nf4 with double quantisation (arXiv 2305.14314) are bitsandbytes'; int4 and int3, in groups
of 128 inputs with rounding learnt from text (arXiv 2309.05516), are auto-round's. transformers loads all of them.
"""

from __future__ import annotations

import importlib.util
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from transformers import AutoModelForCausalLM, BitsAndBytesConfig

from caravan.convert.folder import Model, copy_beside
from caravan.convert.senses import is_fused
from caravan.core.errors import MissingDependencyError, ModelError
from caravan.models.bits import bits_per_byte
from caravan.models.grow import CONFIG
from caravan.models.load import load_model, load_whole
from caravan.recipe.convert import ConvertConfig

GROUP = 128
WINDOW = 512  # tokens
SAMPLES = 128  # windows of calibration text


def quantise(model: Model, out: Path, config: ConvertConfig) -> dict[str, Any]:
    """Write a folder that transformers loads with `quantization_config`; returns its size and what it loses.

    The whole model is held in memory, in `config.dtype` (default: float32), on a GPU if there is one.

    Raises:
        ModelError: a model that has senses or is quantised already, or too little text.
        MissingDependencyError: the library is not installed.
    """
    _check(model)
    library, write = WRITERS[config.to]
    if importlib.util.find_spec(library) is None:
        raise MissingDependencyError(library.replace("_", "-"), "quantise", needed_for=f"weights in {config.to}")
    assert config.text is not None
    lines = [line for line in config.text.read_text(encoding="utf-8").splitlines() if line.strip()]
    calibration, held_out = lines[::2], lines[1::2]
    if not held_out:
        raise ModelError("too little text", where=str(config.text), expected="two lines and more", got=len(lines))
    before = _measured(model.folder, held_out, config)
    write(model, out, calibration, config)
    copy_beside(model.folder, out)
    after = _measured(out, held_out, config)
    return {
        "bits_per_byte": {"before": before, "after": after, "loss": after - before},
        "held_out_bytes": sum(len(line.encode()) for line in held_out),
        "bytes": {"before": _size(model.folder), "after": _size(out)},
    }


def _check(model: Model) -> None:
    found = "one with senses" if is_fused(model) else "one in fewer bits"
    if is_fused(model) or "quantization_config" in model.settings:
        raise ModelError(
            "this model is not quantised",
            where=str(model.folder),
            expected="a plain language model in 16 or 32 bits",
            got=found,
            fix="take its language model out first: caravan convert MODEL PLAIN" if is_fused(model) else None,
        )


def _placed() -> dict[str, Any]:
    return {"device_map": {"": "cuda" if torch.cuda.is_available() else "cpu"}}


def _measured(folder: Path, texts: list[str], config: ConvertConfig) -> float:
    model, tokenizer = load_model(folder, config.dtype or "float32", **_placed())
    value = bits_per_byte(model, tokenizer, texts, WINDOW)
    assert value is not None
    return value


def _size(folder: Path) -> int:
    return sum(file.stat().st_size for file in folder.glob("*.safetensors"))


def _bitsandbytes(model: Model, out: Path, calibration: list[str], config: ConvertConfig) -> None:
    dtype = config.dtype or "float32"
    settings = BitsAndBytesConfig(
        load_in_8bit=config.to == "int8",
        load_in_4bit=config.to == "nf4",
        bnb_4bit_quant_type="nf4",
        bnb_4bit_use_double_quant=True,
        bnb_4bit_compute_dtype=getattr(torch, dtype),
    )
    options = {"quantization_config": settings} | _placed()
    load_whole(AutoModelForCausalLM.from_pretrained, model.folder, dtype, **options).save_pretrained(out)


def _auto_round(model: Model, out: Path, calibration: list[str], config: ConvertConfig) -> None:
    from auto_round import AutoRound

    loaded, tokenizer = load_model(model.folder, config.dtype or "float32")
    ids = tokenizer("\n".join(calibration), add_special_tokens=False)["input_ids"]
    length = min(WINDOW, len(ids), getattr(loaded.config, "max_position_embeddings", WINDOW))
    windows = [torch.tensor([ids[at : at + length]]) for at in range(0, len(ids) - length + 1, length)][:SAMPLES]
    work = out / "auto-round"
    shutil.rmtree(work, ignore_errors=True)  # of a killed attempt
    AutoRound(
        loaded,
        tokenizer,
        bits=int(config.to.removeprefix("int")),
        group_size=GROUP,
        iters=config.rounding_steps,
        dataset=windows,
        seqlen=length,
        nsamples=len(windows),
        batch_size=min(8, len(windows)),
        device_map="cuda" if torch.cuda.is_available() else "cpu",
        enable_torch_compile=False,
    ).quantize_and_save(str(work), format="auto_round")
    (written,) = (file.parent for file in work.rglob(CONFIG))  # in a folder with a name of its own
    for file in written.iterdir():
        file.replace(out / file.name)
    shutil.rmtree(work)


Write = Callable[[Model, Path, list[str], ConvertConfig], None]
# The library that each type needs.
WRITERS: dict[str, tuple[str, Write]] = {
    "int8": ("bitsandbytes", _bitsandbytes),
    "nf4": ("bitsandbytes", _bitsandbytes),
    "int4": ("auto_round", _auto_round),
    "int3": ("auto_round", _auto_round),
}
