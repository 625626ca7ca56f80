from __future__ import annotations

from collections import Counter

import numpy as np
import pyarrow as pa
from hypothesis import given, settings
from hypothesis import strategies as st

from caravan.curate.characters import TABLE_SIZE, kinds
from caravan.curate.kernels import buffers, clear, count_in, decode, decode_kinds, slot_of, times_in

ANY_TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=120)


@settings(deadline=None, derandomize=True)
@given(ANY_TEXT)
def test_decoding_agrees_with_python(text: str) -> None:
    data, offsets = buffers(pa.array([text]))
    points, again, kind = (
        np.empty(len(text) + 1, np.uint32),
        np.empty(len(text) + 1, np.uint32),
        np.empty(500, np.uint8),
    )
    count = decode(data, offsets[0], offsets[1], points)
    assert points[:count].tolist() == [ord(character) for character in text]
    assert decode_kinds(data, offsets[0], offsets[1], kinds(), again, kind) == count
    assert again[:count].tolist() == points[:count].tolist()
    known = points[:count] < TABLE_SIZE
    assert (kind[:count][known] == kinds()[points[:count][known]]).all()


@settings(deadline=None, derandomize=True)
@given(st.lists(st.integers(0, 40).map(lambda n: (n * 0x9E3779B97F4A7C15) & 0xFFFFFFFFFFFFFFFF), max_size=80))
def test_a_table_counts_as_python_does(keys: list[int]) -> None:
    table = np.full(512, 7, np.uint64)
    size = clear(table, len(keys))
    for key in np.array(keys, np.uint64):
        count_in(key, table, slot_of(key, table, size))
    found = {int(key): times_in(table, slot_of(key, table, size)) for key in np.array(keys, np.uint64)}
    assert found == Counter(keys)
