"""The optimisers: who takes which parameter, what Muon does to a matrix, and resuming with both."""

from __future__ import annotations

import pytest
import torch
from torch.optim import AdamW, Muon

from caravan.recipe.train import OptimConfig
from caravan.train.dialogue_rows import collate
from caravan.train.loop import Task, fit
from caravan.train.optimizer import Joined, build_optimizer
from tests.train.test_loop import Rows, journal

MUON = {"optimizer": "muon", "batch": 4, "micro_batch": 4, "precision": "fp32", "learning_rate": 0.01}


def rates_of(model, rate=0.01):
    return {name: rate for name, _ in model.named_parameters()}


def test_muon_takes_the_matrices_of_the_layers_and_adamw_the_rest(llama):
    joined = build_optimizer(llama, rates_of(llama), OptimConfig(**MUON, weight_decay=0.1))
    assert isinstance(joined, Joined)
    names = {id(parameter): name for name, parameter in llama.named_parameters()}
    muon, adamw = (
        {names[id(parameter)] for group in part.param_groups for parameter in group["params"]} for part in joined.parts
    )
    assert isinstance(joined.parts[0], Muon)
    assert isinstance(joined.parts[1], AdamW)
    assert muon == {name for name in names.values() if "proj" in name}
    assert adamw == set(names.values()) - muon
    assert {group["weight_decay"] for group in joined.parts[1].param_groups} == {0.1, 0.0}


def test_adamw_alone_is_not_wrapped(llama):
    assert isinstance(build_optimizer(llama, rates_of(llama), OptimConfig()), AdamW)


def test_a_muon_step_moves_a_matrix_alike_in_all_directions(llama):
    weight = llama.model.layers[0].mlp.up_proj.weight
    before = weight.detach().clone()
    optimizer = build_optimizer(llama, rates_of(llama), OptimConfig(**MUON))
    torch.manual_seed(0)
    for parameter in llama.parameters():
        parameter.grad = torch.randn_like(parameter)
    optimizer.step()
    moved = torch.linalg.svdvals((before - weight).detach()) / (0.01 * 0.2 * max(weight.shape) ** 0.5)
    # Five Newton-Schulz steps bring every singular value near one: between 0.7 and 1.2 by their source, in bf16 here.
    assert 0.6 < moved.min() < moved.max() < 1.3


def test_a_run_with_muon_that_is_cut_ends_like_an_uninterrupted_one(llama, tmp_path):
    config = OptimConfig(**MUON, save_every=3)
    task = Task("test", rates_of(llama), {"use_cache": False})
    start = {name: weight.clone() for name, weight in llama.state_dict().items()}
    (tmp_path / "whole").mkdir()
    fit(llama, Rows(24), collate, config, task, tmp_path / "whole", 7)
    whole = {name: weight.clone() for name, weight in llama.state_dict().items()}
    llama.load_state_dict(start)
    used = []

    def failing(rows):
        used.append(rows)
        if len(used) == 5:
            raise RuntimeError("cut")
        return collate(rows)

    (tmp_path / "cut").mkdir()
    with pytest.raises(RuntimeError, match="cut"):
        fit(llama, Rows(24), failing, config, task, tmp_path / "cut", 7)
    llama.load_state_dict(start)
    fit(llama, Rows(24), collate, config, task, tmp_path / "cut", 7)
    for one, other in zip(journal(tmp_path / "whole"), journal(tmp_path / "cut"), strict=True):
        assert (one["step"], one["lr"]) == (other["step"], other["lr"])
        assert one["loss"] == pytest.approx(other["loss"], rel=1e-4)
    # Orthogonalisation is in bf16: its rounding, not AdamW's, is the bound.
    for name, weight in llama.state_dict().items():
        torch.testing.assert_close(weight, whole[name], rtol=1e-2, atol=1e-3)
