"""Fine-tuning sequences: several dialogues packed into one, with the features of their media in order."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from caravan.core.errors import DataError
from caravan.recipe.train import FinetuneConfig
from caravan.train.dialogues import MediaStore, Prepared
from caravan.train.mix import Ints, Mixture
from caravan.train.pack import IGNORED, Plan, assemble, filled, grouped, pack, padded, steps_for

MULTIPLE = 8  # of a batch's length, where its rows differ


@dataclass(frozen=True)
class Sense:
    """How the model takes one kind of media.

    Attributes:
        argument: of the model's forward pass: input_features, speech_states, pixel_values or vision_states.
        store: the media.
        features: from a row of the store to an array whose first axis counts windows or pictures.
        vary: makes another variant of such an array at each of its uses, or leaves it as it is.
    """

    argument: str
    store: MediaStore
    features: Callable[[int], NDArray[np.floating]]
    vary: Callable[[NDArray[np.floating], np.random.Generator], NDArray[np.floating]] = lambda array, _: array


@dataclass(frozen=True)
class DialogueRows:
    """The sequences of a fine-tuning run.

    Attributes:
        prepared: the dialogues. order: the dialogue at each position of the run.
        plan: which position stands in which sequence.
        rows: sequences, the empty ones that fill up the last batch included.
        pad: id that fills a sequence up.
        alone: whether each dialogue has a sequence of its own, as long as it is; else all are of one length.
        seed: of the variants of the media.
        senses: how media become the model's arguments.
    """

    prepared: Prepared
    order: Ints
    plan: Plan
    rows: int
    pad: int
    alone: bool = False
    seed: int = 0
    senses: tuple[Sense, ...] = ()

    @property
    def tokens(self) -> Ints:
        return padded(self.plan.tokens, self.rows)

    def __len__(self) -> int:
        return self.rows

    def __getitem__(self, row: int) -> dict[str, NDArray[Any]]:
        dialogues = [int(self.order[position]) for position, _, _ in self.plan.pieces(row)]
        pieces = [self.prepared.piece(dialogue) for dialogue in dialogues]
        length = max(1, sum(len(ids) for ids, _ in pieces)) if self.alone else self.plan.length
        result: dict[str, NDArray[Any]] = dict(assemble(pieces, length, self.pad))
        rng = np.random.default_rng((self.seed, row))
        for sense in self.senses:
            media = [int(item) for dialogue in dialogues for item in sense.store.of(dialogue)]
            arrays = [sense.vary(sense.features(item), rng) for item in media]
            if arrays:
                result[sense.argument] = np.concatenate(arrays)
        return result


def plan_dialogues(
    prepared: Prepared, config: FinetuneConfig, seed: int, pad: int, *, alone: bool = False
) -> DialogueRows:
    """Plan a whole fine-tuning run over the wanted tasks.

    Tasks of one weight are one source: with equal weights every dialogue comes exactly once in an epoch. With `alone`,
    each has a sequence of its own, in batches of like length.

    Raises:
        DataError: there is none of these tasks.
    """
    unwanted = set(prepared.tasks) - set(prepared.tasks if config.tasks is None else config.tasks)
    if unwanted == set(prepared.tasks):
        raise DataError(
            "no dialogue is left to train on",
            expected=f"dialogues of the tasks {', '.join(config.tasks or ())}",
            got=f"tasks {', '.join(sorted(unwanted))}",
            fix="correct `tasks`, or instruct's sources",
        )
    weight_N = np.array([0.0 if task in unwanted else config.weights.get(task, 1.0) for task in prepared.tasks])
    weights = [weight for weight in np.unique(weight_N) if weight > 0]
    members = [np.flatnonzero(weight_N == weight) for weight in weights]
    share = tuple(float(weight * len(member)) for weight, member in zip(weights, members, strict=True))
    wanted = None if config.steps is None else config.steps * config.batch
    per_epoch = sum(map(len, members))
    positions = round(config.epochs * per_epoch)
    while True:
        mixture = Mixture(tuple(map(len, members)), share, share, positions, seed=seed)
        source_N, member_N = mixture.draw(0, positions)
        order = np.empty_like(member_N)
        for source, member in enumerate(members):
            order[source_N == source] = member[member_N[source_N == source]]
        plan = pack(prepared.lengths[order], config.length, split=False, rows=wanted, alone=alone)
        if wanted is None or len(plan) >= wanted:
            break
        positions *= 2
    if alone:
        plan = grouped(plan, config.batch, seed)
    return DialogueRows(prepared, order, plan, steps_for(len(plan), config.batch) * config.batch, pad, alone, seed)


def collate(rows: Sequence[Mapping[str, Any]], pad: int = 0) -> dict[str, torch.Tensor]:
    """A batch: input_ids, position_ids and labels [B, T]; features of all media, in order, where there are any.

    Rows of unlike length are filled up with `pad`, without loss, to a length that suits hardware.
    """
    fill = {"input_ids": pad, "position_ids": 0, "labels": IGNORED}
    multiple = 1 if len({len(row["input_ids"]) for row in rows}) == 1 else MULTIPLE
    batch = {key: torch.from_numpy(filled([row[key] for row in rows], multiple, fill[key])) for key in fill}
    for argument in {key for row in rows for key in row} - batch.keys():
        arrays = [row[argument] for row in rows if argument in row]
        batch[argument] = torch.from_numpy(np.concatenate(arrays).astype(np.float32, copy=False))
    return batch


def without_positions(rows: Sequence[Mapping[str, Any]], pad: int = 0) -> dict[str, torch.Tensor]:
    """A batch of sequences that hold one dialogue each, whose positions follow those of a prefix or prompt."""
    batch = collate(rows, pad)
    del batch["position_ids"]
    return batch
