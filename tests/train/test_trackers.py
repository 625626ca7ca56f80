"""The figures of a run in the tools that show them."""

from __future__ import annotations

import sys

import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from caravan.core.errors import MissingDependencyError
from caravan.train import trackers
from caravan.train.trackers import open_tracker
from tests.train.test_loop import journal, train


def test_tensorboard_shows_what_the_journal_has(llama, tmp_path):
    train(llama, tmp_path)
    events = EventAccumulator(str(tmp_path / "tensorboard"))
    events.Reload()
    for name in ("loss", "lr", "grad_norm", "tokens_per_second"):
        shown = {event.step: event.value for event in events.Scalars(name)}
        assert shown == pytest.approx({line["step"]: line[name] for line in journal(tmp_path)}, rel=1e-6)


def test_a_run_that_goes_on_draws_anew_what_came_after_its_last_saved_point(tmp_path):
    for done, value in ((0, 1.0), (2, 5.0)):
        tracker = open_tracker("tensorboard", "pretrain", tmp_path, done)
        for step in range(done + 1, 5):
            tracker.log({"loss": value}, step)
        tracker.close()
    events = EventAccumulator(str(tmp_path / "tensorboard"))
    events.Reload()
    assert [(event.step, event.value) for event in events.Scalars("loss")] == [(1, 1.0), (2, 1.0), (3, 5.0), (4, 5.0)]


def test_no_tool_leaves_nothing(llama, tmp_path):
    train(llama, tmp_path, tracker="none")
    assert not (tmp_path / "tensorboard").exists()


def test_a_tool_that_is_not_installed_is_named(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "wandb", None)
    with pytest.raises(MissingDependencyError, match="caravan.trackers"):
        trackers.open_tracker("wandb", "pretrain", tmp_path, 0)
