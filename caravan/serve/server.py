"""Engine, API and web chat as one thing that starts and stops."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import socket
from collections.abc import AsyncIterator, Callable, Generator, Sequence

import uvicorn

from caravan.core.errors import ServeError
from caravan.recipe.serve import ServeConfig
from caravan.serve.app import create_app
from caravan.serve.assistant import Assistant
from caravan.serve.client import EngineClient
from caravan.serve.local import Local
from caravan.serve.model import ServedModel
from caravan.serve.supervisor import Supervisor, engine_command
from caravan.serve.upstream import upstream
from caravan.serve.web.page import mount_chat
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


async def serve(
    models: Sequence[ServedModel | str], config: ServeConfig, sock: socket.socket, on_ready: OnReady
) -> None:
    """Serve until SIGINT or SIGTERM.

    Args:
        models: the files of the model, or its name at `config.upstream`; and those of another to compare it with.
        config: where to listen and what to allow.
        sock: listens.
        on_ready: called once the server answers.

    Raises:
        ServeError: the engine or the front end does not start.
        ModelError: the model has no tokenizer that can be loaded.
    """
    loop, starting = asyncio.get_running_loop(), asyncio.current_task()
    assert starting is not None
    stopped = False

    def stop() -> None:
        nonlocal stopped
        stopped = True
        starting.cancel()

    for number in SIGNALS:
        loop.add_signal_handler(number, stop)
    try:
        async with contextlib.AsyncExitStack() as stack:
            assistants = [await stack.enter_async_context(assistant(model, config)) for model in models]
            front = _front_end(assistants, on_ready)
            for number in SIGNALS:
                loop.add_signal_handler(number, front.handle_exit, number, None)
            await front.serve(sockets=[sock])
            if not front.started:
                raise ServeError("the front end did not start", fix="see the messages above")
    except asyncio.CancelledError:
        if not stopped:
            raise


@contextlib.asynccontextmanager
async def assistant(model: ServedModel | str, config: ServeConfig) -> AsyncIterator[Assistant]:
    """What answers with a model: an engine of this machine, or the server that `config.upstream` names."""
    if isinstance(model, str):
        async with upstream(model, config) as behind:
            yield Assistant(behind.name, behind, config)
        return
    client = EngineClient(config.timeouts.silence)
    threads = config.threads or os.cpu_count() or 1
    arguments = model.engine_arguments(config.context, config.parallel, threads, config.cache_mib)
    supervisor = Supervisor(engine_command(*arguments), client)
    try:
        await supervisor.start()
        yield Assistant(model.name, Local(client, load_tokenizer(model.tokenizer), config), config)
    finally:
        await supervisor.stop()
        await client.close()


def _front_end(assistants: Sequence[Assistant], on_ready: OnReady) -> FrontEnd:
    app = mount_chat(create_app(assistants[0]), assistants)
    settings = uvicorn.Config(app, log_config=None, access_log=False, timeout_graceful_shutdown=GRACE_SECONDS)
    return FrontEnd(settings, lambda: on_ready(assistants[0]))
