"""One process, two, and one again: the same steps on the same data."""

from __future__ import annotations

import pytest
import torch
from safetensors.torch import load_file

from caravan.core.errors import DataError, ModelError
from caravan.recipe.train import PretrainConfig
from caravan.train import pretrain, watch
from caravan.train.processes import together
from caravan.train.text_rows import open_sources, plan_text
from tests.train.test_loop import LONG, journal

SHORT = {**LONG, "steps": 9, "save_every": 3}


def until_four(config, ctx):
    """Training that is cut off after the third step, as by a kill."""
    torch.set_num_threads(1)
    watch.Watch.on_step_begin = stop(4, KeyboardInterrupt())
    return pretrain.train(config, ctx)


def until_seven(config, ctx):
    torch.set_num_threads(1)
    watch.Watch.on_step_begin = stop(7, DataError("nothing here"))
    return pretrain.train(config, ctx)


def stop(step, error):
    def before(self, args, state, control, **rest):
        if state.global_step == step:
            raise error

    return before


@pytest.fixture(autouse=True)
def _as_it_was():
    yield
    if "on_step_begin" in vars(watch.Watch):
        del watch.Watch.on_step_begin


def test_a_run_goes_on_with_any_number_of_processes(context, tokenizer_artifact):
    whole, moved = context("whole", tokenizer=tokenizer_artifact), context("moved", tokenizer=tokenizer_artifact)
    pretrain.run(PretrainConfig.model_validate(SHORT), whole)
    for processes, train, error, done in (
        (1, until_four, KeyboardInterrupt, 3),
        (2, until_seven, ModelError, 6),
    ):
        config = PretrainConfig.model_validate({**SHORT, "processes": processes})
        with pytest.raises(error) as caught:
            together(train, config, moved, moved.out / "work")
        (checkpoint,) = (moved.out / "checkpoints").iterdir()
        assert checkpoint.name == f"checkpoint-{done}"
    assert "one of 2 processes failed" in str(caught.value)
    assert "nothing here" in str(caught.value)
    del watch.Watch.on_step_begin
    pretrain.run(PretrainConfig.model_validate(SHORT), moved)
    assert [line["step"] for line in journal(moved.out)] == list(range(1, 10))
    # The loss of every step tells that its data were the same.
    for one, other in zip(journal(whole.out), journal(moved.out), strict=True):
        assert one["tokens"] == other["tokens"]
        assert one["loss"] == pytest.approx(other["loss"], rel=1e-4)
    first, second = (load_file(ctx.out / "model.safetensors") for ctx in (whole, moved))
    for name, weight in first.items():
        torch.testing.assert_close(weight, second[name], rtol=1e-3, atol=1e-5)


def test_replay_keeps_its_share_through_the_whole_run(tokenizer, tokenizer_artifact):
    sources = open_sources(tokenizer_artifact.path / "packed", tokenizer, 7)
    config = PretrainConfig.model_validate(
        {
            "length": 64, "steps": 40, "batch": 16,
            "replay": {"languages": ["en"], "share": 0.25},
            "start": {"weights": {"de": 1.0}, "pairs": 0.0}, "end": {"weights": {"zh": 1.0}, "pairs": 0.0},
        }
    )  # fmt: skip
    rows = plan_text(sources, config, 7, 1)
    names = [source.name for source in sources]
    for begin, other in ((0, "de"), (len(rows) * 3 // 4, "zh")):
        pieces = [piece for row in range(begin, begin + len(rows) // 4) for piece in rows.plan.pieces(row)]
        count = dict.fromkeys(names, 0)
        for position, _, size in pieces:
            count[names[rows.drawn[0][position]]] += size
        assert count["en"] / sum(count.values()) == pytest.approx(0.25, abs=0.02)
        assert count[other] == max(count.values())
    config = config.model_copy(update={"replay": config.replay.model_copy(update={"languages": ["fr"]})})
    with pytest.raises(DataError, match="weight for a language without data"):
        plan_text(sources, config, 7, 1)
    with pytest.raises(ValueError, match="either in replay or in weights: de"):
        PretrainConfig.model_validate({"replay": {"languages": ["de"]}, "start": {"weights": {"de": 1.0}}})
