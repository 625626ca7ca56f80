"""What can go wrong with one request, and how its client is told: OpenAI's error shape."""

from __future__ import annotations

from typing import Any

from caravan.core.errors import CaravanError, DataError, MediaError, PlaceholderError, ServeError


class RequestError(ServeError):
    """A request that cannot be answered as it stands.

    Args:
        problem, expected, got, fix: as for every CaravanError.
        param: the field at fault, such as `messages[0].content[1]`.
        code: a word for programs.
        status: the HTTP status that says it.
    """

    def __init__(
        self,
        problem: str,
        *,
        param: str | None = None,
        code: str = "invalid_value",
        status: int = 400,
        expected: object = None,
        got: object = None,
        fix: str | None = None,
    ) -> None:
        self.code, self.status = code, status
        super().__init__(problem, expected=expected, got=got, fix=fix, where=param)


class EngineDownError(ServeError):
    """The engine is starting, restarting, or died over this request."""

    def __init__(self, got: str) -> None:
        super().__init__(
            "the engine is not available",
            expected="a running engine",
            got=got,
            fix="send the request again in a few seconds; the engine is restarted by itself",
        )


class BusyError(ServeError):
    """There are more requests than can be answered or kept waiting."""

    def __init__(self, got: str) -> None:
        super().__init__(
            "the server is busy", expected="a free place in the queue", got=got, fix="send the request again later"
        )


class LateError(ServeError):
    """An answer takes longer than it may."""

    def __init__(self, what: str, seconds: float) -> None:
        super().__init__(
            "the answer took too long", expected=f"{what} within {seconds:g} s", got="none", fix="ask for less at once"
        )


def sentence(error: CaravanError) -> str:
    """An error in one line."""
    head = f"{error.where}: {error.problem}" if error.where else error.problem
    rest = [
        f"{name} {value}" for name, value in (("expected", error.expected), ("got", error.got)) if value is not None
    ]
    return "; ".join([head, *rest, *([f"to do: {error.fix}"] if error.fix else [])])


def status_of(error: CaravanError) -> tuple[int, str]:
    """The HTTP status of an error, and its code."""
    match error:
        case RequestError():
            return error.status, error.code
        case EngineDownError():
            return 503, "engine_unavailable"
        case BusyError():
            return 429, "server_busy"
        case LateError():
            return 504, "timeout"
        case MediaError():
            return 400, "invalid_media"
        case PlaceholderError():
            return 400, "special_token"
        case DataError():
            return 400, "invalid_value"
        case _:
            return 500, "internal_error"


def error_body(message: str, *, status: int, code: str, param: str | None = None) -> dict[str, Any]:
    """An error as OpenAI's clients expect it. What it quotes of a request may be no Unicode; what it says is."""
    kind = "invalid_request_error" if status < 500 else "server_error"
    error = {"message": message, "type": kind, "param": param, "code": code}
    return {"error": {name: text and text.encode(errors="replace").decode() for name, text in error.items()}}


def body_of(error: CaravanError) -> dict[str, Any]:
    """The JSON body that tells a client of this error."""
    status, code = status_of(error)
    return error_body(sentence(error), status=status, code=code, param=error.where)
