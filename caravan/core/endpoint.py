"""An HTTP service that is asked many times: keys from the environment, a time limit, and tries with growing pauses."""

from __future__ import annotations

import os
import random
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TypeVar

from caravan.core.errors import EndpointError, MissingDependencyError

if TYPE_CHECKING:
    import httpx

T = TypeVar("T")
R = TypeVar("R")
BUSY = frozenset({408, 409, 425, 429, 500, 502, 503, 504})
LONGEST_PAUSE = 60.0


@dataclass
class Endpoint:
    """One address of a service; safe to ask from several threads.

    Attributes:
        url: where it answers.
        headers: sent with each request, the key among them.
        seconds: for one try.
        tries: how often a request is made while the service is busy, out of order or out of reach.
        pause: seconds before the second try; each further pause is twice as long, up to a minute.
    """

    url: str
    headers: Mapping[str, str] = field(default_factory=dict)
    seconds: float = 120.0
    tries: int = 6
    pause: float = 1.0

    def __post_init__(self) -> None:
        try:
            import httpx
        except ImportError as error:
            raise MissingDependencyError("httpx", "serve", needed_for="asking an HTTP service") from error
        self._client = httpx.Client(timeout=self.seconds, headers=dict(self.headers), limits=httpx.Limits())

    def post(self, **what: Any) -> httpx.Response:
        """Post `json=`, `content=` or `data=` with `files=`.

        Raises:
            EndpointError: it refuses the request, or does not answer after all tries.
        """
        import httpx

        for number in range(1, self.tries + 1):
            wait = min(self.pause * 2 ** (number - 1), LONGEST_PAUSE) * random.uniform(0.8, 1.2)
            try:
                reply = self._client.post(self.url, **what)
            except httpx.HTTPError as error:
                got = f"{type(error).__name__}: {error}"
            else:
                if reply.status_code < 300:
                    return reply
                got = f"status {reply.status_code}: {reply.text[:200]}"
                if reply.status_code not in BUSY:
                    raise self._failed("the service refuses the request", got)
                wait = max(wait, _asked_pause(reply.headers))
            if number < self.tries:
                time.sleep(wait)
        raise self._failed(f"the service does not answer after {self.tries} tries", got)

    def _failed(self, problem: str, got: str) -> EndpointError:
        return EndpointError(
            problem,
            where=self.url,
            expected="an answer of status 200",
            got=got,
            fix="check url, model and key, then run the same command again: it goes on where it stopped",
        )

    def close(self) -> None:
        self._client.close()


def as_they_come(pool: ThreadPoolExecutor, ask: Callable[[T], R], things: Iterable[T]) -> Iterator[tuple[int, R]]:
    """Place and answer of each thing, in the order of the answers.

    Raises:
        whatever the first failure raised; what was under way then is answered first, nothing more is asked.
    """
    asked = {pool.submit(ask, thing): place for place, thing in enumerate(things)}
    failure: BaseException | None = None
    for done in as_completed(asked):
        if done.cancelled():
            continue
        error = done.exception()
        if error is None:
            yield asked[done], done.result()
        elif failure is None:
            failure = error
            for other in asked:
                other.cancel()
    if failure is not None:
        raise failure


def _asked_pause(headers: Mapping[str, str]) -> float:
    """Seconds of a Retry-After header, 0 if it has none that is short enough to wait for."""
    try:
        return min(float(headers.get("retry-after", 0)), LONGEST_PAUSE)
    except ValueError:
        return 0.0


def key_of(variable: str | None, where: str) -> str:
    """A key that stands in an environment variable; empty where none is named.

    Raises:
        EndpointError: the variable is not set.
    """
    if variable is None:
        return ""
    key = os.environ.get(variable, "")
    if not key:
        raise EndpointError(
            f"the environment has no {variable}",
            where=where,
            expected="the service's key in this variable",
            got="nothing",
            fix=f"export {variable}=..., or leave the name of the variable out for a service without a key",
        )
    return key
