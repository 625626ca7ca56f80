"""What each projector computes, against the same maths written with numpy in float64."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from caravan.core.errors import ModelError
from caravan.models.projection import Projector, pixel_shuffle
from caravan.models.projectors import (
    PROJECTORS,
    DecoderProjector,
    LinearProjector,
    MlpProjector,
    PixelShuffleProjector,
    QFormerProjector,
    StackProjector,
    build_projector,
)

D, OUT = 6, 8


def random(projector: Projector) -> dict[str, np.ndarray]:
    """Give every parameter a random value, and return them in float64."""
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in projector.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=generator) * 0.5)
    return {name: value.numpy().astype(np.float64) for name, value in projector.state_dict().items()}


def states(positions: int) -> np.ndarray:
    return np.random.default_rng(1).standard_normal((2, positions, D))


def computed(projector: Projector, x: np.ndarray) -> np.ndarray:
    with torch.no_grad():
        return projector(projector.pool(torch.tensor(x, dtype=torch.float32))).numpy()


def rms(x: np.ndarray, weight: np.ndarray) -> np.ndarray:
    return x / np.sqrt((x**2).mean(-1, keepdims=True) + 1e-6) * weight


def gelu_tanh(x: np.ndarray) -> np.ndarray:
    return 0.5 * x * (1 + np.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3)))


class TestMaths:
    def test_stack_is_ultravox(self) -> None:
        projector = StackProjector(D, OUT, stack=5, hidden=7)
        w = random(projector)
        x = states(15)
        stacked = np.stack([np.concatenate([x[:, 5 * t + j] for j in range(5)], -1) for t in range(3)], 1)
        both = rms(stacked, w["norm_pre.weight"]) @ w["linear_1.weight"].T
        value, gate = both[..., :7], both[..., 7:]
        expected = rms(value * gate / (1 + np.exp(-gate)), w["norm_mid.weight"]) @ w["linear_2.weight"].T
        np.testing.assert_allclose(computed(projector, x), expected, rtol=1e-4, atol=1e-5)
        assert expected.shape == (2, projector.tokens(15), OUT)

    def test_an_averaging_stack_is_ultravox_with_repeated_columns(self) -> None:
        projector = StackProjector(D, OUT, stack=6, hidden=7, average=3)
        w = random(projector)
        whole = StackProjector(D, OUT, stack=6, hidden=7)
        assert projector.spread("linear_1.weight") == projector.spread("norm_pre.weight") == 3
        blocks = w["linear_1.weight"].reshape(14, 2, 1, D) / 3
        repeated = np.repeat(blocks, 3, axis=2).reshape(14, 6 * D)
        norm = np.repeat(w["norm_pre.weight"].reshape(2, 1, D), 3, axis=1).reshape(-1)
        given = {**w, "norm_pre.weight": norm, "linear_1.weight": repeated}
        whole.load_state_dict({name: torch.tensor(value, dtype=torch.float32) for name, value in given.items()})
        x = states(18)
        np.testing.assert_allclose(computed(projector, x), computed(whole, x), rtol=1e-4, atol=1e-5)

    def test_pixel_shuffle_is_nemotron(self) -> None:
        projector = PixelShuffleProjector(D, OUT, scale=2, hidden=7)
        w = random(projector)
        x = states(16)
        grid = x.reshape(2, 4, 4, D)
        squares = [
            np.concatenate([grid[:, 2 * r + i, 2 * c + j] for i in range(2) for j in range(2)], -1)
            for r in range(2)
            for c in range(2)
        ]
        hidden = rms(np.stack(squares, 1), w["norm.weight"]) @ w["linear_1.weight"].T
        expected = np.maximum(hidden, 0) ** 2 @ w["linear_2.weight"].T
        np.testing.assert_allclose(computed(projector, x), expected, rtol=1e-4, atol=1e-5)
        assert expected.shape == (2, projector.tokens(16), OUT)

    def test_mlp_is_llava(self) -> None:
        projector = MlpProjector(D, OUT, hidden=7)
        w = random(projector)
        x = states(9)
        hidden = gelu_tanh(x @ w["linear_1.weight"].T + w["linear_1.bias"])
        expected = hidden @ w["linear_2.weight"].T + w["linear_2.bias"]
        np.testing.assert_allclose(computed(projector, x), expected, rtol=1e-4, atol=1e-5)
        assert projector.tokens(9) == 9

    def test_linear(self) -> None:
        projector = LinearProjector(D, OUT, stack=3)
        w = random(projector)
        x = states(9)
        expected = x.reshape(2, 3, 3 * D) @ w["linear.weight"].T + w["linear.bias"]
        np.testing.assert_allclose(computed(projector, x), expected, rtol=1e-4, atol=1e-5)

    @given(cells=st.integers(1, 5), s=st.integers(1, 4))
    @settings(max_examples=20, deadline=None)
    def test_pixel_shuffle_loses_nothing(self, cells: int, s: int) -> None:
        side = cells * s
        x = torch.arange(side * side * D, dtype=torch.float32).reshape(1, side * side, D)
        shuffled = pixel_shuffle(x, s)
        assert shuffled.shape == (1, cells * cells, s * s * D)
        assert sorted(shuffled.flatten().tolist()) == x.flatten().tolist()
        # The first cell holds the first s patches of the first row, before those of the second.
        assert shuffled[0, 0, : s * D].tolist() == x[0, :s].flatten().tolist()

    def test_decoder64_is_one_linear_over_64_states(self) -> None:
        projector = DecoderProjector(D, OUT)
        w = random(projector)
        x = states(64)
        np.testing.assert_allclose(
            computed(projector, x), x @ w["linear.weight"].T + w["linear.bias"], rtol=1e-4, atol=1e-5
        )
        assert projector.tokens(64) == 64
        with pytest.raises(ModelError, match=r"reads a decoder's states[\s\S]*64[\s\S]*1500"):
            projector.tokens(1500)

    def test_qformer_is_blip2(self) -> None:
        """One block in numpy: self-attention, cross-attention, feed-forward, each with its LayerNorm behind."""
        projector = QFormerProjector(D, OUT, queries=3, layers=1, heads=2, hidden=8)
        w = random(projector)
        x = states(9)

        def layer_norm(v: np.ndarray, name: str) -> np.ndarray:
            v = (v - v.mean(-1, keepdims=True)) / np.sqrt(v.var(-1, keepdims=True) + 1e-12)
            return v * w[f"qformer.{name}.weight"] + w[f"qformer.{name}.bias"]

        def linear(v: np.ndarray, name: str) -> np.ndarray:
            return v @ w[f"qformer.{name}.weight"].T + w[f"qformer.{name}.bias"]

        def attend(q: np.ndarray, to: np.ndarray, name: str) -> np.ndarray:
            parts = [linear(v, f"{name}.attention.{part}") for v, part in ((q, "query"), (to, "key"), (to, "value"))]
            query, key, value = (part.reshape(2, -1, 2, 4).swapaxes(1, 2) for part in parts)
            scores = np.exp(query @ key.swapaxes(-1, -2) / 2)
            mixed = (scores / scores.sum(-1, keepdims=True) @ value).swapaxes(1, 2).reshape(2, -1, 8)
            return layer_norm(linear(mixed, f"{name}.output.dense") + q, f"{name}.output.LayerNorm")

        q = layer_norm(np.repeat(w["queries"], 2, axis=0), "layernorm")
        q = attend(attend(q, q, "encoder.layer.0.attention"), x, "encoder.layer.0.crossattention")
        up = linear(q, "encoder.layer.0.intermediate_query.dense")
        up = up * 0.5 * (1 + np.vectorize(math.erf)(up / math.sqrt(2)))
        q = layer_norm(linear(up, "encoder.layer.0.output_query.dense") + q, "encoder.layer.0.output_query.LayerNorm")
        expected = q @ w["linear.weight"].T + w["linear.bias"]
        # erf, exp and four norms in float32: errors of some 1e-5 of values of about 1.
        np.testing.assert_allclose(computed(projector, x), expected, rtol=1e-3, atol=1e-4)
        assert projector.tokens(9) == projector.tokens(1500) == 3
        with pytest.raises(ModelError, match=r"heads do not divide[\s\S]*a divisor of 8[\s\S]*got: 3"):
            QFormerProjector(D, OUT, heads=3, hidden=8)


# A Q-Former of BLIP-2's size has a hundred million parameters.
SMALL = {"qformer": {"queries": 4, "layers": 2, "heads": 2, "hidden": 24}}
POSITIONS = {"pixel_shuffle": 64, "decoder64": 64}


def built(name: str, width: int, out: int) -> Projector:
    return PROJECTORS[name].module(width, out, **SMALL.get(name, {}))


class TestTable:
    @pytest.mark.parametrize("name", PROJECTORS)
    def test_gguf_names_every_tensor_once(self, name: str) -> None:
        kind = PROJECTORS[name]
        if kind.gguf is None:
            return
        module = kind.module(D, OUT)
        assert set(kind.gguf.tensors) == set(module.state_dict())
        assert len(set(kind.gguf.tensors.values())) == len(kind.gguf.tensors)
        assert kind.gguf.sense in kind.senses

    @pytest.mark.parametrize("name", PROJECTORS)
    def test_documented(self, name: str) -> None:
        assert "Tokens: " in (PROJECTORS[name].module.__doc__ or "")

    @pytest.mark.parametrize(("name", "kind"), PROJECTORS.items())
    def test_starts_at_unit_gain_and_is_deterministic(self, name: str, kind: object) -> None:
        def start() -> Projector:
            torch.manual_seed(0)
            projector = built(name, 64, 256)
            projector.initialise()
            return projector

        first, second = start(), start()
        assert all(torch.equal(a, b) for a, b in zip(first.parameters(), second.parameters(), strict=True))
        x = torch.randn(1, POSITIONS.get(name, 100), 64)
        assert 0.2 < float(first(first.pool(x)).detach().std()) < 3
        second.initialise(norm=0.5)
        assert 0.2 < float(torch.linalg.vector_norm(second(second.pool(x)).detach(), dim=-1).mean()) < 1.5

    @pytest.mark.parametrize("name", PROJECTORS)
    def test_states_of_zeros_reach_every_parameter(self, name: str) -> None:
        """What a batch without media does, so that no process waits for another's gradients."""
        projector = built(name, D, OUT)
        nothing = projector(projector.pool(torch.zeros(1, POSITIONS.get(name, 100), D))).sum() * 0.0
        nothing.backward()
        assert float(nothing.detach()) == 0.0
        assert all(parameter.grad is not None for parameter in projector.parameters())
        assert all(not parameter.grad.any() for parameter in projector.parameters() if parameter.grad is not None)


