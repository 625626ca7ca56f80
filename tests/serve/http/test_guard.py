from __future__ import annotations

import asyncio
from typing import Any

import httpx
import pytest
from starlette.responses import PlainTextResponse

from caravan.serve.http.guard import Guard, names_of

OWN = names_of("127.0.0.1", [])


def ask(guard: Guard, method: str = "POST", path: str = "/v1/x", **headers: str | bytes) -> httpx.Response:
    async def send() -> httpx.Response:
        transport = httpx.ASGITransport(guard)
        async with httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1:8080") as client:
            return await client.request(method, path, headers=headers)

    return asyncio.run(send())


def guard(key: str = "", names: frozenset[str] = OWN) -> Guard:
    return Guard(PlainTextResponse("in"), key, names)


@pytest.mark.parametrize(
    ("host", "status"),
    [
        ("127.0.0.1:8080", 200), ("localhost", 200), ("LOCALHOST:1", 200), ("[::1]:8080", 200),
        ("evil.example:8080", 421), ("127.0.0.1.evil.example", 421), ("", 421), ("[", 421),
    ],
)  # fmt: skip
def test_on_loopback_the_server_answers_to_its_own_names_only(host: str, status: int) -> None:
    assert ask(guard(), host=host).status_code == status


def test_names_that_are_allowed() -> None:
    assert ask(guard(names=names_of("127.0.0.1", ["Chat.example"])), host="chat.example").status_code == 200
    assert names_of("0.0.0.0", []) == frozenset()
    assert ask(guard(names=frozenset()), host="anything.example").status_code == 200
    assert ask(guard(names=names_of("0.0.0.0", ["chat.example"])), host="other.example").status_code == 421


@pytest.mark.parametrize(
    ("origin", "status"),
    [("http://127.0.0.1:8080", 200), ("http://127.0.0.1:9", 403), ("https://evil.example", 403), ("null", 403)],
)
def test_pages_of_other_sites_cannot_ask(origin: str, status: int) -> None:
    assert ask(guard(), origin=origin).status_code == status
    assert ask(guard(), method="GET", origin=origin).status_code == 200


@pytest.mark.parametrize(
    ("authorization", "status"),
    [
        ("Bearer secret", 200), ("bearer secret", 200), ("Basic bWU6c2VjcmV0", 200),
        ("", 401), ("Bearer", 401), ("Bearer Secret", 401), ("Bearer secre", 401), ("secret", 401),
        ("Basic secret", 401), ("Basic ???", 401), ("Digest secret", 401), ("Basic c2VjcmV0", 401),
        ("Bearer sécret", 401),
    ],
)  # fmt: skip
def test_the_key_is_wanted(authorization: str, status: int) -> None:
    reply = ask(guard("secret"), authorization=authorization.encode())
    assert reply.status_code == status
    if status == 401:
        assert reply.headers["www-authenticate"].startswith("Basic")
        assert reply.json()["error"]["code"] == "invalid_api_key"


def test_health_needs_no_key_and_every_other_path_does() -> None:
    assert ask(guard("secret"), "GET", "/health").status_code == 200
    for path in ("/", "/metrics", "/health/", "/v1/models", "/gradio_api/upload"):
        assert ask(guard("secret"), "GET", path).status_code == 401


def test_sockets_are_refused() -> None:
    sent: list[Any] = []

    async def collect(message: Any) -> None:
        sent.append(message)

    asyncio.run(guard()({"type": "websocket", "path": "/"}, None, collect))  # type: ignore[arg-type]
    assert sent == [{"type": "websocket.close", "code": 1008}]
