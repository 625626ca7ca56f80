"""What lies between an encoder and the language model: one table of projectors, their maths in torch and in GGUF.

d is the encoder's width, D the language model's, h the hidden width, P the number of positions that an encoder gives
(1500 for a 30 s window of Whisper; (image size / patch size)^2 for a picture, the class token left out).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from inspect import signature
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional
from transformers import Blip2QFormerConfig, Blip2QFormerModel, initialization
from transformers.models.llama.modeling_llama import LlamaRMSNorm

from caravan.core.errors import ModelError
from caravan.models.encoders import DECODER_STATES
from caravan.models.projection import Projector, Sense, averaged, grid, pixel_shuffle, stack_frames, stacked

DECODER64 = "decoder64"
# Means are of at most as many states: a tenth of a second of Whisper's.
FINEST = 5


class StackProjector(Projector):
    """Ultravox: k neighbouring frames side by side, then a gated linear unit between two norms; no biases.

    x [B, P, d] -> stack k -> [B, P/k, k d] -> RMSNorm(1e-6) -> Linear to 2 h, halves (a, b) -> a * silu(b)
    -> RMSNorm(1e-6) -> Linear to D. Tokens: P / k, so 1500 / k for each window of 30 s.

    The second half is the gate, as in llama.cpp's `ultravox`; k must divide P, since llama.cpp aborts otherwise.

    With `average` m, each m of the k neighbours are averaged after the first norm, and share its weights: what a sound
    means does not hang on its exact place, and a small projector need not learn that. It is Ultravox with repeated
    columns, and exported so. Means can then be kept instead of states, with the root of their mean square for the norm;
    they are of `grain` states, fewer than m, so that what is kept can still be moved a little.
    """

    def __init__(
        self, width: int, text_width: int, stack: int = 10, hidden: int | None = None, average: int = 1
    ) -> None:
        super().__init__()
        self.stack, self.average = stack, average
        self.grain = max(n for n in range(1, FINEST + 1) if average % n == 0)
        hidden = hidden or text_width
        inputs = averaged(stack, average) * width
        self.norm_pre = LlamaRMSNorm(inputs)
        self.linear_1 = nn.Linear(inputs, 2 * hidden, bias=False)
        self.norm_mid = LlamaRMSNorm(hidden)
        self.linear_2 = nn.Linear(hidden, text_width, bias=False)

    def tokens(self, positions: int) -> int:
        return stacked(positions, self.stack)

    def pool(self, x_BPd: Tensor) -> Tensor:
        """Means of `grain` states, and the root of their mean square: [B, P, d] -> [B, P / grain, d + 1]."""
        x_BQgd = x_BPd.float().unflatten(1, (-1, self.grain))
        return torch.cat([x_BQgd.mean(2), x_BQgd.square().mean((2, 3))[..., None].sqrt()], -1)

    def spread(self, name: str) -> int:
        return self.average if name in ("norm_pre.weight", "linear_1.weight") else 1

    def forward(self, pooled_BQe: Tensor) -> Tensor:
        tokens = self.tokens(pooled_BQe.shape[1] * self.grain)
        means_BQd, roots_BQ = pooled_BQe[..., :-1].float(), pooled_BQe[..., -1].float()
        square_BT = roots_BQ.square().unflatten(1, (tokens, -1)).mean(-1)
        groups = (tokens, self.stack // self.average, self.average // self.grain)
        x_BTf = means_BQd.unflatten(1, groups).mean(3).flatten(2)
        x_BTf = x_BTf * torch.rsqrt(square_BT + self.norm_pre.variance_epsilon)[..., None]
        values, gate = self.linear_1((self.norm_pre.weight * x_BTf).to(pooled_BQe.dtype)).chunk(2, dim=-1)
        return self.linear_2(self.norm_mid(values * functional.silu(gate)))


class PixelShuffleProjector(Projector):
    """Nemotron Nano VL: squares of s x s patches side by side, then a squared-ReLU layer; no biases.

    x [B, P, d] -> pixel_shuffle s -> [B, P/s^2, s^2 d] -> RMSNorm(1e-6) -> Linear to h -> relu^2 -> Linear to D.
    Tokens: P / s^2. The same as llama.cpp's `nemotron_v2_vl`.
    """

    def __init__(self, width: int, text_width: int, scale: int = 2, hidden: int | None = None) -> None:
        super().__init__()
        self.scale = scale
        hidden = hidden or text_width
        self.norm = LlamaRMSNorm(scale * scale * width)
        self.linear_1 = nn.Linear(scale * scale * width, hidden, bias=False)
        self.linear_2 = nn.Linear(hidden, text_width, bias=False)

    def tokens(self, positions: int) -> int:
        return (grid(positions, self.scale) // self.scale) ** 2

    def forward(self, x_BPd: Tensor) -> Tensor:
        x = self.linear_1(self.norm(pixel_shuffle(x_BPd, self.scale)))
        return self.linear_2(functional.relu(x).square())


class MlpProjector(Projector):
    """LLaVA-1.5: Linear to h, GELU (tanh), Linear to D; biases. Tokens: P / k.

    For a picture k is 1: one token for each patch, the same as llama.cpp's `mlp`. Speech may stack k frames first;
    llama.cpp has no such form.
    """

    def __init__(self, width: int, text_width: int, stack: int = 1, hidden: int | None = None) -> None:
        super().__init__()
        self.stack = stack
        hidden = hidden or text_width
        self.linear_1 = nn.Linear(stack * width, hidden)
        self.linear_2 = nn.Linear(hidden, text_width)

    def tokens(self, positions: int) -> int:
        return stacked(positions, self.stack)

    def forward(self, x_BPd: Tensor) -> Tensor:
        x = self.linear_1(stack_frames(x_BPd, self.stack))
        return self.linear_2(functional.gelu(x, approximate="tanh"))


class LinearProjector(Projector):
    """One Linear to D with bias, over k neighbouring positions. Tokens: P / k. llama.cpp has no such form."""

    def __init__(self, width: int, text_width: int, stack: int = 1) -> None:
        super().__init__()
        self.stack = stack
        self.linear = nn.Linear(stack * width, text_width)

    def tokens(self, positions: int) -> int:
        return stacked(positions, self.stack)

    def forward(self, x_BPd: Tensor) -> Tensor:
        return self.linear(stack_frames(x_BPd, self.stack))


class DecoderProjector(LinearProjector):
    """LLaSM: one Linear to D with bias over what Whisper's decoder makes of 64 start tokens.

    The model's speech encoder is then the whole Whisper (github.com/LinkSoul-AI/LLaSM). Tokens: 64 for each window of
    30 s. llama.cpp has no such form.
    """

    def __init__(self, width: int, text_width: int) -> None:
        super().__init__(width, text_width)

    def tokens(self, positions: int) -> int:
        if positions != DECODER_STATES:
            raise ModelError(
                "the projector reads a decoder's states", expected=f"{DECODER_STATES} of them", got=str(positions)
            )
        return positions


class QFormerProjector(Projector):
    """BLIP-2 (Li et al. 2023), as VisualGLM has it: learnt queries attend to each other and to the states.

    q [Q, h] and x [B, P, d] -> LayerNorm(q), then `layers` blocks of self-attention, cross-attention to x in every
    other block from the first, and a feed-forward net of 4 h, each with its LayerNorm behind -> Linear to D with bias.
    Tokens: Q for each picture or window, whatever P is. llama.cpp has no such form.
    """

    def __init__(
        self, width: int, text_width: int, queries: int = 32, layers: int = 12, heads: int = 12, hidden: int = 768
    ) -> None:
        super().__init__()
        if hidden % heads:
            raise ModelError(
                "the Q-Former's heads do not divide its width",
                expected=f"a divisor of {hidden}",
                got=heads,
                fix="change `heads` or `hidden` of the projector",
            )
        config = Blip2QFormerConfig(
            hidden_size=hidden,
            num_hidden_layers=layers,
            num_attention_heads=heads,
            intermediate_size=4 * hidden,
            encoder_hidden_size=width,
            cross_attention_frequency=2,
            hidden_dropout_prob=0.0,
            attention_probs_dropout_prob=0.0,
        )
        self.queries = nn.Parameter(torch.zeros(1, queries, hidden))
        self.qformer = Blip2QFormerModel(config)
        self.linear = nn.Linear(hidden, text_width)

    def tokens(self, positions: int) -> int:
        return int(self.queries.shape[1])

    def initialise(self, norm: float | None = None) -> None:
        super().initialise(norm)
        initialization.normal_(self.queries, mean=0.0, std=0.02)
        for module in self.qformer.modules():
            if isinstance(module, nn.LayerNorm):
                initialization.ones_(module.weight)
                initialization.zeros_(module.bias)

    def forward(self, x_BPd: Tensor) -> Tensor:
        queries_BQh = self.queries.expand(len(x_BPd), -1, -1)
        return self.linear(self.qformer(queries_BQh, encoder_hidden_states=x_BPd).last_hidden_state)


@dataclass(frozen=True)
class GgufForm:
    """How llama.cpp knows a projector: its type, the sense it serves there, and its tensors' names in the file."""

    type: str
    sense: Sense
    tensors: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class ProjectorKind:
    """One row of `PROJECTORS`: the module, the senses it fits, and its form in GGUF, if llama.cpp has one."""

    module: type[Projector]
    senses: tuple[Sense, ...]
    gguf: GgufForm | None = None


