"""Which parameters train in which stage, and how fast: one table."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import nn

from caravan.recipe.train import OptimConfig

# The first prefix that a parameter's name has says which part it belongs to.
PARTS: Mapping[str, str] = {
    "model.speech_encoder.": "encoder",
    "model.vision_encoder.": "encoder",
    "model.speech_projector.": "projector",
    "model.vision_projector.": "projector",
    "": "language",
}

# stage -> part -> the recipe's key of its learning rate. A part that is not named is frozen.
TRAINED: Mapping[str, Mapping[str, str]] = {
    "pretrain": {"language": "learning_rate"},
    "align": {"projector": "learning_rate"},
    "sft": {"language": "learning_rate", "projector": "projector_learning_rate"},
}


def part_of(name: str) -> str:
    """The part that a parameter belongs to."""
    return next(part for prefix, part in PARTS.items() if name.startswith(prefix))


def learning_rates(model: nn.Module, stage: str, config: OptimConfig) -> dict[str, float]:
    """Peak learning rate of every parameter that trains in a stage.

    Of a language model with an adapter, only what the adapter trains.
    """
    keys, bare = TRAINED[stage], unwrapped(model)
    parts = {id(parameter): part_of(name) for name, parameter in bare.named_parameters()}
    rates = {}
    for name, parameter in model.named_parameters():
        part = parts.get(id(parameter), "language")
        if part in keys and (part != "language" or bare is model or parameter.requires_grad):
            rates[name] = float(getattr(config, keys[part]))
    return rates


def unwrapped(model: Any) -> Any:
    """The model without what peft wraps around it."""
    return model.get_base_model() if hasattr(model, "get_base_model") else model
