from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from caravan.curate.classifier.hashing import Shape, hash_texts
from caravan.curate.classifier.logistic import Classifier
from tests.curate.conftest import sentences

SHAPE = Shape(words=2, shortest=1, longest=3, bits=12, window=0)
BOUND = 1e-5  # of float32 weights against float64


def test_descent_and_score_are_those_of_a_naive_computation() -> None:
    texts = [*sentences(6), "spam !!!", "", "buy buy now"]
    targets, shares = np.array([1.0] * 6 + [0.0] * 3), np.array([0.75] * 6 + [1.5] * 3)
    classifier, order, hashed = Classifier(SHAPE), np.arange(9)[::-1].copy(), hash_texts(pa.array(texts), SHAPE)
    weights = [0.0] * (1 << SHAPE.bits)
    for rate in (2.0, 1.0):
        classifier.learn(hashed, order, targets, shares, rate)
        for row in order:
            mine = hashed.places[hashed.bounds[row] : hashed.bounds[row + 1]].tolist()
            if mine:
                value = 1 / math.sqrt(len(mine))
                guess = 1 / (1 + math.exp(-sum(weights[place] * value for place in mine)))
                for place in mine:
                    weights[place] += rate * shares[row] * (targets[row] - guess) * value
    np.testing.assert_allclose(classifier.weights, weights, atol=BOUND)
    scores = classifier.score(pa.array(texts))
    for row, score in enumerate(scores):
        mine = hashed.places[hashed.bounds[row] : hashed.bounds[row + 1]].tolist()
        total = sum(weights[place] for place in mine)
        assert not mine or score == pytest.approx(1 / (1 + math.exp(-total / math.sqrt(len(mine)))), abs=BOUND)
    assert math.isnan(scores[7])
    assert scores[0] > 0.5 > scores[6]


def test_many_passes_reach_the_least_loss() -> None:
    """At the optimum the gradient of the log loss is nothing; labels that contradict each other keep it finite."""
    texts = ["a b", "a c", "d b", "a b", "d c", "d c"]
    targets = np.array([1.0, 1, 0, 0, 0, 1])
    classifier, hashed = Classifier(SHAPE), hash_texts(pa.array(texts), SHAPE)
    for epoch in range(4000):
        classifier.learn(hashed, np.arange(6), targets, np.ones(6), 20 / (10 + epoch))
    errors = targets - classifier.score(pa.array(texts))
    gradient = np.zeros(1 << SHAPE.bits)
    for row, error in enumerate(errors):
        mine = hashed.places[hashed.bounds[row] : hashed.bounds[row + 1]]
        gradient[mine] += error / math.sqrt(len(mine))
    assert np.abs(gradient).max() < 0.02


def test_a_saved_classifier_says_the_same(tmp_path: Path) -> None:
    classifier = Classifier(SHAPE, np.random.default_rng(0).normal(size=1 << SHAPE.bits).astype(np.float32))
    classifier.save(tmp_path)
    texts = pa.array(sentences(3))
    np.testing.assert_array_equal(Classifier.load(tmp_path, SHAPE).score(texts), classifier.score(texts))


def test_no_texts_have_no_scores() -> None:
    assert len(Classifier(SHAPE).score(pa.array([], pa.string()))) == 0
