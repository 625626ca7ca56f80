"""The largest learning rate that a model takes: it rises through a warm-up until the gradient norm first spikes.

So was PolyLM's peak rate chosen (arXiv 2307.06018): its norm spiked on the way to 1e-4, and 6e-5 was taken.
"""

from __future__ import annotations

import tempfile
from dataclasses import dataclass, replace
from decimal import ROUND_DOWN, Decimal
from pathlib import Path

from caravan.core.stage import StageContext
from caravan.recipe.probe import ProbeConfig
from caravan.recipe.train import PretrainConfig
from caravan.train.curve import JOURNAL, read_journal
from caravan.train.loop import fit
from caravan.train.pretrain import ready


@dataclass(frozen=True)
class Proposal:
    """What a probe found.

    Attributes:
        proposed: the rate before the spike, rounded down to one digit; without a spike, the highest that was tried.
        spiked: the rate whose step made the norm spike; None: none did.
        steps: how many were made.
    """

    proposed: float
    spiked: float | None
    steps: int


def rate_of(step: int, config: ProbeConfig) -> float:
    """The rate of a step, from 0 on."""
    rises = max(config.steps - 1, 1)
    return config.lowest * (config.highest / config.lowest) ** (min(step, rises) / rises)


def probe(config: ProbeConfig, pretrain: PretrainConfig, ctx: StageContext) -> Proposal:
    """Run the first steps of a recipe's pretraining at a rate that rises; nothing is kept."""
    options = {"steps": config.steps, "learning_rate": config.highest, "save_every": config.steps, "log_every": 1}
    changed = pretrain.model_copy(
        update={**options, "spike": pretrain.spike or PretrainConfig().spike, "tracker": "none"}
    )
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder)
        run = ready(changed, replace(ctx, out=out))
        task = replace(
            run.task,
            title="learning rates",
            course=lambda step, total: rate_of(step, config) / config.highest,
            until_spike=True,
        )
        fit(run.model, run.rows, run.collate, changed, task, out, ctx.seed)
        lines = read_journal(out / JOURNAL)
    if not lines[-1].get("spike"):
        return Proposal(config.highest, None, len(lines))
    # A step's norm is what the rates of the steps before it made of the model.
    made = max(lines[-1]["step"] - 2, 0)
    return Proposal(rounded_down(rate_of(max(made - 1, 0), config)), rate_of(made, config), len(lines))


def rounded_down(rate: float) -> float:
    """To one digit."""
    exact = Decimal(rate)
    return float(exact.quantize(Decimal(1).scaleb(exact.adjusted()), rounding=ROUND_DOWN))
