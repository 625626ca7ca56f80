from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Event, Thread

import pytest

from caravan.core.endpoint import Endpoint, as_they_come, key_of
from caravan.core.errors import EndpointError


class Service(ThreadingHTTPServer):
    """Answers with the statuses of a list, one after the other."""

    def __init__(self, statuses: list[int]) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.statuses, self.asked = statuses, 0

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}/v1"


class Handler(BaseHTTPRequestHandler):
    def do_POST(self) -> None:
        service = self.server
        assert isinstance(service, Service)
        self.rfile.read(int(self.headers["content-length"]))
        service.asked += 1
        self.send_response(service.statuses.pop(0))
        self.send_header("retry-after", "0")
        self.end_headers()
        self.wfile.write(self.headers.get("authorization", "").encode() or b"no key")

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def service() -> Iterator[Service]:
    with Service([]) as server:
        Thread(target=server.serve_forever, daemon=True).start()
        yield server
        server.shutdown()


def test_a_busy_service_is_asked_again(service: Service) -> None:
    service.statuses = [429, 503, 200]
    endpoint = Endpoint(service.url, {"Authorization": "Bearer k"}, pause=0.01)
    assert endpoint.post(json={}).text == "Bearer k"
    assert service.asked == 3
    endpoint.close()


def test_a_refusal_is_final_and_says_why(service: Service) -> None:
    service.statuses = [401, 200]
    endpoint = Endpoint(service.url, pause=0.01)
    with pytest.raises(EndpointError, match=r"refuses(.|\n)*status 401: no key"):
        endpoint.post(json={})
    assert service.asked == 1
    endpoint.close()


def test_no_answer_after_all_tries(service: Service) -> None:
    service.statuses = [500] * 3
    endpoint = Endpoint(service.url, tries=3, pause=0.01)
    with pytest.raises(EndpointError, match="after 3 tries"):
        endpoint.post(json={})
    endpoint.close()
    nowhere = Endpoint("http://127.0.0.1:9/v1", tries=2, pause=0.01)
    with pytest.raises(EndpointError, match="Connect"):
        nowhere.post(json={})
    nowhere.close()


def test_a_key_comes_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("A_KEY", "secret")
    monkeypatch.delenv("NO_KEY", raising=False)
    assert (key_of("A_KEY", "x"), key_of(None, "x")) == ("secret", "")
    with pytest.raises(EndpointError, match="no NO_KEY"):
        key_of("NO_KEY", "x")


def test_what_was_under_way_when_one_failed_is_not_lost() -> None:
    last_started = Event()

    def ask(number: int) -> int:
        if number == 3:
            last_started.set()
        if number == 0:
            assert last_started.wait(30)
            raise EndpointError("out of order")
        return number

    got = []
    with ThreadPoolExecutor(4) as pool, pytest.raises(EndpointError, match="out of order"):
        for place, answer in as_they_come(pool, ask, range(4)):
            got.append((place, answer))
    assert sorted(got) == [(1, 1), (2, 2), (3, 3)]
