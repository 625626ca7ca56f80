"""A Hugging Face folder: its config, its weights, and the files that go with it."""

from __future__ import annotations

import shutil
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from transformers import AutoConfig, PreTrainedConfig

from caravan.convert.pickled import open_pickled
from caravan.convert.weights import Lazy, Weights, index_of, safetensors_weights, write_weights
from caravan.core.errors import ModelError
from caravan.core.files import atomic_path, read_json, write_json
from caravan.models import load as _load  # noqa: F401  (tells transformers of Caravan's own kind of model)
from caravan.models.grow import CONFIG, GENERATION
from caravan.models.tensors import INDEX, SINGLE

PICKLED, PICKLED_INDEX = "pytorch_model.bin", "pytorch_model.bin.index.json"
# What belongs to a model beside its weights: the tokenizer, its template, and how media are prepared.
BESIDE = (
    "tokenizer.json",
    "tokenizer_config.json",
    "tokenizer.model",
    "special_tokens_map.json",
    "added_tokens.json",
    "vocab.json",
    "merges.txt",
    "chat_template.jinja",
    "chat_template.json",
    "preprocessor_config.json",
    "processor_config.json",
    GENERATION,
)


@dataclass(frozen=True)
class Model:
    """A model by the names of Hugging Face, whatever it was read from.

    Attributes:
        settings: its `config.json`.
        folder: where the files beside it are.
    """

    settings: dict[str, Any]
    weights: Weights
    folder: Path

    @property
    def config(self) -> Any:
        """Its config as transformers has it."""
        return config_of(self.settings)


def config_of(settings: dict[str, Any]) -> PreTrainedConfig:
    """A config of transformers from what `config.json` says.

    Raises:
        ModelError: transformers knows no such kind.
    """
    given = {key: value for key, value in settings.items() if key != "model_type"}
    try:
        return AutoConfig.for_model(settings["model_type"], **given)
    except (KeyError, ValueError) as error:
        raise ModelError(
            "an unknown kind of model",
            expected="a `model_type` of transformers in config.json",
            got=settings.get("model_type", "none"),
            fix="give a config of transformers: like=FOLDER",
        ) from error


def open_folder(folder: Path) -> Model:
    """Open a model's folder, of safetensors or of torch's pickled files.

    Raises:
        ModelError: it has no config or no weights.
    """
    if not (folder / CONFIG).is_file():
        raise ModelError(
            "not a model's folder",
            where=str(folder),
            expected=f"a folder with {CONFIG}",
            got=f"none in it: {', '.join(sorted(file.name for file in folder.glob('*'))[:5]) or 'no files'}",
            fix="correct the path",
        )
    return Model(read_json(folder / CONFIG), open_weights(folder), folder)


def open_weights(folder: Path) -> Weights:
    """The weights in a folder.

    Raises:
        ModelError: there are none.
    """
    for index, single, read in (
        (INDEX, SINGLE, safetensors_weights),
        (PICKLED_INDEX, PICKLED, pickled_weights),
    ):
        if (folder / index).is_file():
            return {name: lazy for file in index_of(folder / index) for name, lazy in read(folder / file).items()}
        if (folder / single).is_file():
            return read(folder / single)
    raise ModelError(
        "no weights in this folder",
        where=str(folder),
        expected=" or ".join((SINGLE, INDEX, PICKLED, PICKLED_INDEX)),
        got="none of them",
        fix="save the model with `save_pretrained`",
    )


def pickled_weights(file: Path) -> Weights:
    """The tensors that a file of `torch.save` holds by name."""
    held = open_pickled(file)
    return {name: lazy for name, lazy in held.items() if isinstance(lazy, Lazy)}


def write_folder(
    out: Path, model: Model, *, dtype: str | None = None, shard_gb: float = 5.0, beside: Iterable[str] = BESIDE
) -> None:
    """Write a Hugging Face folder; `config.json` comes last.

    Args:
        dtype: name of torch's type for floating-point numbers; None: as they are.
    """
    out.mkdir(parents=True, exist_ok=True)
    weights = {name: lazy.cast(torch_dtype(dtype)) for name, lazy in model.weights.items()}
    write_weights(out, weights, shard_gb * 1e9)
    copy_beside(model.folder, out, beside)
    settings = {key: value for key, value in model.settings.items() if key not in ("dtype", "torch_dtype")}
    floats = {lazy.dtype for lazy in weights.values() if lazy.dtype.is_floating_point}
    if len(floats) == 1:
        settings["dtype"] = str(floats.pop()).removeprefix("torch.")
    write_json(out / CONFIG, settings)


def copy_beside(source: Path, out: Path, names: Iterable[str] = BESIDE) -> None:
    """Copy the tokenizer's and processors' files that are there."""
    for name in names:
        if (source / name).is_file():
            with atomic_path(out / name) as temporary:
                shutil.copyfile(source / name, temporary)


def torch_dtype(name: str | None) -> Any:
    """A type of torch by its name."""
    import torch

    return None if name is None else getattr(torch, name)
