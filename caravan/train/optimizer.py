"""The optimiser of every training stage: AdamW, or Muon for the layers' matrices with AdamW for the rest."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from torch import nn
from torch.optim import AdamW, Muon, Optimizer

from caravan.recipe.train import OptimConfig

Groups = dict[tuple[float, float], list[nn.Parameter]]


class Joined(Optimizer):
    """Several optimisers of different parameters that look like one."""

    def __init__(self, parts: Sequence[Optimizer]) -> None:
        self.parts = tuple(parts)
        super().__init__([group for part in self.parts for group in part.param_groups], {})

    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        loss = closure() if closure else None
        for part in self.parts:
            part.step()
        return loss

    def state_dict(self) -> dict[str, Any]:
        return {"parts": [part.state_dict() for part in self.parts]}

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> None:
        for part, state in zip(self.parts, state_dict["parts"], strict=True):
            part.load_state_dict(state)
        # Loading gives the parts new groups; the scheduler must go on to set the rates of those in use.
        self.param_groups = [group for part in self.parts for group in part.param_groups]


def build_optimizer(model: nn.Module, rates: Mapping[str, float], config: OptimConfig) -> Optimizer:
    """The optimiser that `config.optimizer` names, over the parameters that have a rate.

    Muon (Jordan et al. 2024) takes matrices between hidden states, with updates scaled to AdamW's size (Liu et al.
    2025), so one learning rate serves both; embeddings, the head, convolutions, biases and norms stay with AdamW.
    """
    tables = _tables(model)
    plain: Groups = {}
    matrices: Groups = {}
    for name, parameter in model.named_parameters():
        if name not in rates:
            continue
        decay = config.weight_decay if parameter.ndim > 1 else 0.0
        by_muon = config.optimizer == "muon" and parameter.ndim == 2 and id(parameter) not in tables
        (matrices if by_muon else plain).setdefault((rates[name], decay), []).append(parameter)
    parts: list[Optimizer] = []
    if matrices:
        parts.append(Muon(_listed(matrices), adjust_lr_fn="match_rms_adamw"))
    if plain:
        parts.append(AdamW(_listed(plain), betas=config.betas, fused=True))
    return parts[0] if len(parts) == 1 else Joined(parts)


def _listed(groups: Groups) -> list[dict[str, Any]]:
    return [{"params": members, "lr": rate, "weight_decay": decay} for (rate, decay), members in groups.items()]


def _tables(model: nn.Module) -> set[int]:
    """Ids of the weights with a row for every token or position: embeddings and the head."""
    tables = {id(module.weight) for module in model.modules() if isinstance(module, nn.Embedding)}
    head = getattr(model, "get_output_embeddings", lambda: None)()
    return tables | ({id(head.weight)} if head is not None else set())
