"""How fast a run is, as a share of what its machine can do."""

from __future__ import annotations

import time
from typing import Any

import torch
from torch import nn
from transformers.pytorch_utils import Conv1D

MEASURED_SIDE = {"cpu": 1024, "cuda": 8192}
MEASURED_TIMES = 3


def flops_per_token(model: Any, length: int) -> float:
    """Operations that a token costs forward and backward, without what is recomputed (PaLM, appendix B).

    A matrix costs 2 a weight forwards, 2 for its inputs' gradient, and 2 for its own where it trains; attention
    12 times width times length a layer. Of a fused model, the language model alone counts.
    """
    inner = model.get_base_model() if hasattr(model, "get_base_model") else model
    language = getattr(getattr(inner, "model", None), "language_model", None)
    parts = [language, inner.get_output_embeddings()] if language is not None else [inner]
    total = 0
    for module in {id(each): each for part in parts for each in part.modules()}.values():
        if isinstance(module, nn.Linear):
            total += module.in_features * module.out_features * (6 if module.weight.requires_grad else 4)
        elif isinstance(module, Conv1D):
            total += module.weight.numel() * (6 if module.weight.requires_grad else 4)
    config = inner.config.get_text_config()
    return total + 12.0 * config.num_hidden_layers * config.hidden_size * length


def measured_peak(precision: str) -> float:
    """Operations a second of the product of two large square matrices here: the best of a few."""
    device = "cuda" if torch.cuda.is_available() else "cpu"
    side = MEASURED_SIDE[device]
    matrix = torch.ones(side, side, device=device, dtype=torch.bfloat16 if precision == "bf16" else torch.float32)
    best = float("inf")
    with torch.no_grad():
        for _ in range(MEASURED_TIMES):
            started = time.perf_counter()
            matrix @ matrix
            if device == "cuda":
                torch.cuda.synchronize()
            best = min(best, time.perf_counter() - started)
    return 2.0 * side**3 / best
