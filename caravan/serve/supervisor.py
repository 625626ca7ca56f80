"""The engine as a process of its own: started, watched, started again when it dies, and never left behind."""

from __future__ import annotations

import asyncio
import contextlib
import signal
import socket
import sys
import time
from collections import deque
from collections.abc import Callable, Sequence

from caravan.core.errors import ServeError
from caravan.core.log import get_logger
from caravan.serve.client import EngineClient, Facts

log = get_logger(__name__)

HEALTH_SECONDS = 0.1
START_SECONDS = 600.0
STOP_SECONDS = 5.0
BACK_OFF = (0.0, 0.5, 1.0, 2.0, 5.0, 15.0, 30.0)
STEADY_SECONDS = 60.0
LAST_WORDS = 12


def engine_command(arguments: Sequence[str]) -> Callable[[int], list[str]]:
    """The command line of an engine process for a port; `arguments` are those of `python -m caravan.engine`."""
    return lambda port: [sys.executable, "-m", "caravan.serve.leash", *arguments, "--port", str(port)]


def free_port() -> int:
    """A port of the loopback that nothing listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class Supervisor:
    """Keeps one engine process alive and its client connected.

    Args:
        command: the engine's command line for a given port.
        client: connected whenever the engine is ready, disconnected as soon as it is gone.
    """

    def __init__(self, command: Callable[[int], list[str]], client: EngineClient) -> None:
        self.command, self.client = command, client
        self.restarts = 0
        self.process: asyncio.subprocess.Process | None = None
        self._last_words: deque[str] = deque(maxlen=LAST_WORDS)
        self._watching: asyncio.Task[None] | None = None

    async def start(self) -> Facts:
        """Start the engine and wait until it answers.

        Raises:
            ServeError: it ends before that, or takes too long; its last words are in the error.
        """
        facts = await self._launch()
        self._watching = asyncio.create_task(self._watch())
        return facts

    async def stop(self) -> None:
        """End the engine and stop watching it."""
        self.client.disconnect("the server is stopping")
        if self._watching is not None:
            self._watching.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._watching
        await self._end()

    async def _launch(self) -> Facts:
        port = free_port()
        self._last_words.clear()
        process = self.process = await asyncio.create_subprocess_exec(
            *self.command(port),
            stdin=asyncio.subprocess.PIPE,  # the leash: it closes with this process, however this process ends
            stdout=asyncio.subprocess.DEVNULL,
            stderr=asyncio.subprocess.PIPE,
            # Ctrl-C in the terminal is for us; the engine is ended in `stop`.
            start_new_session=True,
        )
        listening = asyncio.create_task(self._listen(process))
        address = f"http://127.0.0.1:{port}"
        deadline = time.monotonic() + START_SECONDS
        try:
            while not await self.client.healthy(address):
                if process.returncode is not None or time.monotonic() > deadline:
                    await self._end()
                    await listening
                    raise self._failure(process.returncode)
                await asyncio.sleep(HEALTH_SECONDS)
            return await self.client.connect(address)
        except asyncio.CancelledError:
            await self._end()
            raise

    async def _listen(self, process: asyncio.subprocess.Process) -> None:
        """Keep the last lines that the engine prints, for the error when it dies."""
        assert process.stderr is not None
        while chunk := await process.stderr.read(1 << 16):
            for line in chunk.decode(errors="replace").splitlines():
                self._last_words.append(line.rstrip())
                log.debug("engine: %s", line.rstrip())

    async def _watch(self) -> None:
        """Start the engine again whenever it ends, each time a little later until it has run steadily."""
        failures = 0
        while True:
            ready = time.monotonic()
            assert self.process is not None
            code = await self.process.wait()
            self.client.disconnect(f"the engine {_ended(code)} and is being restarted")
            failures = 0 if time.monotonic() - ready > STEADY_SECONDS else failures
            while True:
                self.restarts += 1
                log.warning("the engine %s; starting it again", _ended(code))
                await asyncio.sleep(BACK_OFF[min(failures, len(BACK_OFF) - 1)])
                failures += 1
                try:
                    await self._launch()
                    break
                except (ServeError, OSError) as error:
                    log.error("%s", error)

    async def _end(self) -> None:
        process = self.process
        if process is None or process.returncode is not None:
            return
        process.terminate()
        try:
            await asyncio.wait_for(process.wait(), STOP_SECONDS)
        except TimeoutError:
            process.kill()
            await process.wait()

    def _failure(self, code: int | None) -> ServeError:
        words = "\n".join(self._last_words)
        return ServeError(
            "the engine did not start",
            expected="an engine that loads the model",
            got=f"it {_ended(code)}\n{words}",
            fix="see the engine's last words above; export the model again if its files are damaged",
        )


def _ended(code: int | None) -> str:
    if code is None:
        return "did not answer in time"
    if code < 0:
        return f"was ended by {signal.Signals(-code).name}"
    return f"ended with status {code}"
