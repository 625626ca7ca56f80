"""Which parameters train in which stage, and how fast: one table."""

from __future__ import annotations

from collections.abc import Mapping

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
    """Peak learning rate of every parameter that trains in a stage."""
    keys = TRAINED[stage]
    return {
        name: float(getattr(config, keys[part_of(name)]))
        for name, _ in model.named_parameters()
        if part_of(name) in keys
    }
