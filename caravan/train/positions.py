"""Loss against position: what a model makes of the far end of its window, before and after it is changed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.nn import functional

from caravan.core.files import write_json, write_text
from caravan.pages.plots import new_figure, svg
from caravan.train.text_rows import Language, Source

FACTS, PAGE = "positions.json", "positions.html"
SEQUENCES, BINS = 8, 16


def long_texts(sources: Sequence[Source], length: int) -> list[torch.Tensor]:
    """Up to `SEQUENCES` sequences of `length` tokens, each of documents of one language, one after the other."""
    found: list[torch.Tensor] = []
    for source in (each for each in sources if isinstance(each, Language)):
        ids: list[int] = []
        for document in range(min(len(source), length)):
            ids += source.ids(document, 0).tolist()
            if len(ids) >= length:
                found.append(torch.tensor(ids[:length]))
                ids = []
            if len(found) == SEQUENCES:
                return found
    return found


@torch.no_grad()
def loss_by_position(model: Any, texts: Sequence[torch.Tensor]) -> list[float]:
    """Mean loss, in nats, of the tokens in each of `BINS` equal stretches of the texts.

    Stretches that a table of learned positions does not reach are left out.
    """
    config = model.config.get_text_config()
    learned = config.max_position_embeddings if not getattr(config, "rope_parameters", None) else None
    training = model.training
    model.eval()
    losses = []
    for ids in texts:
        given = ids[None, :learned].to(model.device)
        logits = model(input_ids=given, use_cache=False).logits[0, :-1].float()
        losses.append(functional.cross_entropy(logits, given[0, 1:], reduction="none").cpu().numpy())
    model.train(training)
    edges = [len(texts[0]) * place // BINS for place in range(BINS + 1)] if texts else []
    reached = [edge for edge in edges if edge <= len(losses[0]) + 1]
    means = np.mean(losses, axis=0) if losses else np.zeros(0)
    return [float(means[start : end - 1 if end == edges[-1] else end].mean()) for start, end in pairwise(reached)]


def write_report(out: Path, length: int, curves: Mapping[str, Sequence[float]]) -> None:
    """`positions.json` and `positions.html`: a curve for each state of the model."""
    write_json(out / FACTS, {"length": length, "loss": dict(curves)})
    figure = new_figure(9, 4)
    axes = figure.add_subplot()
    for name, losses in curves.items():
        middles = (np.arange(len(losses)) + 0.5) * length / BINS
        axes.plot(middles, losses, label=name)
    axes.set_xlabel("position")
    axes.set_ylabel("loss (nats a token)")
    axes.legend()
    write_text(
        out / PAGE,
        "<!doctype html><html lang='en'><meta charset='utf-8'><title>loss against position</title>"
        f"<h1>Loss against position</h1>{svg(figure, 'loss against position')}</html>\n",
    )
