"""How many are answered at once, how many may wait, and what the others are told."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from caravan.serve.errors import BusyError


class Gate:
    """Lets `slots` requests in at once and `queue` wait for at most `patience` seconds, first come, first served."""

    def __init__(self, slots: int, queue: int, patience: float) -> None:
        self.slots, self.queue, self.patience = slots, queue, patience
        self.running = 0
        self.waiting = 0
        self._free = asyncio.Semaphore(slots)

    @asynccontextmanager
    async def entered(self) -> AsyncIterator[None]:
        """Hold a slot.

        Raises:
            BusyError: the queue is full, or it took too long.
        """
        if self._free.locked() and self.waiting >= self.queue:
            raise BusyError(f"{self.running} answers under way, {self.waiting} waiting")
        self.waiting += 1
        try:
            async with asyncio.timeout(self.patience):
                await self._free.acquire()
        except TimeoutError:
            raise BusyError(f"{self.patience:g} s in the queue") from None
        finally:
            self.waiting -= 1
        self.running += 1
        try:
            yield
        finally:
            self.running -= 1
            self._free.release()
