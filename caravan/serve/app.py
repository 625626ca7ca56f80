"""The front end over HTTP: OpenAI's routes over an assistant. Whatever comes in, it stays up."""

from __future__ import annotations

import time
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, Response
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest
from starlette.exceptions import HTTPException

from caravan import __version__
from caravan.core.errors import CaravanError
from caravan.serve.api import chat, completions, embeddings, linly, transcriptions
from caravan.serve.api.base import check_model, validation_body
from caravan.serve.assistant import Assistant
from caravan.serve.errors import body_of, error_body, status_of
from caravan.serve.http.guard import Guard, names_of
from caravan.serve.http.journal import Journal
from caravan.serve.http.limits import Limits

CODES = {404: "not_found", 405: "method_not_allowed", 408: "timeout", 413: "request_too_large", 429: "server_busy"}
ROUTES = (chat, completions, embeddings, transcriptions, linly)


def create_app(assistant: Assistant) -> FastAPI:
    """The HTTP application of an assistant: `/v1`, `/chat`, `/health` and `/metrics`."""
    # FastAPI's interactive pages load scripts from elsewhere: left out.
    app = FastAPI(title="Caravan", version=__version__, docs_url=None, redoc_url=None)
    config = assistant.config
    # The last is the first that a request meets.
    app.add_middleware(Limits, limits=config.limits, timeouts=config.timeouts)
    app.add_middleware(Guard, key=config.api_key or "", names=names_of(config.host, config.allowed_hosts))
    app.add_middleware(Journal, metrics=assistant.metrics)
    _add_errors(app)
    for route in ROUTES:
        route.add(app, assistant)
    _add_facts(app, assistant)
    return app


def _add_facts(app: FastAPI, assistant: Assistant) -> None:
    card = {"id": assistant.name, "object": "model", "created": int(time.time()), "owned_by": "caravan"}

    @app.get("/v1/models")
    async def models() -> dict[str, Any]:
        return {"object": "list", "data": [card]}

    @app.get("/v1/models/{name:path}")
    async def model(name: str) -> dict[str, Any]:
        check_model(name, assistant.name)
        return card

    @app.get("/health")
    async def health() -> dict[str, Any]:
        return {"status": "ok", **assistant.health()}

    @app.get("/metrics", include_in_schema=False)
    async def metrics() -> Response:
        return Response(generate_latest(assistant.metrics.registry), media_type=CONTENT_TYPE_LATEST)

    # What is mounted at / would answer these with a page.
    @app.api_route("/v1/{rest:path}", methods=["GET", "POST", "PUT", "PATCH", "DELETE"], include_in_schema=False)
    async def unknown(rest: str, request: Request) -> None:
        raise HTTPException(404, f"{request.method} /v1/{rest[:80]} is not offered")


def _add_errors(app: FastAPI) -> None:
    @app.exception_handler(CaravanError)
    async def refused(_: Request, error: CaravanError) -> JSONResponse:
        status, _code = status_of(error)
        return JSONResponse(body_of(error), status, {"Retry-After": "2"} if status in (429, 503) else None)

    @app.exception_handler(RequestValidationError)
    async def invalid(_: Request, error: RequestValidationError) -> JSONResponse:
        return JSONResponse(validation_body(error.errors()), 400)

    @app.exception_handler(HTTPException)
    async def plain(_: Request, error: HTTPException) -> JSONResponse:
        code = CODES.get(error.status_code, "invalid_request")
        words = error.detail
        if isinstance(error.__cause__, UnicodeDecodeError | RecursionError):
            code, words = "invalid_json", f"the body is not JSON: {error.__cause__}; expected a JSON object in UTF-8"
        body = error_body(words, status=error.status_code, code=code)
        return JSONResponse(body, error.status_code, error.headers)

    @app.exception_handler(Exception)
    async def unforeseen(_: Request, error: Exception) -> JSONResponse:
        return JSONResponse(error_body("internal error", status=500, code="internal_error"), 500)
