"""Packing: nothing lost, nothing leaked, the same loss."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from caravan.core.errors import DataError
from caravan.train.pack import IGNORED, assemble, filled, grouped, pack

lengths = st.lists(st.integers(0, 50), max_size=60)


@settings(max_examples=60, deadline=None)
@given(lengths, st.integers(1, 40))
def test_every_token_stands_in_exactly_one_place(sizes, length):
    plan = pack(sizes, length, split=True)
    seen = [np.zeros(size, int) for size in sizes]
    for row in range(len(plan)):
        pieces = plan.pieces(row)
        assert sum(size for _, _, size in pieces) == plan.tokens[row] <= length
        for document, start, size in pieces:
            seen[document][start : start + size] += 1
    assert all((count == 1).all() for count in seen)


@settings(max_examples=40, deadline=None)
@given(st.lists(st.integers(1, 20), max_size=60))
def test_documents_that_fit_stay_whole_and_nearly_in_order(sizes):
    plan = pack(sizes, 20, split=False)
    assert sorted(plan.documents) == list(range(len(sizes)))
    assert (plan.sizes == np.array(sizes, int)[plan.documents]).all()


def test_sequences_are_well_filled():
    sizes = np.random.default_rng(0).integers(5, 120, 2000)
    plan = pack(sizes, 256, split=False)
    assert sizes.sum() / (len(plan) * 256) > 0.95


def test_stops_at_the_wanted_number_of_sequences():
    whole, part = pack([9] * 100, 10, split=True), pack([9] * 100, 10, split=True, rows=7)
    assert len(part) == 7
    assert [part.pieces(row) for row in range(7)] == [whole.pieces(row) for row in range(7)]


def test_a_document_that_may_not_be_split_is_refused():
    with pytest.raises(DataError, match="document 1"):
        pack([3, 11], 10, split=False)


def test_a_sequence_has_positions_by_document_and_no_label_across():
    row = assemble([(np.array([5, 6, 7]), None), (np.array([8, 9]), np.array([True, True]))], 7, pad=1)
    assert row["input_ids"].tolist() == [5, 6, 7, 8, 9, 1, 1]
    assert row["position_ids"].tolist() == [0, 1, 2, 0, 1, 0, 1]
    assert row["labels"].tolist() == [IGNORED, 6, 7, IGNORED, 9, IGNORED, IGNORED]


def test_only_supervised_tokens_have_labels():
    row = assemble([(np.array([5, 6, 7, 8]), np.array([False, False, True, True]))], 5, pad=1)
    assert row["labels"].tolist() == [IGNORED, IGNORED, 7, 8, IGNORED]


@pytest.fixture
def documents():
    rng = np.random.default_rng(1)
    return [rng.integers(12, 300, size) for size in (11, 20, 7)]


def _forward(model, row, **flags):
    batch = {key: torch.from_numpy(value)[None] for key, value in row.items()}
    return model(**batch, use_cache=False, **flags)


def test_packed_loss_is_the_sum_over_the_documents_alone(llama, documents):
    packed = _forward(llama, assemble([(ids, None) for ids in documents], 48, pad=1), num_items_in_batch=1)
    alone = [_forward(llama, assemble([(ids, None)], 48, pad=1), num_items_in_batch=1) for ids in documents]
    torch.testing.assert_close(packed.loss, sum(output.loss for output in alone))


def test_a_document_does_not_see_the_one_before_it(llama, documents):
    one, two, three = documents
    before = _forward(llama, assemble([(one, None), (two, None), (three, None)], 48, pad=1)).logits
    after = _forward(llama, assemble([(one[::-1].copy(), None), (two, None), (three, None)], 48, pad=1)).logits
    assert not torch.allclose(before[0, :11], after[0, :11])
    torch.testing.assert_close(before[0, 11:], after[0, 11:])


def test_rows_of_unlike_length_are_filled_with_what_is_not_learnt():
    rows = [np.array([3, 4, 5]), np.array([7]), np.array([], np.int64)]
    assert filled(rows).tolist() == [[3, 4, 5], [7, IGNORED, IGNORED], [IGNORED] * 3]
    assert filled(rows, 4).shape == (3, 4)


def test_documents_alone_come_in_batches_of_like_length():
    lengths = np.random.default_rng(5).integers(5, 200, 1003)
    plan = pack(lengths, 200, split=False, alone=True)
    ordered = grouped(plan, 16, seed=3)
    assert sorted(ordered.documents) == list(range(1003))
    assert np.array_equal(lengths[ordered.documents], ordered.sizes)
    batches = [ordered.sizes[start : start + 16] for start in range(0, 1003, 16)]
    filled_up = sum(int(batch.max()) * len(batch) for batch in batches)
    assert filled_up < 1.05 * lengths.sum()
    assert len(batches[-1]) == 1003 % 16
    means = [batch.mean() for batch in batches[:32]]
    assert np.abs(np.diff(means)).mean() > 30, "short and long batches come mixed"
    assert np.array_equal(ordered.documents, grouped(plan, 16, seed=3).documents)
    assert len(grouped(pack([], 200, split=False, alone=True), 16, seed=3)) == 0
