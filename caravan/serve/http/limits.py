"""How much a request may carry, kept while it is read, and how long its client may take over it."""

from __future__ import annotations

import asyncio

from starlette.datastructures import Headers
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from caravan.recipe.serve import LimitsConfig, TimeoutsConfig

RETRY = {"Retry-After": "5"}


class Limits:
    """Answers 413 to a body that is too large, announced or not, 429 to one that is too much on top of the others,
    408 to one that does not come; gives up a client that does not take its answer."""

    def __init__(self, app: ASGIApp, limits: LimitsConfig, timeouts: TimeoutsConfig) -> None:
        self.app, self.limits, self.timeouts = app, limits, timeouts
        self.held = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        body = _Body(self, scope, receive)

        async def patient(message: Message) -> None:
            async with asyncio.timeout(self.timeouts.send):
                await send(message)

        try:
            await self.app(scope, body.receive, patient)
        finally:
            self.held -= body.size


class _Body:
    """The body of one request while it comes in."""

    def __init__(self, limits: Limits, scope: Scope, receive: Receive) -> None:
        announced = Headers(scope=scope).get("content-length", "0")
        self.announced = int(announced) if announced.isdecimal() else 0
        self.owner, self._receive = limits, receive
        self.size = 0
        self.whole = False

    async def receive(self) -> Message:
        if self.whole:
            return await self._receive()  # until the client goes away
        self._check(self.announced)
        try:
            async with asyncio.timeout(self.owner.timeouts.body):
                message = await self._receive()
        except TimeoutError:
            raise HTTPException(408, f"no more of the body came for {self.owner.timeouts.body:g} s") from None
        size = len(message.get("body", b""))
        self.size += size
        self.owner.held += size
        self._check(self.size)
        self.whole = message["type"] != "http.request" or not message.get("more_body", False)
        return message

    def _check(self, size: int) -> None:
        most, most_of_all = self.owner.limits.request_bytes, self.owner.limits.all_bytes
        if size > most:
            raise HTTPException(413, f"the request is too large; expected at most {most:,} bytes; got {size:,}")
        others = self.owner.held - self.size
        if others and others + size > most_of_all:
            raise HTTPException(429, f"the server is busy; expected less than {most_of_all - others:,} bytes", RETRY)
