from __future__ import annotations

import math

import numpy as np
import pytest

from caravan.curate.tails import Tails, cross_fitted, joint_probability
from caravan.recipe.calibration import Calibration

Features = np.ndarray


def unlike_features(count: int, seed: int) -> Features:
    """Light, heavy, mostly zero, bounded, copied and often missing: what real features are like."""
    draw = np.random.default_rng(seed)
    light, heavy = draw.exponential(1, count), draw.lognormal(0, 1.2, count)
    seldom = np.where(draw.random(count) < 0.03, draw.exponential(2, count), 0)
    missing = np.where(draw.random(count) < 0.5, np.nan, draw.normal(0, 1, count))
    constant = np.zeros(count)
    return np.stack([light, heavy, seldom, draw.beta(2, 30, count), light + 0.1 * heavy, missing, constant], 1)


GENERAL = np.array([5.0, 20, 3, 0.6, 9, 4, 1])


def test_a_tail_is_the_mean_excess_over_its_start_with_one_text_more() -> None:
    values = np.arange(1.0, 101)[:, None]
    tails = Tails.fit(values, np.array([195.0]), Calibration(tail=0.1, prior=0.5))
    # The 90 % quantile is 90: ten excesses of 1 to 10, and half of the way from 90 to 195.
    scale = (sum(range(1, 11)) + 52.5) / 11
    assert tails.starts[0] == 90
    assert tails.scales[0] == pytest.approx(scale)
    assert tails.log_probability(np.array([[89.0], [np.nan], [100.0]]))[:, 0] == pytest.approx(
        [0, 0, math.log(11 / 100) - 10 / scale]
    )


def test_limits_are_where_the_probability_is_the_one_asked_for() -> None:
    tails = Tails.fit(unlike_features(2000, 1), GENERAL, Calibration())
    assert tails.log_probability(tails.limits(-9)[None]) == pytest.approx(-9)


@pytest.mark.parametrize("loss", [0.01, 0.03])
def test_all_features_together_lose_of_unseen_texts_what_was_asked_for(loss: float) -> None:
    config, unseen = Calibration(loss=loss), unlike_features(40_000, 99)
    lost = []
    for seed in range(20):
        sample = unlike_features(1000, seed)
        least = joint_probability(cross_fitted(sample, GENERAL, config), loss)
        limits = Tails.fit(sample, GENERAL, config).limits(least)
        lost.append((unseen > limits).any(1).mean())
    # 1000 texts fix the share of a single draw to about loss +- sqrt(loss / 1000).
    assert np.mean(lost) == pytest.approx(loss, rel=0.15)
    assert max(lost) < loss + 3 * math.sqrt(loss / 1000)


def test_a_sample_must_hold_the_text_that_may_be_lost() -> None:
    assert joint_probability(np.arange(-99.0, 0), 0.01) == -99
    assert joint_probability(np.arange(-199.0, 0), 0.01) == -198
    with pytest.raises(ValueError, match="at least 99 texts"):
        joint_probability(np.zeros(98), 0.01)
