"""Which parameters train in which stage, and how fast: one table."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import nn

from caravan.core.errors import RecipeError
from caravan.models.projection import SENSES
from caravan.recipe.train import OptimConfig, PartName

# The first prefix that a parameter's name has says which part it belongs to.
PARTS: Mapping[str, PartName] = {
    "model.speech_encoder.": "speech_encoder",
    "model.vision_encoder.": "vision_encoder",
    "model.speech_projector.": "speech_projector",
    "model.vision_projector.": "vision_projector",
    "": "language",
}

# stage -> part -> the recipe's key of its learning rate. A part that is not named is frozen.
TRAINED: Mapping[str, Mapping[PartName, str]] = {
    "pretrain": {"language": "learning_rate"},
    "align": {"speech_projector": "learning_rate", "vision_projector": "learning_rate"},
    "sft": {
        "language": "learning_rate",
        "speech_projector": "projector_learning_rate",
        "vision_projector": "projector_learning_rate",
    },
}


def part_of(name: str) -> PartName:
    """The part that a parameter belongs to."""
    return next(part for prefix, part in PARTS.items() if name.startswith(prefix))


def rates_of(stage: str, config: OptimConfig) -> dict[PartName, float]:
    """Peak learning rate of every part that trains in a stage: the stage's own, or the recipe's for this part."""
    rates = {part: float(getattr(config, key)) for part, key in TRAINED[stage].items()}
    rates.update(getattr(config, "rates", {}))
    return {part: rate for part, rate in rates.items() if rate > 0}


def learning_rates(model: nn.Module, stage: str, config: OptimConfig) -> dict[str, float]:
    """Peak learning rate of every parameter that trains in a stage.

    Of a language model with an adapter, only what the adapter trains; of an encoder, only what reaches its projector.

    Raises:
        RecipeError: nothing trains, or a part that the model lacks has a rate.
    """
    by_part, bare = rates_of(stage, config), unwrapped(model)
    parts = {id(weight): part_of(name) for name, weight in bare.named_parameters()}
    _check(by_part, set(parts.values()), stage, config)
    idle = {id(weight) for sense in SENSES if f"{sense}_encoder" in by_part for weight in _idle(bare, sense)}
    rates = {}
    for name, weight in model.named_parameters():
        part = parts.get(id(weight), "language")
        adapts = part != "language" or bare is model or weight.requires_grad
        if part in by_part and adapts and id(weight) not in idle:
            rates[name] = by_part[part]
    return rates


def _check(rates: Mapping[PartName, float], there: set[PartName], stage: str, config: OptimConfig) -> None:
    unknown = [part for part in getattr(config, "rates", {}) if part not in there]
    if unknown or not there & rates.keys():
        raise RecipeError(
            f"no {unknown[0]} to train in this model" if unknown else "nothing is left to train",
            where=f"{stage}.rates",
            expected=f"rates of {', '.join(sorted(there))}; above 0 for at least one",
            got=", ".join(f"{part}: {rate:g}" for part, rate in getattr(config, "rates", {}).items()),
            fix="leave the part out, or give the model that sense",
        )


def _idle(model: Any, sense: str) -> list[nn.Parameter]:
    """Weights of an encoder that nothing reads: a vision encoder's behind the layer that the projector takes."""
    weights = list(getattr(model.model, f"{sense}_encoder").parameters())
    before = [weight.requires_grad for weight in weights]
    for weight in weights:
        weight.requires_grad_(True)
    model.model.touched(sense, [f"{sense}_encoder"]).backward()
    idle = [weight for weight in weights if weight.grad is None]
    for weight, trained in zip(weights, before, strict=True):
        weight.grad = None
        weight.requires_grad_(trained)
    return idle


def unwrapped(model: Any) -> Any:
    """The model without what peft wraps around it."""
    return model.get_base_model() if hasattr(model, "get_base_model") else model
