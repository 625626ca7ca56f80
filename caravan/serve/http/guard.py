"""Who may come in: those who ask for this server by a name of its own, from no other site's page, with the key."""

from __future__ import annotations

import base64
import binascii
import hmac
from collections.abc import Iterable
from urllib.parse import urlsplit

from starlette.datastructures import Headers
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Receive, Scope, Send

from caravan.serve.errors import error_body
from caravan.serve.stage import is_loopback

# Health checks have no key, and learn nothing that is worth one.
OPEN = frozenset({"/health"})
LOOPBACK = frozenset({"localhost", "127.0.0.1", "::1"})


def names_of(host: str, allowed: Iterable[str]) -> frozenset[str]:
    """The names under which a server may be asked for; none means any.

    On loopback they keep out pages whose own name was made to lead to this machine (DNS rebinding).
    """
    named = frozenset(name.lower() for name in allowed)
    if is_loopback(host):
        return named | LOOPBACK | {host}
    return named and named | {host}


class Guard:
    """Refuses what does not belong here, in words.

    Args:
        app: what is guarded.
        key: which every request must give, as a bearer's token or as Basic authentication's password; "" for none.
        names: of the server; empty for any.
    """

    def __init__(self, app: ASGIApp, key: str, names: frozenset[str]) -> None:
        self.app, self.key, self.names = app, key.encode(), names

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await self.app(scope, receive, send)
        elif scope["type"] == "websocket":
            await send({"type": "websocket.close", "code": 1008})
        elif refusal := self._refusal(scope):
            await refusal(scope, receive, send)
        else:
            await self.app(scope, receive, send)

    def _refusal(self, scope: Scope) -> JSONResponse | None:
        headers = Headers(scope=scope)
        host = headers.get("host", "")
        if self.names and _hostname(host) not in self.names:
            return _refuse(421, "unknown_host", f"this server has no such name: {host[:80]}; see allowed_hosts")
        origin = headers.get("origin")
        if origin is not None and scope["method"] not in ("GET", "HEAD") and urlsplit(origin).netloc != host:
            return _refuse(403, "foreign_origin", "pages of other sites may not ask this server")
        if self.key and scope["path"] not in OPEN and not self._knows_key(headers.get("authorization", "")):
            return _refuse(
                401,
                "invalid_api_key",
                "this server wants its API key; expected Authorization: Bearer KEY",
                # A browser asks for name and password when it is shown this; the name does not matter.
                {"WWW-Authenticate": 'Basic realm="Caravan", charset="UTF-8"'},
            )
        return None

    def _knows_key(self, authorization: str) -> bool:
        scheme, _, given = authorization.partition(" ")
        key = given.strip().encode()
        if scheme.lower() == "basic":
            try:
                key = base64.b64decode(key, validate=True).partition(b":")[2]
            except binascii.Error:
                return False
        return scheme.lower() in ("bearer", "basic") and hmac.compare_digest(key, self.key)


def _hostname(host: str) -> str:
    try:
        return (urlsplit(f"//{host}").hostname or "").lower()
    except ValueError:
        return ""


def _refuse(status: int, code: str, words: str, headers: dict[str, str] | None = None) -> JSONResponse:
    return JSONResponse(error_body(words, status=status, code=code), status, headers)
