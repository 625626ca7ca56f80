"""What is written of a run while it goes on: journal, progress, spikes, sealed checkpoints; and how it is stopped."""

from __future__ import annotations

import contextlib
import json
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray
from transformers import TrainerCallback, TrainerControl, TrainerState

from caravan.core.files import full_disk_named
from caravan.core.log import get_logger
from caravan.core.progress import Bar
from caravan.train.checkpoint import seal
from caravan.train.curve import JOURNAL, read_journal
from caravan.train.processes import anywhere, barrier
from caravan.train.spikes import Spikes
from caravan.train.trackers import Nothing, Tracked

log = get_logger(__name__)


class Counted(Protocol):
    """What knows how many tokens each of its sequences has."""

    @property
    def tokens(self) -> NDArray[np.int64]: ...


class Watch(TrainerCallback):
    """Journal, progress, spikes, sealed checkpoints, and a save on the first Ctrl-C.

    Attributes:
        spikes: tells them; None: nobody looks.
        tracker: a tool that shows the figures too.
        at_a_spike: whether training stops there.
        token_share: what one token a second is as a share of the machine's peak, for the MFU.
        spiked: the steps that were spikes.
    """

    def __init__(
        self,
        out: Path,
        rows: Counted,
        batch: int,
        bar: Bar,
        spikes: Spikes | None = None,
        tracker: Tracked | None = None,
        *,
        at_a_spike: bool = False,
        token_share: float = 0.0,
    ) -> None:
        self.out, self.bar, self.batch = out, bar, batch
        self.seen = np.concatenate([[0], np.cumsum(rows.tokens)])
        self.interrupted = False
        self.last_step, self.last_time = 0, time.monotonic()
        self.tracker = tracker or Nothing()
        self.spikes, self.at_a_spike, self.token_share = spikes, at_a_spike, token_share
        self.spiked: list[int] = []
        for line in read_journal(out / JOURNAL):
            self._spike(line["step"], line["grad_norm"])

    def tokens(self, step: int) -> int:
        """Tokens of the run's first `step` steps."""
        return int(self.seen[min(step * self.batch, len(self.seen) - 1)])

    def on_train_begin(self, args: Any, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        self.last_step, self.last_time = state.global_step, time.monotonic()

    def on_step_end(self, args: Any, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        self.bar.advance(1)
        self.interrupted = anywhere(self.interrupted)
        if self.interrupted:
            control.should_save = control.should_training_stop = True

    def on_log(self, args: Any, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        logs = kwargs["logs"]
        state.log_history.clear()  # the journal has it; every checkpoint would carry it along
        if "loss" not in logs:
            return
        now, step = time.monotonic(), state.global_step
        rate = (self.tokens(step) - self.tokens(self.last_step)) / max(now - self.last_time, 1e-9)
        line = {
            "step": step,
            "loss": logs["loss"],
            "lr": logs["learning_rate"],
            "grad_norm": logs["grad_norm"],
            "tokens": self.tokens(step),
            "tokens_per_second": round(rate, 1),
            "mfu": round(rate * self.token_share, 4),
        }
        if self._spike(step, line["grad_norm"]):
            line["spike"] = True
            log.warning("step %s: the gradient norm spikes at %.3g, loss %.3f", step, line["grad_norm"], line["loss"])
            control.should_training_stop |= self.at_a_spike
        self.last_step, self.last_time = step, now
        self.bar.note(loss=f"{line['loss']:.3f}", tokens=f"{rate:,.0f}/s")
        if state.is_world_process_zero:
            with full_disk_named(self.out / JOURNAL), (self.out / JOURNAL).open("a", encoding="utf-8") as file:
                file.write(json.dumps(line) + "\n")
            self.tracker.log({name: value for name, value in line.items() if name not in ("step", "spike")}, step)

    def _spike(self, step: int, norm: float) -> bool:
        found = self.spikes is not None and self.spikes.at(norm)
        if found:
            self.spiked.append(step)
        return found

    def on_save(self, args: Any, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        barrier()  # each process has written its part
        if state.is_world_process_zero:
            seal(Path(args.output_dir) / f"checkpoint-{state.global_step}")
        barrier()


@contextlib.contextmanager
def save_on_signal(watch: Watch) -> Iterator[None]:
    """Let the first SIGINT or SIGTERM save and stop; the second one stops at once."""

    def note(number: int, frame: Any) -> None:
        watch.interrupted = True
        for each in signals:
            signal.signal(each, signal.default_int_handler)

    signals = (signal.SIGINT, signal.SIGTERM)
    before = {each: signal.signal(each, note) for each in signals}
    try:
        yield
    finally:
        for each, handler in before.items():
            signal.signal(each, handler)
