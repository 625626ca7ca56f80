"""Answers of a file may part from torch's only where torch itself is undecided."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from caravan.core.errors import ExportError
from caravan.export.parity import Parity, Reference, check_close, check_exact, divergence, parting

STOP = [9, 8]


def reference(answer: list[int], steps: list[dict[int, float]]) -> Reference:
    logprobs = np.full((len(steps), 10), -20, np.float32)
    for row, step in zip(logprobs, steps, strict=True):
        row[list(step)] = list(step.values())
    return Reference("text", "prompt", [], [1], answer, logprobs)


TORCH = reference([1, 2], [{1: -0.1}, {2: -0.7, 3: -0.8}, {9: -0.5, 4: -1.5}])


@pytest.mark.parametrize(
    ("tokens", "gap"),
    [
        ([1, 2, 9], None),
        ([1, 2, 8], None),  # either end
        ([1, 3, 9], 0.1),
        ([1, 3], 0.1),
        ([1, 2, 4], 1.0),  # where torch ends
        ([9], 19.9),  # an end where torch goes on
        ([5, 2], 19.9),
    ],
)
def test_what_torch_held_of_the_first_difference(tokens: list[int], gap: float | None) -> None:
    found = parting(tokens, TORCH, STOP, length=3)
    assert found == (None if gap is None else pytest.approx(gap, abs=1e-5))


def test_an_answer_that_reached_its_limit_need_not_end() -> None:
    assert parting([1, 2], TORCH, STOP, length=2) is None


def test_bounds() -> None:
    exact = Parity(prompts=4, logprob_delta=0.01, divergence=0.1, agreement=0.5, tie=0.03)
    check_exact({"text": exact}, Path("model.gguf"), 0.02)
    check_close({"text": exact}, Path("model.gguf"), 0.2)
    for wrong in (Parity(4, 0.03, 0.0, 1.0, 0.0), Parity(4, 0.01, 0.0, 0.75, 0.05)):
        with pytest.raises(ExportError, match=r"model.gguf: the exported file does not say[\s\S]*image"):
            check_exact({"text": exact, "image": wrong}, Path("model.gguf"), 0.02)
    for far in (0.3, float("nan")):
        with pytest.raises(ExportError, match="image: probabilities diverge by"):
            check_close({"text": exact, "image": replace(exact, divergence=far)}, Path("model.gguf"), 0.2)


def test_divergence_is_that_over_all_tokens_where_the_file_tells_of_all_and_never_more() -> None:
    random = np.random.default_rng(0)
    torch_, file = (np.log(random.dirichlet(np.ones(30))) for _ in range(2))
    whole = float((np.exp(torch_) * (torch_ - file)).sum())
    known = dict(enumerate(file))
    right = torch_.astype(np.float32)
    assert divergence(known, right) == pytest.approx(whole, rel=1e-4)
    likeliest = dict(sorted(known.items(), key=lambda item: -item[1])[:10])
    assert 0.05 < divergence(likeliest, right) < whole
    assert divergence(dict(enumerate(torch_)), right) == pytest.approx(0, abs=1e-6)
