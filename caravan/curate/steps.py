"""A step looks at a batch of rows and says of each, with a reason and the measured value, whether it goes.

A new filter is a class with a name and `judge`, added to one of the two lists in `Judge.build`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

# What every step leaves behind; kept rows have null in all three.
VERDICT_FIELDS = (pa.field("step", pa.string()), pa.field("reason", pa.string()), pa.field("value", pa.float64()))

# Which repairs changed a document and how many characters each took, such as `URL lines 61, whitespace 2`; or null.
REPAIRS = pa.field("repairs", pa.string())

# How a language that is written in several ways is written, as a BCP 47 tag; today Chinese.
VARIANT = pa.field("variant", pa.string())

# What personal data was masked, such as `email 2, phone 1`; null for none.
MASKED = pa.field("masked", pa.string())

# What steps write down of documents, kept and rejected; filters that are asked for add their own.
NOTES = (VARIANT, REPAIRS, MASKED)


@dataclass(frozen=True)
class Verdict:
    """What a step says of the rows of a batch [n].

    Attributes:
        reason: why a row is dropped; null where it stays.
        value: what was measured where a row is dropped.
        columns: columns of the batch that the step fills in, such as the language it found.
    """

    reason: pa.Array
    value: pa.Array
    columns: Mapping[str, pa.Array] = field(default_factory=dict)


class Step(Protocol):
    """One filter. Rows that an earlier step dropped are not shown to it."""

    name: str

    def judge(self, batch: pa.RecordBatch) -> Verdict: ...


def verdict_of(
    reasons: Sequence[str],
    first: npt.NDArray[np.int64],
    values: npt.NDArray[np.float64],
    columns: Mapping[str, pa.Array] | None = None,
) -> Verdict:
    """A verdict from the index of each row's reason [n], -1 where it stays, and the measured values [n]."""
    dropped = first >= 0
    names = pa.array([*reasons, None], pa.string())
    return Verdict(
        reason=names.take(pa.array(np.where(dropped, first, len(reasons)))),
        value=pa.array(values, mask=~dropped),
        columns=columns or {},
    )


def with_notes(batch: pa.RecordBatch, *columns: pa.Field) -> pa.RecordBatch:
    """The batch with columns that steps fill in, empty yet."""
    for column in columns:
        batch = batch.append_column(column, pa.nulls(batch.num_rows, column.type))
    return batch


def judge_all(steps: Sequence[Step], batch: pa.RecordBatch) -> pa.RecordBatch:
    """Run a batch through steps in order; the first that drops a row gives its verdict.

    Returns:
        the batch, columns that steps fill in filled in, with VERDICT_FIELDS appended.
    """
    shown, places = with_notes(batch, *VERDICT_FIELDS), np.arange(batch.num_rows)
    # Text is copied where rows go, not for every step.
    parts, order = [], []
    for step in steps:
        if not shown.num_rows:
            break
        verdict = step.judge(shown)
        goes = pc.is_valid(verdict.reason)
        named = pc.if_else(goes, step.name, pa.scalar(None, pa.string()))
        shown = _filled(shown, {**verdict.columns, "step": named, "reason": verdict.reason, "value": verdict.value})
        if pc.any(goes).as_py():
            gone = goes.to_numpy(zero_copy_only=False)
            parts.append(shown.filter(goes))
            order.append(places[gone])
            shown, places = shown.filter(pc.invert(goes)), places[~gone]
    if not parts:
        return shown
    whole = pa.Table.from_batches([*parts, shown]).combine_chunks()
    return whole.take(pa.array(np.argsort(np.concatenate([*order, places])))).to_batches()[0]


def _filled(batch: pa.RecordBatch, columns: Mapping[str, pa.Array]) -> pa.RecordBatch:
    """The batch with other values in some of its columns."""
    given = {name: batch[name] for name in batch.schema.names}
    cast = {name: values.cast(batch.schema.field(name).type) for name, values in columns.items()}
    return pa.RecordBatch.from_arrays(list((given | cast).values()), schema=batch.schema)


def by_language(batch: pa.RecordBatch) -> Iterator[tuple[str, pa.RecordBatch]]:
    """The rows of each language, in the order of the languages' names."""
    for language in sorted(pc.unique(batch["language"]).to_pylist()):
        yield language, batch.filter(pc.equal(batch["language"], language))