class TestBuild:
    def test_options_of_none_are_the_defaults(self) -> None:
        projector = build_projector("speech", {"name": "stack", "stack": None, "hidden": None}, D, OUT)
        assert isinstance(projector, StackProjector)
        assert (projector.stack, projector.linear_2.in_features) == (10, OUT)

    @pytest.mark.parametrize(
        ("sense", "options", "message"),
        [
            ("speech", {"name": "conv"}, r"no such speech projector[\s\S]*stack, mlp, linear[\s\S]*got: conv"),
            ("speech", {"name": "pixel_shuffle"}, r"no such speech projector[\s\S]*stack, mlp, linear"),
            ("vision", {}, r"no such vision projector[\s\S]*pixel_shuffle, mlp, linear[\s\S]*None"),
            (
                "vision",
                {"name": "mlp", "scale": 2},
                r"vision projector mlp cannot be built so[\s\S]*for stack, hidden[\s\S]*scale: 2",
            ),
            (
                "speech",
                {"name": "stack", "stack": 0},
                r"whole numbers from 1 for stack, hidden, average[\s\S]*got: stack: 0",
            ),
            ("speech", {"name": "stack", "stack": "5"}, "whole numbers"),
        ],
    )
    def test_wrong_options(self, sense: str, options: dict[str, object], message: str) -> None:
        with pytest.raises(ModelError, match=message):
            build_projector(sense, options, D, OUT)  # type: ignore[arg-type]

    @pytest.mark.parametrize("k", [7, 8, 1501])
    def test_stack_that_does_not_divide(self, k: int) -> None:
        with pytest.raises(ModelError, match=r"does not divide[\s\S]*1, 2, 3, 4, 5, 6, 10, 12, 15[\s\S]*stack"):
            StackProjector(D, OUT, stack=k).tokens(1500)

    def test_an_average_that_does_not_divide_the_stack(self) -> None:
        with pytest.raises(ModelError, match=r"cannot average so[\s\S]*a divisor of `stack`, which is 10[\s\S]*got: 4"):
            StackProjector(D, OUT, stack=10, average=4)

    @pytest.mark.parametrize("positions", [15, 9])
    def test_patches_that_are_no_square(self, positions: int) -> None:
        with pytest.raises(ModelError, match=r"do not fall into squares[\s\S]*patches"):
            PixelShuffleProjector(D, OUT, scale=2)(torch.zeros(1, positions, D))
