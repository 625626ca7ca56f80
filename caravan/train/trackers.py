"""Where the figures of a run can be watched while it goes on, beside its own journal: one key, three tools."""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal, Protocol

from caravan.core.errors import MissingDependencyError

Tracker = Literal["tensorboard", "wandb", "trackio", "none"]
PROJECT = "caravan"
FOLDER = "tensorboard"


class Tracked(Protocol):
    """An open run of a tool."""

    def log(self, figures: Mapping[str, float], step: int) -> None: ...
    def close(self) -> None: ...


class TensorBoard:
    """Event files in the stage's folder; `tensorboard --logdir runs` shows all runs."""

    def __init__(self, out: Path, done: int) -> None:
        from torch.utils.tensorboard import SummaryWriter

        # What came after the last saved point is drawn anew.
        self.writer: Any = SummaryWriter(str(out / FOLDER), purge_step=done + 1 if done else None)  # type: ignore[no-untyped-call]

    def log(self, figures: Mapping[str, float], step: int) -> None:
        for name, value in figures.items():
            self.writer.add_scalar(name, value, step)

    def close(self) -> None:
        self.writer.close()


class Service:
    """Weights & Biases, or Trackio, which has its interface; one run for all that is gone on with."""

    def __init__(self, library: str, title: str, out: Path) -> None:
        try:
            self.library: Any = importlib.import_module(library)
        except ImportError as error:
            raise MissingDependencyError(library, "trackers", needed_for=f"tracker: {library}") from error
        name = f"{out.resolve().parent.name}-{title}".replace(": ", "-")
        own = {"id": name, "dir": str(out)} if library == "wandb" else {}
        self.run = self.library.init(project=PROJECT, name=name, resume="allow", **own)

    def log(self, figures: Mapping[str, float], step: int) -> None:
        self.run.log(dict(figures), step=step)

    def close(self) -> None:
        self.run.finish()


class Nothing:
    """No tool but the journal."""

    def log(self, figures: Mapping[str, float], step: int) -> None:
        pass

    def close(self) -> None:
        pass


def open_tracker(tool: Tracker, title: str, out: Path, done: int) -> Tracked:
    """Open a run of a tool, or go on with it after `done` steps.

    Raises:
        MissingDependencyError: the tool is not installed.
    """
    if tool == "none":
        return Nothing()
    return TensorBoard(out, done) if tool == "tensorboard" else Service(tool, title, out)
