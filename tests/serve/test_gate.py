from __future__ import annotations

import asyncio

import pytest

from caravan.serve.errors import BusyError
from caravan.serve.gate import Gate


async def settle() -> None:
    for _ in range(10):
        await asyncio.sleep(0)


def test_so_many_at_once_so_many_wait_and_the_others_are_refused() -> None:
    async def run() -> list[int]:
        gate, go, order = Gate(2, 1, 60), asyncio.Event(), []

        async def work(number: int) -> None:
            async with gate.entered():
                order.append(number)
                await go.wait()

        tasks = [asyncio.create_task(work(number)) for number in range(3)]
        await settle()
        assert (gate.running, gate.waiting, order) == (2, 1, [0, 1])
        with pytest.raises(BusyError, match="2 answers under way, 1 waiting"):
            await work(3)
        go.set()
        await asyncio.gather(*tasks)
        assert (gate.running, gate.waiting) == (0, 0)
        await work(4)
        return order

    assert asyncio.run(run()) == [0, 1, 2, 4]


def test_no_one_waits_for_ever() -> None:
    async def run() -> None:
        gate = Gate(1, 5, 0.05)
        async with gate.entered():
            with pytest.raises(BusyError, match=r"0\.05 s in the queue"):
                async with gate.entered():
                    pass
        assert (gate.running, gate.waiting) == (0, 0)

    asyncio.run(run())


def test_who_goes_away_while_waiting_leaves_no_trace() -> None:
    async def run() -> None:
        gate = Gate(1, 5, 60)

        async def work() -> None:
            async with gate.entered():
                pass

        async with gate.entered():
            waiting = asyncio.create_task(work())
            await settle()
            waiting.cancel()
            await asyncio.gather(waiting, return_exceptions=True)
        assert (gate.running, gate.waiting) == (0, 0)
        await work()

    asyncio.run(run())
