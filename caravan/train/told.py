"""The chance that something is told in at least one of many stretches."""

from __future__ import annotations

import torch
from torch import Tensor


def told(chance_BPV: Tensor) -> tuple[Tensor, Tensor]:
    """Log chances [B, V] that some of the P stretches tells an entry, and that none does (noisy-or).

    As Palaz et al. 2016 find words in speech, and Fang et al. 2015 in pictures, without being shown where they are.
    """
    # A chance of 1 has no logarithm of its rest, one of 0 none of its own: both are kept off by a little.
    never_BV = torch.log1p(-chance_BPV.clamp(max=1 - 1e-4)).sum(1)
    return torch.log(-torch.expm1(never_BV) + 1e-6), never_BV
