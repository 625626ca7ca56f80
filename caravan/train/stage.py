"""The doors of the training stages. They import torch only when they run."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from caravan.core.errors import CaravanError, ModelError
from caravan.core.stage import StageContext
from caravan.recipe.train import AlignConfig, EncodersConfig, PretrainConfig, SftConfig


def run_pretrain(config: PretrainConfig, ctx: StageContext) -> dict[str, Any]:
    """Packed tokens to a base language model."""
    from caravan.train import pretrain

    return pretrain.run(config, ctx)


def run_encoders(config: EncodersConfig, ctx: StageContext) -> dict[str, Any]:
    """Clips and pictures to small speech and vision encoders."""
    from caravan.train import encoders

    return encoders.run(config, ctx)


def run_align(config: AlignConfig, ctx: StageContext) -> dict[str, Any]:
    """A language model, encoders and dialogues to a fused model with trained projectors."""
    from caravan.train import finetune

    return finetune.run_align(config, ctx)


def run_sft(config: SftConfig, ctx: StageContext) -> dict[str, Any]:
    """A model and dialogues to an assistant."""
    from caravan.train import finetune

    return finetune.run_sft(config, ctx)


def check_pretrain(config: PretrainConfig, ctx: StageContext) -> list[CaravanError]:
    """See that a model to continue is there."""
    return _models({"pretrain.from": config.from_ and ctx.located(config.from_)})


def check_encoders(config: EncodersConfig, ctx: StageContext) -> list[CaravanError]:
    """See that encoders to continue are there."""
    speech = config.speech.from_ if config.speech else None
    vision = config.vision.from_ if config.vision else None
    return _models({"encoders.speech.from": speech, "encoders.vision.from": vision})


def check_align(config: AlignConfig, ctx: StageContext) -> list[CaravanError]:
    """See that models that the recipe names as folders are there."""
    text = config.text and ctx.located(config.text)
    return _models({"align.text": text, "align.speech": config.speech, "align.vision": config.vision})


def check_sft(config: SftConfig, ctx: StageContext) -> list[CaravanError]:
    """Nothing of a later stage's input exists yet."""
    return []


def _models(names: dict[str, str | None]) -> list[CaravanError]:
    """An error for each name that is clearly a path and has no model."""
    return [
        ModelError(
            "no model in this folder",
            where=field,
            expected="a folder with config.json",
            got=name,
            fix="correct the path, or give a hub name such as organisation/model",
        )
        for field, name in names.items()
        if name and name.startswith(("/", ".", "~")) and not (Path(name).expanduser() / "config.json").is_file()
    ]
