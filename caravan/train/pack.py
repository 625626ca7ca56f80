"""Documents packed into sequences of one length: the plan of a whole run, and the arrays of one sequence.

Greedy best fit over a few open sequences keeps the order of the documents up to that few. A document that is longer
than a sequence is split where that is allowed. Positions restart with each piece, from which the model derives the
document mask; the first token of a piece has no label, for nothing before it may predict it.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from caravan.core.errors import DataError

Ints = NDArray[np.int64]
IGNORED = -100
OPEN_SEQUENCES = 8
GROUPED_BATCHES = 32


@dataclass(frozen=True)
class Plan:
    """Which piece of which document stands in which sequence.

    Attributes:
        length: tokens in a sequence.
        documents: for each piece, the index of its document in the order given.
        starts: the piece's first token within its document.
        sizes: tokens of the piece.
        edges: sequence r holds the pieces edges[r] to edges[r + 1].
    """

    length: int
    documents: Ints
    starts: Ints
    sizes: Ints
    edges: Ints

    def __len__(self) -> int:
        return len(self.edges) - 1

    def pieces(self, row: int) -> list[tuple[int, int, int]]:
        """(document, start, size) of each piece of a sequence; beyond the last sequence there are none."""
        if row >= len(self):
            return []
        here = slice(self.edges[row], self.edges[row + 1])
        return list(
            zip(self.documents[here].tolist(), self.starts[here].tolist(), self.sizes[here].tolist(), strict=True)
        )

    @property
    def tokens(self) -> Ints:
        """Tokens in each sequence [R], padding not counted."""
        total = np.concatenate([[0], np.cumsum(self.sizes)])
        return np.diff(total[self.edges])


def steps_for(rows: int, batch: int) -> int:
    """Optimiser steps that see every one of `rows` sequences; the last batch is filled up with empty ones."""
    return -(-rows // batch)


def cut(lengths: Iterable[int], length: int, split: bool) -> Iterable[tuple[int, int, int]]:
    """Pieces (document, start, size) no longer than `length`, in order.

    Raises:
        DataError: a document is longer and may not be split.
    """
    for document, total in enumerate(lengths):
        if total > length and not split:
            raise DataError(
                "a document is longer than a sequence", where=f"document {document}", expected=f"<= {length}", got=total
            )
        for start in range(0, total, length):
            yield document, start, min(length, total - start)


def pack(
    lengths: Sequence[int] | Ints, length: int, *, split: bool, rows: int | None = None, alone: bool = False
) -> Plan:
    """Plan sequences of `length` tokens from documents of these lengths, in this order.

    Args:
        lengths: tokens of each document; empty documents are left out.
        split: whether a longer document is split into several pieces.
        rows: stop when so many sequences are full; default: until every token is placed.
        alone: each piece has a sequence of its own.

    Raises:
        DataError: a document is longer than a sequence and may not be split.
    """
    closed: list[list[tuple[int, int, int]]] = []
    room: list[int] = []
    opened: list[list[tuple[int, int, int]]] = []

    def close(index: int) -> None:
        closed.append(opened.pop(index))
        room.pop(index)

    for piece in cut(np.asarray(lengths).tolist(), length, split):
        size = piece[2]
        fitting = [] if alone else [free for free in room if free >= size]
        if fitting:
            index = room.index(min(fitting))
        else:
            if len(room) == OPEN_SEQUENCES:
                close(room.index(min(room)))
            room.append(length)
            opened.append([])
            index = len(room) - 1
        opened[index].append(piece)
        room[index] -= size
        if room[index] == 0 or alone:
            close(index)
        if rows is not None and len(closed) >= rows:
            break
    else:
        while opened:
            close(0)
    closed = closed[:rows]
    flat = np.array([piece for row in closed for piece in row], np.int64).reshape(-1, 3)
    edges = np.cumsum([0] + [len(row) for row in closed], dtype=np.int64)
    return Plan(length, flat[:, 0], flat[:, 1], flat[:, 2], edges)


def grouped(plan: Plan, batch: int, seed: int) -> Plan:
    """A plan of one piece a sequence, in such an order that those of a batch are of like length.

    The sequences of some batches are sorted by length, and these batches come in random order; a batch that is not
    full stays the last.
    """
    order = []
    for begin in range(0, len(plan), GROUPED_BATCHES * batch):
        here = begin + np.argsort(plan.sizes[begin : begin + GROUPED_BATCHES * batch], kind="stable")
        batches = [here[start : start + batch] for start in range(0, len(here), batch)]
        full = len(here) // batch
        order += [batches[index] for index in np.random.default_rng((seed, begin)).permutation(full)] + batches[full:]
    by_length = np.concatenate([np.zeros(0, np.int64), *order])
    return Plan(plan.length, plan.documents[by_length], plan.starts[by_length], plan.sizes[by_length], plan.edges)


def padded(tokens: Ints, rows: int) -> Ints:
    """Tokens in each of `rows` sequences, of which the last ones are empty."""
    return np.pad(tokens, (0, rows - len(tokens)))


def filled(ids: Sequence[Ints], multiple: int = 1, value: int = IGNORED) -> Ints:
    """Rows of unlike length as one array [B, T], T a multiple of `multiple`, the rest `value`."""
    length = -(-max(map(len, ids)) // multiple) * multiple
    return np.stack([np.pad(row, (0, length - len(row)), constant_values=value) for row in ids]).astype(np.int64)


def assemble(
    pieces: Sequence[tuple[NDArray[np.integer], NDArray[np.bool_] | None]], length: int, pad: int
) -> dict[str, Ints]:
    """One sequence from its pieces: input_ids, position_ids and labels, each [length].

    Args:
        pieces: ids of each piece, and which of them carry loss (None: all).
        pad: id that fills the rest, without loss and with positions of its own.
    """
    input_ids = np.full(length, pad, np.int64)
    labels = np.full(length, IGNORED, np.int64)
    position_ids = np.empty(length, np.int64)
    at = 0
    for ids, learnt in pieces:
        end = at + len(ids)
        input_ids[at:end] = ids
        labels[at:end] = ids if learnt is None else np.where(learnt, ids, IGNORED)
        labels[at : at + 1] = IGNORED
        position_ids[at:end] = np.arange(len(ids))
        at = end
    position_ids[at:] = np.arange(length - at)
    return {"input_ids": input_ids, "position_ids": position_ids, "labels": labels}
