"""Frozen encoders' states: moved ones keep their order, and neither blocks nor threads do not change what is kept."""

from __future__ import annotations

import time

import numpy as np
import torch

from caravan.train.states import BATCH, _side_by_side, blockwise, muted, shifted

STATES_WPd = np.arange(1 * 40 * 2, dtype=np.float16).reshape(1, 40, 2)


def test_moved_states_are_the_same_states_later_but_for_a_silent_stretch() -> None:
    starts = set()
    for seed in range(60):
        moved = shifted(STATES_WPd, 8, np.random.default_rng(seed))
        assert moved.shape == STATES_WPd.shape
        silent_P = (moved[0] == STATES_WPd[0, -1]).all(-1)
        by = next(
            step for step in range(9) if (np.roll(STATES_WPd, step, 1)[0][~silent_P] == moved[0][~silent_P]).all()
        )
        starts.add(by)
        assert silent_P.sum() <= 1 + 8 // 2
    assert starts == set(range(9))


def test_states_stay_as_they_are_unless_asked_and_over_several_windows() -> None:
    rng = np.random.default_rng(0)
    assert shifted(STATES_WPd, 0, rng) is STATES_WPd
    two = np.concatenate([STATES_WPd, STATES_WPd])
    assert shifted(two, 8, rng) is two


def test_muted_channels_are_silent_throughout_and_the_mean_stays() -> None:
    states_WPd = np.random.default_rng(0).normal(3, 1, (1, 5, 9)).astype(np.float32)
    made = np.stack([muted(states_WPd, 0.2, 8, np.random.default_rng(seed)) for seed in range(400)])
    assert (made[..., 8] == states_WPd[..., 8]).all(), "what stands behind the channels is no channel"
    ratio = made[..., :8] / states_WPd[..., :8]
    assert (np.ptp(ratio, axis=2) < 1e-5).all(), "a channel is silent at every position or at none"
    assert set(np.unique(ratio.round(4)).tolist()) == {0.0, 1.25}
    # 3,200 draws: the standard error of the mean is 0.009.
    assert abs(ratio.mean() - 1) < 0.04
    assert muted(states_WPd, 0.0, 8, np.random.default_rng(0)) is states_WPd


def test_attention_in_blocks_is_attention() -> None:
    torch.manual_seed(0)
    query, key, value = torch.randn(3, BATCH + 1, 3, 601, 8)
    whole = torch.nn.functional.scaled_dot_product_attention(query, key, value, scale=0.3).transpose(1, 2)
    torch.testing.assert_close(blockwise(None, query, key, value, None, scaling=0.3)[0], whole)


def test_results_come_in_order_whichever_is_ready_first() -> None:
    def slow_first(begin: int) -> int:
        time.sleep(0.02 if begin == 0 else 0.0)
        return begin

    assert list(_side_by_side(slow_first, range(20))) == list(range(20))
