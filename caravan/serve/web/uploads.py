"""Files that a page's events may name: those that were uploaded to this server, and no other of this machine.

Gradio checks this only for applications that it starts itself. In one that is mounted, an event could name any file,
or any URL, and would get it as if it had been uploaded. So what events carry is looked through here, before Gradio.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from typing import Any

from gradio.utils import get_upload_folder
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from caravan.core.errors import MediaError
from caravan.serve.errors import error_body

EVENTS = "/gradio_api/"
# The one event route whose body is files themselves.
UPLOAD = "/gradio_api/upload"


def uploaded(path: str) -> str:
    """The true place of a file that someone has uploaded to this server, or recorded.

    Raises:
        MediaError: it is another of this machine's files, or there is none; no file is opened to find out.
    """
    folder = os.path.realpath(get_upload_folder())
    name = path.rpartition("/")[2][:80]
    try:
        real = os.path.realpath(path)
        inside = os.path.commonpath([folder, real]) == folder and os.path.isfile(real)
    except ValueError:
        inside = False
    if not inside:
        raise MediaError("the file is not here", expected="an uploaded file", got=name, fix="upload it again")
    return real


class Uploads:
    """Refuses events that name other files."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        path = scope.get("path", "")
        looked_at = scope["type"] == "http" and scope["method"] == "POST" and path.startswith(EVENTS)
        if not looked_at or path.rstrip("/") == UPLOAD:
            await self.app(scope, receive, send)
            return
        body = await _body(receive)
        if (refusal := _refusal(body)) is not None:
            await refusal(scope, receive, send)
            return
        told = False

        async def again() -> Message:
            nonlocal told
            if told:
                return await receive()
            told = True
            return {"type": "http.request", "body": body, "more_body": False}

        await self.app(scope, again, send)


async def _body(receive: Receive) -> bytes:
    pieces = []
    while (message := await receive())["type"] == "http.request":
        pieces.append(message.get("body", b""))
        if not message.get("more_body", False):
            break
    return b"".join(pieces)


def _refusal(body: bytes) -> JSONResponse | None:
    try:
        for path in places(json.loads(body or b"null")):
            uploaded(path)
    except MediaError as error:
        return JSONResponse(error_body(f"{error.problem}: {error.got}", status=400, code="unknown_file"), 400)
    except (ValueError, RecursionError):
        return JSONResponse(error_body("the body is not JSON", status=400, code="invalid_json"), 400)
    return None


def places(value: Any) -> Iterator[str]:
    """Every path that Gradio would take a file from, anywhere in an event's data."""
    if isinstance(value, dict):
        path = value.get("path")
        if isinstance(path, str) and path:
            yield path
        for inner in value.values():
            yield from places(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from places(inner)
