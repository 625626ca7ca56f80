"""Runaway repetition: an answer that ends in one unit over and over, found in characters or in token ids."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

# A unit of up to LONGEST items that fills the end of an answer at least REPEATS times and LEAST items long: rules of
# tables, laughter and long numbers are shorter.
REPEATS, LEAST, LONGEST = 4, 32, 256


def loop(items: Sequence[Any], least: int = LEAST, repeats: int = REPEATS) -> tuple[int, int] | None:
    """The shortest unit that the end of a sequence repeats: its length and that of the whole run; None without one.

    The run may stop inside the unit, as an answer does that is cut at a length limit.

    Args:
        items: characters or ids.
        least: the run's least length, in items.
        repeats: how often at least the unit stands in the run.
    """
    count = len(items)
    for unit in range(1, min(LONGEST, count // repeats) + 1):
        run = unit
        while run < count and items[count - 1 - run] == items[count - 1 - run + unit]:
            run += 1
        if run >= max(least, repeats * unit):
            return unit, run
    return None


def runs_away(text: str) -> bool:
    """Whether a text ends in runaway repetition."""
    return loop(text.rstrip()) is not None


def cut_loop(items: Any, least: int = LEAST) -> Any:
    """A text or ids with the run at their end cut down to its first unit; as they are without one."""
    found = loop(items, least)
    if found is None:
        return items
    unit, run = found
    return items[: len(items) - run + unit]


class LoopWatch:
    """Follows an answer that comes in pieces: the guard of whatever streams.

    Args:
        least: characters of a loop that end an answer; 0: none does.
    """

    def __init__(self, least: int) -> None:
        self.least, self.tail = least, ""

    def runs_away(self, piece: str) -> bool:
        """Whether the answer, with this piece at its end, runs away."""
        # No more than what the longest unit of a loop needs to show.
        self.tail = (self.tail + piece)[-LONGEST * REPEATS - self.least :]
        return self.least > 0 and loop(self.tail, self.least) is not None
