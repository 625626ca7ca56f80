"""A language model made ready for the loop: what is learnt, how fast, and the attention that is cheapest."""

from __future__ import annotations

import inspect
from typing import Any

import torch
from transformers import PreTrainedModel

from caravan.models.fused import CaravanForConditionalGeneration
from caravan.recipe.train import OptimConfig
from caravan.train.loop import Task
from caravan.train.parts import learning_rates, unwrapped

# Up to here plain attention is a third faster on a CPU than the fused kernel, and its scores still fit in memory.
SHORT = 512


def task_of(model: PreTrainedModel, stage: str, config: OptimConfig, length: int) -> Task:
    """The task of a stage on sequences of `length`; sets the model's attention and checkpointing for it."""
    bare = unwrapped(model)
    language: Any = bare.model.language_model if isinstance(bare, CaravanForConditionalGeneration) else bare
    if length <= SHORT and not torch.cuda.is_available():
        language.set_attn_implementation("eager")
    if config.activation_checkpointing:
        bare.activation_checkpointing_enable()
    return Task(stage, learning_rates(model, stage, config), {"use_cache": False}, length)


@torch.no_grad()
def keeps_documents_apart(model: PreTrainedModel) -> bool:
    """Whether a second document in a sequence is read as if it stood alone, asked of the model itself.

    Most architectures take the mask from positions that start anew; BLOOM has none, and Falcon a mask of its own.
    """
    if "position_ids" not in inspect.signature(model.forward).parameters:
        return False
    training = model.training
    model.eval()
    try:
        media = {getattr(model.config, f"{kind}_token_id", None) for kind in ("audio", "image")}
        ids = torch.tensor([[token for token in range(10) if token not in media][:8]], device=model.device)
        positions = torch.arange(4, device=model.device).repeat(2)[None]
        packed = model(input_ids=ids, position_ids=positions, use_cache=False).logits[:, 4:].float()
        alone = model(input_ids=ids[:, 4:], position_ids=positions[:, 4:], use_cache=False).logits.float()
    finally:
        model.train(training)
    return bool((packed - alone).abs().max() < 0.05 * alone.std())
