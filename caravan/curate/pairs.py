"""Parallel pairs: read from tables with a column a language or with two columns, and checked lightly.

A pair has no direction: its languages stand in alphabetical order, and training draws a direction.
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from itertools import combinations

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from caravan.core.errors import DataError
from caravan.curate.language import Identifier
from caravan.curate.readers import KEY_BITS, parquet_batches, valid_text
from caravan.curate.rows import BrokenFileError, Damage
from caravan.curate.shards import PAIR_SCHEMA, Shard
from caravan.curate.steps import Verdict, verdict_of
from caravan.recipe.curate import PairLimits, PairSource

# A row can give this many pairs; the key of a pair is its row and its place among them.
PAIRS_A_ROW_BITS = 12
OTHER_LANGUAGE = "xx"

# Characters that say what 100 characters of English say, measured on the Universal Declaration of Human Rights.
DENSITY = {"zh": 26, "ja": 39, "ko": 44, "he": 68, "ar": 70, "th": 88}
USUAL_DENSITY = 110
ENGLISH_DENSITY = 100

Sides = dict[str, str]


def read_pairs(shard: Shard, damage: Damage, languages: Sequence[str]) -> Iterator[pa.RecordBatch]:
    """Pairs of a shard in PAIR_SCHEMA.

    Raises:
        BrokenFileError: the file, or the rest of it, cannot be read.
        DataError: the recipe names a column that is not there.
    """
    if not isinstance(shard.source, PairSource):
        for before, batch in parquet_batches(shard, PAIR_SCHEMA.names[1:]):
            keys = pa.array([_key(shard, before + index + 1, 0) for index in range(batch.num_rows)], pa.int64())
            yield _alphabetical(pa.RecordBatch.from_arrays([keys, *batch.columns], schema=PAIR_SCHEMA))
        return
    source = shard.source
    columns = _columns(shard, source, languages)
    wanted = set(source.languages or languages)
    for before, batch in parquet_batches(shard, [*columns.values(), *filter(None, [source.language_column])]):
        rows = [
            row
            for index, sides in enumerate(_sides(shard, source, columns, batch, before, damage))
            for row in _pairs(
                shard, before + index + 1, {name: sides[name] for name in sides if name in wanted}, source
            )
        ]
        arrays = zip(*rows, strict=True) if rows else [[] for _ in PAIR_SCHEMA]
        yield pa.RecordBatch.from_arrays(
            [pa.array(values, kind.type) for values, kind in zip(arrays, PAIR_SCHEMA, strict=True)], schema=PAIR_SCHEMA
        )


def _columns(shard: Shard, source: PairSource, languages: Sequence[str]) -> dict[str, str]:
    """Column of each language; `xx` for the one that the row names."""
    if source.columns is not None:
        return source.columns
    import pyarrow.parquet as pq

    try:
        there = pq.read_schema(shard.path).names
    except (pa.ArrowException, OSError) as error:
        raise BrokenFileError(str(error)) from error
    found = {language: language for language in source.languages or languages if language in there}
    if len(found) < 2:
        raise DataError(
            "no two columns are named after languages of the run",
            where=shard.name,
            expected=f"columns such as {', '.join(languages)}",
            got=", ".join(there),
            fix="add `columns: {en: ..., zh: ...}` to this source of the recipe",
        )
    return found


def _sides(
    shard: Shard, source: PairSource, columns: dict[str, str], batch: pa.RecordBatch, before: int, damage: Damage
) -> Iterator[Sides]:
    """For each row, the text of each language that it has; rows with invalid UTF-8 have none."""
    broken: dict[int, str] = {}
    texts: dict[str, list[str | None]] = {}
    for language, column in columns.items():
        values, problems = valid_text(batch[column], shard, column)
        broken |= problems
        texts[language] = values.to_pylist()
    named = batch[source.language_column].to_pylist() if source.language_column else [OTHER_LANGUAGE] * batch.num_rows
    for index, other in enumerate(named):
        if index in broken:
            damage.add(before + index + 1, broken[index])
            yield {}
            continue
        row = {language: values[index] for language, values in texts.items()}
        # Where the row names its language, a missing side is a fault; in a wide table it is a gap.
        if source.language_column:
            yield {other if language == OTHER_LANGUAGE else language: text or "" for language, text in row.items()}
        else:
            yield {language: text for language, text in row.items() if text is not None}


def _pairs(
    shard: Shard, row: int, sides: Sides, source: PairSource
) -> Iterator[tuple[int, str, str, str, str, str, str]]:
    """The pivot with every other language, and some pairs between the others, drawn by file and row."""
    others = [language for language in sides if language != source.pivot]
    chosen = [(source.pivot, language) for language in others] if source.pivot in sides else []
    between = list(combinations(others, 2))
    if source.language_column is None and between:
        draw = random.Random(f"{shard.name}#{row}")
        chosen += draw.sample(between, min(source.others, len(between)))
    for index, languages in enumerate(chosen):
        first, second = sorted(languages)
        name = f"{shard.name}#{row}:{first}-{second}"
        yield _key(shard, row, index), name, first, second, sides[first], sides[second], shard.name


def _key(shard: Shard, row: int, index: int) -> int:
    return (shard.number << KEY_BITS) + (row << PAIRS_A_ROW_BITS) + index


def _alphabetical(batch: pa.RecordBatch) -> pa.RecordBatch:
    """The same pairs, each with its languages in alphabetical order."""
    swap = pc.greater(batch["source_language"], batch["target_language"])
    columns = {name: batch[name] for name in batch.schema.names}
    for kind in ("language", "text"):
        source, target = batch[f"source_{kind}"], batch[f"target_{kind}"]
        columns[f"source_{kind}"] = pc.if_else(swap, target, source)
        columns[f"target_{kind}"] = pc.if_else(swap, source, target)
    return pa.RecordBatch.from_pydict(columns, PAIR_SCHEMA)


class PairStep:
    """Both sides there, of about the same length, different, and in the languages stated."""

    name = "pair"
    REASONS = ("empty side", "identical sides", "lengths differ", "another language than stated")

    def __init__(self, limits: PairLimits, identifier: Identifier) -> None:
        self.limits, self.identifier = limits, identifier

    def judge(self, batch: pa.RecordBatch) -> Verdict:
        sides = [pc.utf8_trim_whitespace(batch[f"{side}_text"]) for side in ("source", "target")]
        lengths = [pc.utf8_length(text).to_numpy(zero_copy_only=False).astype(np.float64) for text in sides]
        shorter, longer = np.minimum(*lengths), np.maximum(*lengths)
        ratio = self._ratio(batch, lengths)
        same = pc.equal(pc.utf8_lower(sides[0]), pc.utf8_lower(sides[1])).to_numpy(zero_copy_only=False)
        doubt = self._doubt(batch, sides, lengths)
        checks = (
            (shorter == 0, shorter),
            (same & (shorter >= self.limits.identical_characters), shorter),
            ((ratio > self.limits.max_ratio) & (longer >= self.limits.ratio_characters), ratio),
            (doubt >= self.limits.contradiction, doubt),
        )
        first = np.full(batch.num_rows, -1, np.int64)
        values = np.full(batch.num_rows, np.nan)
        for index, (failed, value) in enumerate(checks):
            fresh = failed & (first < 0)
            first[fresh], values[fresh] = index, value[fresh]
        return verdict_of(self.REASONS, first, values)

    @staticmethod
    def _ratio(batch: pa.RecordBatch, lengths: list[npt.NDArray[np.float64]]) -> npt.NDArray[np.float64]:
        """Ratio of the sides' lengths, the longer over the shorter, in characters of English."""
        scaled = [
            np.maximum(length, 1) / [_density(name) for name in batch[f"{side}_language"].to_pylist()]
            for side, length in zip(("source", "target"), lengths, strict=True)
        ]
        return np.maximum(scaled[0] / scaled[1], scaled[1] / scaled[0])

    def _doubt(
        self, batch: pa.RecordBatch, sides: list[pa.Array], lengths: list[npt.NDArray[np.float64]]
    ) -> npt.NDArray[np.float64]:
        """Probability of another language than stated on a long side, 0 where there is no doubt."""
        doubt = np.zeros(batch.num_rows)
        for side, text, length in zip(("source", "target"), sides, lengths, strict=True):
            long = length >= self.limits.language_characters
            found, probability = self.identifier.identify(text.filter(pa.array(long)))
            other = found != np.array(batch[f"{side}_language"].to_pylist(), np.str_)[long]
            doubt[long] = np.maximum(doubt[long], np.where(other, probability, 0))
        return doubt


def _density(language: str) -> int:
    return ENGLISH_DENSITY if language == "en" else DENSITY.get(language, USUAL_DENSITY)
