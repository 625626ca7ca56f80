"""A limit on what a client may send, kept while it is read."""

from __future__ import annotations

from starlette.datastructures import Headers
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send


class BodyLimit:
    """Answers 413 to a request whose body has more than `most` bytes, announced or not."""

    def __init__(self, app: ASGIApp, most: int) -> None:
        self.app, self.most = app, most

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        announced = Headers(scope=scope).get("content-length", "0")
        seen = 0

        async def counted() -> Message:
            nonlocal seen
            self._check(int(announced) if announced.isdecimal() else 0)
            message = await receive()
            seen += len(message.get("body", b""))
            self._check(seen)
            return message

        await self.app(scope, counted, send)

    def _check(self, size: int) -> None:
        if size > self.most:
            raise HTTPException(413, f"the request is too large; expected at most {self.most:,} bytes; got {size:,}")
