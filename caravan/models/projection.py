"""What every projector is, and how neighbouring states become one: side by side, or in squares.

d is the encoder's width, D the language model's, P the number of positions that an encoder gives.
"""

from __future__ import annotations

from typing import Literal

from torch import Tensor, nn
from transformers import initialization
from transformers.models.llama.modeling_llama import LlamaRMSNorm

from caravan.core.errors import ModelError

Sense = Literal["speech", "vision"]
SENSES: tuple[Sense, ...] = ("speech", "vision")


class Projector(nn.Module):
    """From an encoder's states [B, P, d], pooled, to token embeddings [B, tokens(P), D]."""

    def tokens(self, positions: int) -> int:
        """How many tokens `positions` encoder positions become.

        Raises:
            ModelError: the positions do not divide evenly.
        """
        raise NotImplementedError

    def pool(self, x_BPd: Tensor) -> Tensor:
        """What the projector takes of an encoder's states, worth keeping in their place: here, all of them."""
        return x_BPd

    def spread(self, name: str) -> int:
        """How many neighbouring positions share the columns of a weight, which a file for another program repeats."""
        return 1

    def initialise(self, norm: float | None = None) -> None:
        """Linear weights of unit gain (normal, 1 / sqrt(inputs)), biases zero, norms one.

        With `norm`, such as the mean norm of a token's embedding, the last gain is so that tokens start about as long.
        A weight that came from a file stays as it is: `initialization` knows which those are.
        """
        linears = [module for module in self.modules() if isinstance(module, nn.Linear)]
        for module in self.modules():
            if isinstance(module, nn.Linear):
                last = norm is not None and module is linears[-1]
                gain = (norm or 1.0) * module.out_features**-0.5 if last else 1.0
                initialization.normal_(module.weight, mean=0.0, std=gain * module.in_features**-0.5)
                if module.bias is not None:
                    initialization.zeros_(module.bias)
            elif isinstance(module, LlamaRMSNorm):
                initialization.ones_(module.weight)


def stack_frames(x_BPd: Tensor, k: int) -> Tensor:
    """k neighbouring positions side by side: [B, P, d] -> [B, P/k, k d]."""
    batch, positions, width = x_BPd.shape
    return x_BPd.reshape(batch, stacked(positions, k), k * width)


def pixel_shuffle(x_BPd: Tensor, s: int) -> Tensor:
    """Squares of s x s patches side by side: row-major [B, g g, d] -> [B, (g/s)(g/s), s s d].

    Channels are ordered (row in the square, column in the square, d).
    """
    batch, positions, width = x_BPd.shape
    cells = grid(positions, s) // s
    x = x_BPd.reshape(batch, cells, s, cells, s, width).transpose(2, 3)
    return x.reshape(batch, cells * cells, s * s * width)


def stacked(positions: int, k: int) -> int:
    """positions / k.

    Raises:
        ModelError: k does not divide it.
    """
    if positions % k:
        divisors = [n for n in range(1, 51) if positions % n == 0]
        raise ModelError(
            "the stack factor does not divide the encoder's positions",
            expected=f"a divisor of {positions}: {', '.join(map(str, divisors))}",
            got=k,
            fix="change `stack` of the projector",
        )
    return positions // k


def averaged(stack: int, average: int) -> int:
    """stack / average.

    Raises:
        ModelError: `average` does not divide `stack`.
    """
    if stack % average:
        raise ModelError(
            "the projector cannot average so",
            expected=f"a divisor of `stack`, which is {stack}",
            got=average,
            fix="change `average` of the projector",
        )
    return stack // average


def grid(positions: int, s: int) -> int:
    """Patches on a side of a square picture."""
    side = round(positions**0.5)
    if side * side != positions or side % s:
        raise ModelError(
            "the patches do not fall into squares",
            expected=f"a square number of patches whose side is a multiple of {s}",
            got=f"{positions} patches",
            fix="change `scale` of the projector, or use the projector `mlp`",
        )
    return side
