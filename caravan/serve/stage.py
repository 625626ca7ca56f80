"""The door of serving: what can be checked at once is checked here, before anything heavy is imported or started."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import gc
import ipaddress
import os
import secrets
import shlex
import socket
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from caravan.core.errors import MissingDependencyError, ServeError
from caravan.core.files import write_text
from caravan.core.log import console
from caravan.recipe.serve import ServeConfig
from caravan.serve.model import find_model

if TYPE_CHECKING:
    from caravan.serve.assistant import Assistant

KEY_VARIABLE = "CARAVAN_API_KEY"
CURL = """curl {url}/v1/chat/completions -H 'Content-Type: application/json'{header} \\
  -d '{{"messages": [{{"role": "user", "content": "Hello"}}]}}'"""


def run_server(
    model: Path,
    config: ServeConfig,
    on_ready: Callable[[str], None] | None = None,
    *,
    mmproj: Path | None = None,
    ready_file: Path | None = None,
) -> None:
    """Serve a model until SIGINT or SIGTERM; the engine ends with the server.

    Args:
        model: an exported folder, a run folder that holds one, a .gguf file, or a name of a model of `config.upstream`.
        config: where to listen and what to allow.
        on_ready: called with the URL once the server answers.
        mmproj: the encoders of a .gguf file.
        ready_file: written with the URL once the server answers.

    Raises:
        ServeError: the port is in use, a file is missing, or the engine does not start.
        ArtifactError: the folder is not a finished export.
        MissingDependencyError: the extra `serve` is not installed.
    """
    models = [str(model) if config.upstream else find_model(model, config.quantisation, mmproj, config.adapter)]
    if config.compare is not None:
        models.append(config.compare if config.upstream else find_model(Path(config.compare), config.quantisation))
    config = config.model_copy(update={"api_key": key_of(config)})
    with listening(config.host, config.port) as sock, tempfile.TemporaryDirectory(prefix="caravan-uploads-") as uploads:
        url = url_of(sock)
        # Read when Gradio is imported. What people upload and record goes when the server ends.
        os.environ["GRADIO_TEMP_DIR"] = uploads

        def ready(assistant: Assistant) -> None:
            announce(assistant, url)
            if ready_file is not None:
                write_text(ready_file, url)
            if on_ready is not None:
                on_ready(url)

        try:
            from caravan.serve.server import serve
        except ImportError as error:
            raise MissingDependencyError(error.name or "fastapi", "serve", needed_for="serving a model") from error
        asyncio.run(serve(models, config, sock, ready))
    # Nothing is left to do but to leave; looking for cycles in all that was imported would take seconds.
    gc.freeze()


def key_of(config: ServeConfig) -> str:
    """The API key: as configured, of the environment, or made for an address that others can reach; "" for none."""
    if config.api_key is not None:
        return config.api_key
    return os.environ.get(KEY_VARIABLE) or ("" if is_loopback(config.host) else secrets.token_urlsafe(24))


def is_loopback(host: str) -> bool:
    """Whether an address to listen on is reached from this machine only."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


@contextlib.contextmanager
def listening(host: str, port: int) -> Iterator[socket.socket]:
    """A socket that listens on the address, before anything slow is begun.

    Raises:
        ServeError: the port is in use, or the address is not this machine's.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family) as sock:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            sock.bind((host, port))
            # Bound alone is not taken: the port is of whoever listens first.
            sock.listen()
        except OSError as error:
            in_use = error.errno == errno.EADDRINUSE
            raise ServeError(
                f"cannot listen on {host}, port {port}",
                expected="a free port" if in_use else "an address of this machine and a port that may be used",
                got=f"port {port} in use" if in_use else error.strerror,
                fix=f"stop what uses it, or take another: --port {port % 65535 + 1}" if in_use else "--host, --port",
            ) from error
        yield sock


def url_of(sock: socket.socket) -> str:
    """The URL under which this machine reaches a listening socket."""
    host, port = sock.getsockname()[:2]
    host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


def announce(assistant: Assistant, url: str) -> None:
    """Say what is served, and how to reach it."""
    key = assistant.config.api_key
    header = f" -H {shlex.quote(f'Authorization: Bearer {key}')}" if key else ""
    lines = [
        assistant.description,
        f"web chat  {url}" + (" (any user name; the API key is the password)" if key else ""),
        f"API       {url}/v1",
        *([f"API key   {key}"] if key else []),
        CURL.format(url=url, header=header),
    ]
    for line in lines:
        console.print(line, highlight=False, markup=False, soft_wrap=True)
