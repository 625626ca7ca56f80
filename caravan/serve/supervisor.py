"""The engine as a process of its own: started, watched, started again when it dies, ended with the server."""

from __future__ import annotations

import asyncio
import contextlib
import signal
import sys
import time
from collections import deque
from collections.abc import Sequence

from caravan.core.errors import ServeError
from caravan.core.log import get_logger
from caravan.serve.client import EngineClient, EngineFacts
from caravan.serve.pulse import PULSE_SECONDS, Pulse, seconds_spent

log = get_logger(__name__)

START_SECONDS = 600.0
STOP_SECONDS = 5.0
BACK_OFF_SECONDS = (0.0, 0.5, 1.0, 2.0, 5.0, 15.0, 30.0)
STEADY_SECONDS = 60.0
LAST_WORDS = 12


def engine_command(*arguments: str) -> list[str]:
    """The command line of an engine process. It takes a free port, and ends by itself when its parent is gone."""
    return [sys.executable, "-m", "caravan.engine", *arguments]


class Supervisor:
    """Keeps one engine process alive, and its client connected whenever the engine is ready.

    Args:
        command: the engine's command line; it prints a line of JSON when it is ready (see `EngineFacts`).
        client: connected at each start, disconnected as soon as the process is gone.
    """

    def __init__(self, command: Sequence[str], client: EngineClient) -> None:
        self.command, self.client = command, client
        self.restarts = 0
        self.process: asyncio.subprocess.Process | None = None
        self._last_words: deque[str] = deque(maxlen=LAST_WORDS)
        self._watching: asyncio.Task[None] | None = None
        self._feeling: asyncio.Task[None] | None = None
        self._listening: asyncio.Task[None] | None = None

    async def start(self) -> EngineFacts:
        """Start the engine and wait until it is ready.

        Raises:
            ServeError: it ends before that, or takes too long; its last words are in the error.
        """
        facts = await self._launch()
        self._watching = asyncio.create_task(self._watch())
        self._feeling = asyncio.create_task(self._feel())
        return facts

    async def stop(self) -> None:
        """End the engine and stop watching it."""
        self.client.disconnect("the server is stopping")
        for task in (self._feeling, self._watching):
            if task is not None:
                task.cancel()
                with contextlib.suppress(asyncio.CancelledError):
                    await task
        await self._end()

    async def _launch(self) -> EngineFacts:
        self._last_words.clear()
        process = self.process = await asyncio.create_subprocess_exec(
            *self.command,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            # Ctrl-C in the terminal is for the server, which lets running answers end before it ends the engine.
            start_new_session=True,
        )
        assert process.stdout is not None
        self._listening = asyncio.create_task(self._listen(process))
        try:
            line = await asyncio.wait_for(process.stdout.readline(), START_SECONDS)
        except BaseException as error:
            await self._end()
            if isinstance(error, TimeoutError):
                raise self._failure(None) from error
            raise
        if not line:
            raise self._failure(await process.wait())
        facts = EngineFacts.from_line(line)
        self.client.connect(facts)
        return facts

    async def _listen(self, process: asyncio.subprocess.Process) -> None:
        """Keep the last lines that the engine says, for the error when it dies."""
        assert process.stderr is not None
        rest = b""
        while chunk := await process.stderr.read(1 << 16):
            *lines, rest = (rest + chunk).split(b"\n")
            rest = rest[-1024:]
            self._last_words.extend(line[-1024:].decode(errors="replace") for line in lines)
        if rest:
            self._last_words.append(rest.decode(errors="replace"))

    async def _watch(self) -> None:
        """Start the engine again whenever it ends, each time a little later, until it has run steadily for a while."""
        failures = 0
        ready = time.monotonic()
        while True:
            code = await self._wait()
            if time.monotonic() - ready > STEADY_SECONDS:
                failures = 0
            self.client.disconnect(f"it {_ended(code)} and is being started again")
            log.warning("the engine %s; starting it again\n%s", _ended(code), self._words())
            await asyncio.sleep(BACK_OFF_SECONDS[min(failures, len(BACK_OFF_SECONDS) - 1)])
            failures += 1
            self.restarts += 1
            try:
                await self._launch()
                ready = time.monotonic()
            except (ServeError, OSError) as error:
                log.error("%s", error)

    async def _feel(self) -> None:
        """Kill an engine that is stuck, so that it is started again. A slow one is left alone."""
        pulse = Pulse()
        while True:
            await asyncio.sleep(PULSE_SECONDS)
            process = self.process
            answered = await self.client.well()
            if process is None or process.returncode is not None or process is not self.process:
                pulse = Pulse()
            elif pulse.stuck(answered, seconds_spent(process.pid)):
                log.warning("the engine is stuck: %d questions without an answer; killing it", pulse.deaf)
                process.kill()
                pulse = Pulse()

    async def _wait(self) -> int:
        """Wait until the engine has ended and has said all that it had to say."""
        assert self.process is not None
        code = await self.process.wait()
        if self._listening is not None:
            await self._listening
        return code

    async def _end(self) -> None:
        process = self.process
        if process is None:
            return
        if process.returncode is None:
            process.terminate()
            try:
                await asyncio.wait_for(process.wait(), STOP_SECONDS)
            except TimeoutError:
                process.kill()
        await self._wait()

    def _words(self) -> str:
        return "\n".join(line for line in self._last_words if line.strip())

    def _failure(self, code: int | None) -> ServeError:
        return ServeError(
            "the engine did not start",
            expected="an engine that loads the model",
            got=f"it {_ended(code)}\n{self._words()}",
            fix="see the engine's last words above; export the model again if its files are damaged",
        )


def _ended(code: int | None) -> str:
    if code is None:
        return "did not get ready in time"
    if code < 0:
        return f"was ended by {signal.Signals(-code).name}"
    return f"ended with status {code}"
