"""Whether an engine is stuck, or merely slow: judged by what it does, never by the clock alone."""

from __future__ import annotations

import psutil

PULSE_SECONDS = 10.0
# A loaded machine still gives a thread that wants to work a hundredth of a core; a deadlock's idle wake-ups take less.
WORKING_SECONDS = 0.1
# Pulses in a row. Each is a question that waited for its answer, so a server that was itself held up judges nothing.
STILL_PULSES = 6
DEAF_PULSES = 60


class Pulse:
    """Counts pulses without a sign of life.

    An engine is stuck when it has answered nothing and done nothing for STILL_PULSES, as one that is deadlocked or
    stopped; or when it has answered nothing, though it spends time on the processor, for DEAF_PULSES.
    """

    def __init__(self) -> None:
        self.still = self.deaf = 0
        self._spent = 0.0

    def stuck(self, answered: bool, spent: float) -> bool:
        """Whether an engine is stuck that answered, or did not, and has spent so many seconds of the processor's."""
        worked, self._spent = abs(spent - self._spent) >= WORKING_SECONDS, spent
        self.deaf = 0 if answered else self.deaf + 1
        self.still = 0 if answered or worked else self.still + 1
        return self.still >= STILL_PULSES or self.deaf >= DEAF_PULSES


def seconds_spent(process: int) -> float:
    """Seconds of the processor's that a process has spent so far; 0 for one that is gone."""
    try:
        times = psutil.Process(process).cpu_times()
    except psutil.Error:
        return 0.0
    return float(times.user + times.system)
