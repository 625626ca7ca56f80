"""Personal data in documents and pairs gives way to placeholders."""

from __future__ import annotations

from collections import Counter, defaultdict
from itertools import groupby
from operator import itemgetter

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from caravan.curate.personal import Place, kind_of_data
from caravan.curate.spans import find_spans
from caravan.curate.steps import MASKED, Verdict, verdict_of
from caravan.recipe.privacy import PrivacyConfig

BEFORE, AFTER = 40, 4  # bytes around a place that are looked at


class PrivacyStep:
    """Mask personal data and write down what was masked, such as `email 2, phone 1`; nothing is dropped.

    Args:
        columns: each column of text with the column of its language.
    """

    name = "privacy"
    REASONS = ()

    def __init__(self, config: PrivacyConfig, columns: dict[str, str]) -> None:
        self.config, self.columns = config, columns

    def judge(self, batch: pa.RecordBatch) -> Verdict:
        counts: dict[int, Counter[str]] = defaultdict(Counter)
        texts = {name: self._masked(batch[name], batch[language], counts) for name, language in self.columns.items()}
        told = {row: ", ".join(f"{kind} {count[kind]}" for kind in sorted(count)) for row, count in counts.items()}
        masked = _replaced(pa.nulls(batch.num_rows, MASKED.type), told)
        first = np.full(batch.num_rows, -1, np.int64)
        return verdict_of(self.REASONS, first, np.full(batch.num_rows, np.nan), {**texts, MASKED.name: masked})

    def _masked(self, texts: pa.Array, languages: pa.Array, counts: dict[int, Counter[str]]) -> pa.Array:
        """The texts with placeholders; what was found is added to the counts by row."""
        placeholders = self.config.placeholders
        changed: dict[int, str] = {}
        for row, places in groupby(find_spans(texts).tolist() if placeholders else [], itemgetter(0)):
            text, language = texts[row].as_py().encode(), languages[row].as_py()
            pieces, end = [], 0
            for _, kind, start, stop in places:
                around = text[max(0, start - BEFORE) : start], text[stop : stop + AFTER]
                before, after = (part.decode(errors="ignore") for part in around)
                found = kind_of_data(Place(kind, text[start:stop].decode(), before, after, language), self.config)
                if found in placeholders:
                    pieces += [text[end:start], placeholders[found].encode()]
                    end = stop
                    counts[row][found] += 1
            if pieces:
                changed[row] = b"".join([*pieces, text[end:]]).decode()
        return _replaced(texts, changed)


def _replaced(values: pa.Array, by: dict[int, str]) -> pa.Array:
    """The values with those of some rows exchanged."""
    mask = np.zeros(len(values), np.bool_)
    mask[list(by)] = True
    return pc.replace_with_mask(values, mask, pa.array(by.values(), values.type)) if by else values
