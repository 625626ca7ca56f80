from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from caravan.core.errors import ServeError
from caravan.serve.client import EngineClient
from caravan.serve.model import find_model
from caravan.serve.supervisor import Supervisor, engine_command

# A parent that can only be killed, and says which engine it has.
PARENT = """
import asyncio, sys
from caravan.serve.client import EngineClient
from caravan.serve.supervisor import Supervisor, engine_command

async def main():
    supervisor = Supervisor(engine_command(*sys.argv[1:]), EngineClient())
    await supervisor.start()
    print(supervisor.process.pid, flush=True)
    await asyncio.sleep(600)

asyncio.run(main())
"""


def alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except FileNotFoundError:
        return False


def test_an_engine_that_cannot_start_says_why(tmp_path: Path) -> None:
    broken = tmp_path / "broken.gguf"
    broken.write_bytes(b"GGUF" + bytes(100))

    async def start() -> None:
        client = EngineClient()
        supervisor = Supervisor(engine_command(str(broken)), client)
        try:
            await supervisor.start()
        finally:
            await supervisor.stop()
            await client.close()

    with pytest.raises(ServeError, match=r"did not start\n(.*\n)*.*ended with status 1\n(.*\n)*.*broken\.gguf"):
        asyncio.run(start())


def test_attempts_go_on_until_one_succeeds(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An engine played by a script: ready at first, then failing twice before it is ready again."""
    script = tmp_path / "engine.py"
    script.write_text(
        "import json, pathlib, sys, time\n"
        f"count = pathlib.Path({str(tmp_path / 'count')!r})\n"
        "number = int(count.read_text()) if count.exists() else 0\n"
        "count.write_text(str(number + 1))\n"
        "if number in (1, 2): sys.exit('no luck')\n"
        "facts = {'address': f'http://{number}', 'key': '', 'marker': '', 'context': 1, 'senses': []}\n"
        "print(json.dumps(facts), flush=True)\n"
        "time.sleep(600)\n"
    )
    monkeypatch.setattr("caravan.serve.supervisor.BACK_OFF_SECONDS", (0.0, 0.01))

    async def live() -> str:
        client = EngineClient()
        supervisor = Supervisor([sys.executable, str(script)], client)
        await supervisor.start()
        assert supervisor.process
        first = supervisor.process.pid
        os.kill(first, signal.SIGKILL)
        deadline = time.monotonic() + 120
        while client.absence or client.facts().address == "http://0":
            assert time.monotonic() < deadline
            await asyncio.sleep(0.01)
        address = client.facts().address
        assert supervisor.restarts == 3
        last = supervisor.process.pid
        await supervisor.stop()
        await client.close()
        assert not alive(first)
        assert not alive(last)
        return address

    assert asyncio.run(live()) == "http://3"


def test_an_engine_that_stands_still_is_replaced(exported: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("caravan.serve.supervisor.PULSE_SECONDS", 0.2)
    monkeypatch.setattr("caravan.serve.pulse.STILL_PULSES", 2)
    monkeypatch.setattr("caravan.serve.client.CONNECT_SECONDS", 1.0)
    arguments = find_model(exported, "f16").engine_arguments(context=64, parallel=1, threads=1)

    async def live() -> None:
        client = EngineClient()
        supervisor = Supervisor(engine_command(*arguments), client)
        await supervisor.start()
        starts = client.starts
        assert supervisor.process
        os.kill(supervisor.process.pid, signal.SIGSTOP)
        deadline = time.monotonic() + 120
        while client.starts == starts or not client.connected:
            assert time.monotonic() < deadline
            await asyncio.sleep(0.05)
        await supervisor.stop()
        await client.close()

    asyncio.run(live())


def test_the_engine_does_not_outlive_a_killed_parent(exported: Path) -> None:
    arguments = find_model(exported, "f16").engine_arguments(context=64, parallel=1, threads=1)
    parent = subprocess.Popen([sys.executable, "-c", PARENT, *arguments], stdout=subprocess.PIPE, text=True)
    assert parent.stdout
    engine = int(parent.stdout.readline())
    assert alive(engine)
    parent.kill()
    parent.communicate()
    deadline = time.monotonic() + 60
    while alive(engine) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not alive(engine)