PROJECTORS: dict[str, ProjectorKind] = {
    "stack": ProjectorKind(
        StackProjector,
        ("speech",),
        GgufForm(
            "ultravox",
            "speech",
            {
                "norm_pre.weight": "mm.a.norm_pre.weight",
                "linear_1.weight": "mm.a.mlp.1.weight",
                "norm_mid.weight": "mm.a.norm_mid.weight",
                "linear_2.weight": "mm.a.mlp.2.weight",
            },
        ),
    ),
    "pixel_shuffle": ProjectorKind(
        PixelShuffleProjector,
        ("vision",),
        GgufForm(
            "nemotron_v2_vl",
            "vision",
            {
                "norm.weight": "mm.model.mlp.0.weight",
                "linear_1.weight": "mm.model.mlp.1.weight",
                "linear_2.weight": "mm.model.mlp.3.weight",
            },
        ),
    ),
    "mlp": ProjectorKind(
        MlpProjector,
        ("speech", "vision"),
        # Right for an encoder without a class token (SigLIP): with one, llama.cpp puts it last and the maths differs.
        GgufForm(
            "mlp",
            "vision",
            {
                "linear_1.weight": "mm.0.weight",
                "linear_1.bias": "mm.0.bias",
                "linear_2.weight": "mm.2.weight",
                "linear_2.bias": "mm.2.bias",
            },
        ),
    ),
    "linear": ProjectorKind(LinearProjector, ("speech", "vision")),
    "qformer": ProjectorKind(QFormerProjector, ("speech", "vision")),
    DECODER64: ProjectorKind(DecoderProjector, ("speech",)),
}


def build_projector(sense: Sense, options: Mapping[str, Any], width: int, text_width: int) -> Projector:
    """The projector that `options` names, e.g. {"name": "stack", "stack": 10, "hidden": 256}.

    An option of None means the class's default.

    Raises:
        ModelError: no such projector, not for this sense, or an option that it does not have.
    """
    given = {key: value for key, value in options.items() if value is not None}
    name = given.pop("name", None)
    kind = PROJECTORS.get(str(name))
    if kind is None or sense not in kind.senses:
        fitting = [key for key, value in PROJECTORS.items() if sense in value.senses]
        raise ModelError(
            f"no such {sense} projector", expected=", ".join(fitting), got=str(name), fix="name one of these"
        )
    known = [key for key in signature(kind.module).parameters if key not in ("width", "text_width")]
    if not all(key in known and isinstance(value, int) and value > 0 for key, value in given.items()):
        raise ModelError(
            f"the {sense} projector {name} cannot be built so",
            expected=f"whole numbers from 1 for {', '.join(known)}",
            got=", ".join(f"{key}: {value}" for key, value in given.items()),
            fix="leave an option out to have its default",
        )
    return kind.module(width, text_width, **given)
