"""The order of documents: shares, epochs, and purity."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from caravan.core.errors import DataError
from caravan.train.mix import Mixture, hashed, permute

weights = st.lists(st.floats(0.01, 10), min_size=1, max_size=6)


@settings(max_examples=40, deadline=None)
@given(weights, st.integers(0, 5000), st.integers(1, 3000), st.integers(0, 9))
def test_every_block_has_the_shares_of_its_weights(given_weights, first, count, seed):
    mix = Mixture((10**6,) * len(given_weights), tuple(given_weights), tuple(given_weights), 8000, seed=seed)
    source, _ = mix.draw(first, first + count)
    seen = np.bincount(source, minlength=len(given_weights))
    expected = np.array(given_weights) / sum(given_weights) * count
    assert np.abs(seen - expected).max() <= 2 + np.log2(count + 1)


@settings(max_examples=30, deadline=None)
@given(st.integers(1, 400), st.integers(0, 99), st.integers(0, 5))
def test_every_document_comes_once_in_an_epoch(size, seed, epoch):
    mix = Mixture((size,), (1.0,), (1.0,), 10, seed=seed)
    _, document = mix.draw(epoch * size, (epoch + 1) * size)
    assert sorted(document) == list(range(size))


def test_epochs_have_orders_of_their_own():
    _, document = Mixture((500,), (1.0,), (1.0,), 10).draw(0, 1000)
    assert (document[:500] != document[500:]).mean() > 0.9
    assert (document[:500] != np.arange(500)).mean() > 0.9


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 900), st.integers(0, 100), st.integers(0, 9))
def test_a_position_is_the_same_wherever_drawing_starts(first, count, seed):
    mix = Mixture((7, 100, 33), (0.2, 0.5, 0.3), (0.6, 0.1, 0.3), 1000, seed=seed)
    whole, part = mix.draw(0, 1000), mix.draw(first, first + count)
    for all_of_it, piece in zip(whole, part, strict=True):
        np.testing.assert_array_equal(all_of_it[first : first + count], piece)


def test_drawing_from_beyond_a_block_counts_what_came_before(monkeypatch):
    mix = Mixture((7, 100), (0.2, 0.8), (0.6, 0.4), 1000)
    whole = mix.draw(0, 1000)
    monkeypatch.setattr("caravan.train.mix.BLOCK", 64)
    np.testing.assert_array_equal(whole[1][700:], mix.draw(700, 1000)[1])


@pytest.mark.parametrize(("change", "middle"), [((0.0, 1.0), 0.45), ((0.5, 0.5), 0.7), ((0.2, 0.4), 0.7)])
def test_weights_move_from_the_start_to_the_end(change, middle):
    mix = Mixture((10**6,) * 2, (0.8, 0.2), (0.1, 0.9), 9000, *change)
    source, _ = mix.draw(0, 9000)
    assert (source[:300] == 1).mean() == pytest.approx(0.2, abs=0.04)
    assert (source[-300:] == 1).mean() == pytest.approx(0.9, abs=0.04)
    # The share just before the middle: halfway for a line, still the start for a step, the end where it is over.
    expected = {0.45: 0.55, 0.7: 0.2 if change[0] == 0.5 else 0.9}[middle]
    assert (source[4200:4500] == 1).mean() == pytest.approx(expected, abs=0.05)


def test_a_source_without_weight_never_comes():
    source, _ = Mixture((5, 0, 5), (1.0, 0.0, 0.0), (0.5, 0.0, 0.5), 1000).draw(0, 1000)
    assert set(source) == {0, 2}
    source, _ = Mixture((5, 5), (1.0, 0.0), (1.0, 0.0), 1000).draw(0, 5000)
    assert set(source) == {0}


def test_permute_is_a_permutation_for_each_key():
    index = np.arange(1000)
    for key in range(5):
        assert sorted(permute(index, 1000, hashed(key, index * 0))) == list(range(1000))


@pytest.mark.parametrize("bad", [((0,), (1.0,)), ((5,), (0.0,)), ((5,), (-1.0,)), ((5,), (1.0, 1.0))])
def test_refuses_what_cannot_be_mixed(bad):
    sizes, start = bad
    with pytest.raises(DataError):
        Mixture(sizes, start, start, 10)
