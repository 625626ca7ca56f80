"""Progress of long work: a bar with rate and time left on a terminal, a line now and then elsewhere."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator

from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    SpinnerColumn,
    Task,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.text import Text

from caravan.core.log import console

LINE_EVERY_SECONDS = 15.0


class RateColumn(ProgressColumn):
    """Units a second."""

    def render(self, task: Task) -> Text:
        speed = task.finished_speed or task.speed
        return Text("" if speed is None else f"{speed:,.1f} {task.fields.get('unit', 'it')}/s", style="cyan")


class Bar:
    """What `track` yields: `advance` moves it, `note` shows figures such as the loss beside it."""

    def __init__(self, description: str, total: int | None, unit: str, progress: Progress | None) -> None:
        self.description, self.total, self.unit, self.progress = description, total, unit, progress
        self.done = 0
        self.notes = ""
        self.started = self.spoken = time.monotonic()
        self.task = progress.add_task(description, total=total, unit=unit, notes="") if progress else None

    def advance(self, count: int = 1) -> None:
        self.done += count
        if self.progress is not None and self.task is not None:
            self.progress.update(self.task, advance=count)
        elif time.monotonic() - self.spoken > LINE_EVERY_SECONDS:
            self.spoken = time.monotonic()
            self.say()

    def note(self, **figures: object) -> None:
        self.notes = " ".join(f"{name} {value}" for name, value in figures.items())
        if self.progress is not None and self.task is not None:
            self.progress.update(self.task, notes=self.notes)

    def say(self) -> None:
        """Print where the work stands, for logs without a terminal."""
        seconds = max(time.monotonic() - self.started, 1e-9)
        of_total = f"/{self.total:,}" if self.total else ""
        rate = self.done / seconds
        left = f", {(self.total - self.done) / rate:.0f} s left" if self.total and 0 < self.done < self.total else ""
        console.print(
            f"{self.description}: {self.done:,}{of_total} {self.unit}, {rate:,.1f} {self.unit}/s{left} {self.notes}",
            highlight=False,
        )


@contextlib.contextmanager
def track(description: str, total: int | None, unit: str = "doc") -> Iterator[Bar]:
    """Show the progress of a piece of work of `total` units (None where it is not known)."""
    if not console.is_terminal:
        bar = Bar(description, total, unit, None)
        try:
            yield bar
        finally:
            bar.say()
        return
    columns = (
        SpinnerColumn(),
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        RateColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
        TextColumn("{task.fields[notes]}"),
    )
    with Progress(*columns, console=console) as progress:
        yield Bar(description, total, unit, progress)
