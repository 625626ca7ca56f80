from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import pytest

from caravan.core.errors import ServeError
from caravan.recipe.serve import ServeConfig
from caravan.serve.stage import listening, run_server, url_of


def test_a_port_in_use_is_said_before_anything_is_started(exported: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("asyncio.run", lambda _: pytest.fail("the engine was started"))
    with listening("127.0.0.1", 0) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(ServeError) as caught:
            run_server(exported, ServeConfig(port=port))
    assert caught.value.expected == "a free port"
    assert caught.value.got == f"port {port} in use"
    assert f"--port {port + 1}" in str(caught.value.fix)


def test_an_address_of_another_machine(exported: Path) -> None:
    with pytest.raises(ServeError, match=r"192\.0\.2\.1"):
        run_server(exported, ServeConfig(host="192.0.2.1", port=0))


def test_url() -> None:
    with listening("0.0.0.0", 0) as sock:
        assert url_of(sock) == f"http://127.0.0.1:{sock.getsockname()[1]}"
    if socket.has_ipv6:
        with listening("::1", 0) as sock:
            assert url_of(sock).startswith("http://[::1]:")


def test_the_door_opens_without_torch_or_gradio() -> None:
    code = "import sys, caravan.serve.stage; print(*{'torch', 'gradio', 'fastapi'} & sys.modules.keys())"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.strip() == ""


def test_what_is_printed_can_be_pasted_and_ctrl_c_ends_server_and_engine(
    exported: Path, start_server: Callable[..., AbstractContextManager[Any]]
) -> None:
    with start_server(exported, "api_key=it's") as server:
        told = [server.process.stdout.readline() for _ in range(6)]
        assert told[0] == "tiny reads, hears and sees, and answers in writing.\n"
        assert told[1].startswith(f"web chat  {server.url} ")
        assert told[2:4] == [f"API       {server.url}/v1\n", "API key   it's\n"]
        curl = "".join(told[4:6])
        done = subprocess.run(["bash", "-c", f"{curl} --noproxy '*'"], capture_output=True, text=True, check=False)
        assert json.loads(done.stdout)["choices"][0]["message"]["role"] == "assistant", (curl, done.stderr)
        engine = server.engine()
        server.process.send_signal(signal.SIGINT)
        said, _ = server.process.communicate(timeout=120)
        assert server.process.returncode == 0, said
        assert "Traceback" not in said
        with pytest.raises(ProcessLookupError):
            os.kill(engine, 0)
