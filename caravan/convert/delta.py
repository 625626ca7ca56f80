"""Vicuna's deltas: tuned minus base for each weight, for whom the base may not be given on (lmsys.org, Vicuna v0).

Tables of tokens may have more or fewer rows than the base's; every other difference in shape is an error.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor

from caravan.convert.folder import Model, torch_dtype, write_folder
from caravan.convert.weights import Lazy, Weights, take
from caravan.core.errors import ModelError
from caravan.core.files import read_json, write_json
from caravan.core.log import get_logger
from caravan.models.grow import tables_of

log = get_logger(__name__)
FACTS = "delta.json"
NewRows = Literal["zero", "mean"]


@dataclass
class Tally:
    """How exactly a delta gives the tuned weights back, counted weight by weight as it is written."""

    counted: set[str] = field(default_factory=set)
    values: int = 0
    inexact: int = 0
    worst: float = 0.0

    def count(self, name: str, tuned: Tensor, again: Tensor) -> None:
        if name in self.counted:
            return
        self.counted.add(name)
        off = (tuned.double() - again.double()).abs()
        self.values += tuned.numel()
        self.inexact += int((tuned != again).sum())
        self.worst = max(self.worst, float(off.max()) if off.numel() else 0.0)


def make_delta(
    tuned: Model, base: Model, out: Path, *, dtype: str | None, new_rows: NewRows, shard_gb: float
) -> dict[str, Any]:
    """Write what a tuned model has over its base, and `delta.json`, which says how exactly it gives the model back.

    Args:
        dtype: type of the delta; None: the tuned model's. In float32 every 16-bit model comes back bit for bit.

    Returns:
        what `delta.json` says.

    Raises:
        ModelError: the two are not of one shape.
    """
    tables = differing_tables(tuned.weights, base, new_rows)
    tally = Tally()
    store = torch_dtype(dtype)

    def delta(name: str, lazy: Lazy) -> Lazy:
        under = take(base.weights, name, base.folder)
        to = store if store and lazy.dtype.is_floating_point else lazy.dtype

        def read() -> Tensor:
            told, bottom = lazy.read(), fitted(under.read(), lazy.shape[0] if lazy.shape else 0, new_rows)
            made = (told.float() - bottom).to(to) if lazy.dtype.is_floating_point else told
            tally.count(name, told, _sum(made, bottom, lazy.dtype))
            return made

        return Lazy(lazy.shape, to, read)

    weights = {name: delta(name, lazy) for name, lazy in tuned.weights.items()}
    write_folder(out, Model(tuned.settings, weights, tuned.folder), shard_gb=shard_gb)
    for name in weights.keys() - tally.counted:  # of files that an earlier attempt finished
        weights[name].read()
    facts = {
        "base": base.settings.get("_name_or_path") or base.folder.name,
        "new_rows": new_rows,
        "tables": tables,
        "dtypes": {name: str(lazy.dtype).removeprefix("torch.") for name, lazy in tuned.weights.items()},
        "exact_share": 1 - tally.inexact / max(tally.values, 1),
        "largest_error": tally.worst,
    }
    write_json(out / FACTS, facts)
    return {key: value for key, value in facts.items() if key != "dtypes"}


def apply_delta(
    delta: Model, base: Model, out: Path, *, dtype: str | None, new_rows: NewRows, shard_gb: float
) -> dict[str, Any]:
    """Write the tuned model: base plus delta, in float32, rounded once.

    Config and tokenizer are the delta's. What `delta.json` says of new rows goes before `new_rows`.

    Raises:
        ModelError: the two are not of one shape.
    """
    facts: dict[str, Any] = read_json(delta.folder / FACTS) if (delta.folder / FACTS).is_file() else {}
    new_rows = facts.get("new_rows", new_rows)
    tables = differing_tables(delta.weights, base, new_rows)
    types = facts.get("dtypes", {})

    def tuned(name: str, lazy: Lazy) -> Lazy:
        under = take(base.weights, name, base.folder)
        to = torch_dtype(dtype or types.get(name)) or under.dtype
        if not lazy.dtype.is_floating_point:
            return lazy
        rows = lazy.shape[0] if lazy.shape else 0
        return Lazy(lazy.shape, to, lambda: _sum(lazy.read(), fitted(under.read(), rows, new_rows), to))

    weights = {name: tuned(name, lazy) for name, lazy in delta.weights.items()}
    write_folder(out, Model(delta.settings, weights, delta.folder), shard_gb=shard_gb)
    return {"tables": tables, "new_rows": new_rows}


def _sum(delta: Tensor, bottom: Tensor, dtype: torch.dtype) -> Tensor:
    return (delta.float() + bottom).to(dtype) if dtype.is_floating_point else delta


def fitted(base: Tensor, rows: int, new_rows: NewRows) -> Tensor:
    """The base's values in float32, with as many rows as are wanted: cut, or with zeros or the mean of all below."""
    bottom = base.float()
    if not bottom.dim() or bottom.shape[0] >= rows:
        return bottom[:rows] if bottom.dim() else bottom
    more = rows - bottom.shape[0]
    row = bottom.double().mean(0).float() if new_rows == "mean" else torch.zeros_like(bottom[0])
    return torch.cat([bottom, row.expand(more, *row.shape)])


def differing_tables(weights: Weights, base: Model, new_rows: NewRows) -> dict[str, dict[str, int]]:
    """Tables of tokens that have another number of rows than the base's, by name; each is told of.

    Raises:
        ModelError: anything else differs in shape, or is in one of the two alone.
    """
    tables, prefix = tables_of(base.config)
    known = tables | {name.removeprefix(prefix) for name in tables}
    found = {}
    lacking = base.weights.keys() - weights.keys() - tables
    if lacking:
        raise ModelError(
            "a weight of the base is missing", expected=sorted(lacking)[0], got="none", fix="name its base"
        )
    for name, lazy in weights.items():
        under = take(base.weights, name, base.folder)
        if lazy.shape == under.shape:
            continue
        if name not in known or lazy.shape[1:] != under.shape[1:]:
            raise ModelError(
                "the two models are not of one shape",
                where=name,
                expected=under.shape,
                got=lazy.shape,
                fix="name the very base that the model was tuned from; only tables of tokens may differ, in their rows",
            )
        found[name] = {"base": under.shape[0], "tuned": lazy.shape[0]}
        rows = f"{name}: {lazy.shape[0]} rows, {under.shape[0]} in the base"
        what = "left out" if lazy.shape[0] < under.shape[0] else f"taken over {new_rows}"
        log.warning("%s; rows from %d on are %s", rows, min(lazy.shape[0], under.shape[0]), what)
    return found
