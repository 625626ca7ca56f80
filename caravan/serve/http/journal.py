"""A line in the log and a figure for each request: what was asked for and how it ended, nothing of what was said."""

from __future__ import annotations

import time

from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from caravan.core.log import get_logger
from caravan.serve.metrics import Metrics

log = get_logger(__name__)

# The page's own files and questions are many, and say nothing.
TOLD = ("/v1/", "/chat")


class Journal:
    """Counts responses, and writes a line for each of the API."""

    def __init__(self, app: ASGIApp, metrics: Metrics) -> None:
        self.app, self.metrics = app, metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or not scope["path"].startswith(TOLD):
            await self.app(scope, receive, send)
            return
        status, started = 499, time.monotonic()

        async def noted(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        try:
            await self.app(scope, receive, noted)
        except (ClientDisconnect, TimeoutError):
            status = 499  # it went away, or does not take what it is sent
        except Exception:
            status = 500
            raise
        finally:
            route = getattr(scope.get("route"), "path", "other")
            self.metrics.responses.labels(route, str(status)).inc()
            log.info("%s %s %d %.2f s", scope["method"], route, status, time.monotonic() - started)
