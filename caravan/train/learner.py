"""A language model made ready for the loop: what is learnt, how fast, and the attention that is cheapest."""

from __future__ import annotations

from typing import Any

import torch
from transformers import PreTrainedModel

from caravan.models.fused import CaravanForConditionalGeneration
from caravan.recipe.train import OptimConfig
from caravan.train.loop import Task
from caravan.train.parts import learning_rates

# Up to here plain attention is a third faster on a CPU than the fused kernel, and its scores still fit in memory.
SHORT = 512


def task_of(model: PreTrainedModel, stage: str, config: OptimConfig, length: int) -> Task:
    """The task of a stage on sequences of `length`; sets the model's attention and checkpointing for it."""
    language: Any = model.model.language_model if isinstance(model, CaravanForConditionalGeneration) else model
    if length <= SHORT and not torch.cuda.is_available():
        language.set_attn_implementation("eager")
    if config.activation_checkpointing:
        model.activation_checkpointing_enable()
    return Task(stage, learning_rates(model, stage, config), {"use_cache": False})
