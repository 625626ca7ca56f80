"""Engine, API and web chat as one thing that starts and stops."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import socket
from collections.abc import Callable, Generator

import uvicorn

from caravan.core.errors import ServeError
from caravan.recipe.serve import ServeConfig
from caravan.serve.app import create_app
from caravan.serve.assistant import Assistant
from caravan.serve.client import EngineClient
from caravan.serve.local import Local
from caravan.serve.model import ServedModel
from caravan.serve.supervisor import Supervisor, engine_command
from caravan.serve.web import mount_chat
from caravan.text.chat import load_tokenizer

SIGNALS = (signal.SIGINT, signal.SIGTERM)
# How long answers that are under way may go on after a signal.
GRACE_SECONDS = 3

OnReady = Callable[[Assistant], None]


class FrontEnd(uvicorn.Server):
    """uvicorn that leaves signals to `serve`, which has an engine to end too, and says when it answers."""

    def __init__(self, settings: uvicorn.Config, on_ready: Callable[[], None]) -> None:
        super().__init__(settings)
        self.on_ready = on_ready

    @contextlib.contextmanager
    def capture_signals(self) -> Generator[None, None, None]:
        yield

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        if self.started and not self.should_exit:
            self.on_ready()


async def serve(files: ServedModel, config: ServeConfig, sock: socket.socket, on_ready: OnReady) -> None:
    """Serve until SIGINT or SIGTERM.

    Raises:
        ServeError: the engine or the front end does not start.
        ModelError: the model has no tokenizer that can be loaded.
    """
    loop = asyncio.get_running_loop()
    client = EngineClient(config.timeouts.silence)
    threads = config.threads or os.cpu_count() or 1
    arguments = files.engine_arguments(config.context, config.parallel, threads, config.cache_mib)
    supervisor = Supervisor(engine_command(*arguments), client)
    starting = asyncio.ensure_future(supervisor.start())
    for number in SIGNALS:
        loop.add_signal_handler(number, starting.cancel)
    try:
        await starting
        backend = Local(client, load_tokenizer(files.tokenizer), config)
        front = _front_end(Assistant(files.name, backend, config), on_ready)
        for number in SIGNALS:
            loop.add_signal_handler(number, front.handle_exit, number, None)
        await front.serve(sockets=[sock])
        if not front.started:
            raise ServeError("the front end did not start", fix="see the messages above")
    except asyncio.CancelledError:
        if not starting.cancelled():
            raise
    finally:
        await supervisor.stop()
        await client.close()


def _front_end(assistant: Assistant, on_ready: OnReady) -> FrontEnd:
    app = mount_chat(create_app(assistant), assistant)
    settings = uvicorn.Config(app, log_config=None, access_log=False, timeout_graceful_shutdown=GRACE_SECONDS)
    return FrontEnd(settings, lambda: on_ready(assistant))
