"""A model made ready for the loop: what is learnt, how fast, and the cheapest exact way to compute it."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional
from transformers import PreTrainedModel

from caravan.models.fused import CaravanForConditionalGeneration
from caravan.recipe.train import OptimConfig
from caravan.train.loop import Task
from caravan.train.pack import IGNORED
from caravan.train.parts import learning_rates

# Up to here plain attention is a third faster on a CPU than the fused kernel, and its scores still fit in memory.
SHORT = 512


class Answers(nn.Module):
    """A fused model that computes logits only where something is learnt, about a tenth of the tokens of a dialogue."""

    def __init__(self, fused: CaravanForConditionalGeneration) -> None:
        super().__init__()
        self.fused = fused

    def forward(
        self,
        input_ids: Tensor,
        position_ids: Tensor,
        labels: Tensor,
        num_items_in_batch: Tensor | int | None = None,
        **media: Any,
    ) -> dict[str, Tensor]:
        """The loss that the model's own forward pass gives for packed rows [B, T] and the same media."""
        output = self.fused.model(input_ids=input_ids, position_ids=position_ids, **media)
        next_BT = functional.pad(labels[:, 1:], (0, 1), value=IGNORED)
        learnt_BT = next_BT != IGNORED
        logits_NV = self.fused.lm_head(output.last_hidden_state[learnt_BT]).float()
        total = functional.cross_entropy(logits_NV, next_BT[learnt_BT], reduction="sum")
        return {"loss": total / (learnt_BT.sum() if num_items_in_batch is None else num_items_in_batch)}


def learner(model: PreTrainedModel, stage: str, config: OptimConfig, length: int) -> tuple[nn.Module, Task]:
    """What the loop trains, and its task; the weights stay those of `model`."""
    language: Any = model.model.language_model if isinstance(model, CaravanForConditionalGeneration) else model
    if length <= SHORT and not torch.cuda.is_available():
        language.set_attn_implementation("eager")
    if config.activation_checkpointing:
        model.activation_checkpointing_enable()
    rates = learning_rates(model, stage, config)
    flags = {"use_cache": False}
    if not isinstance(model, CaravanForConditionalGeneration):
        return model, Task(stage, rates, flags)
    return Answers(model), Task(stage, {f"fused.{name}": rate for name, rate in rates.items()}, flags)
