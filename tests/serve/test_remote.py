from __future__ import annotations

import asyncio
import socket
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from caravan.serve.errors import RequestError
from caravan.serve.remote import PORTS, Fetcher, is_public


@pytest.mark.parametrize(
    "address",
    [
        "127.0.0.1", "127.8.8.8", "0.0.0.0", "10.0.0.1", "172.16.0.1", "192.168.1.1", "169.254.169.254", "100.64.0.1",
        "192.0.2.1", "198.18.0.1", "224.0.0.1", "240.0.0.1", "255.255.255.255", "::1", "::", "fe80::1%eth0", "fc00::1",
        "::ffff:127.0.0.1", "::ffff:10.0.0.1", "64:ff9b::7f00:1", "2002:7f00:1::", "ff02::1", "2001:db8::1", "x", "",
    ],
)  # fmt: skip
def test_addresses_that_are_never_asked(address: str) -> None:
    assert not is_public(address)


@pytest.mark.parametrize(
    "address", ["1.1.1.1", "93.184.215.14", "2606:4700::1111", "::ffff:1.1.1.1", "64:ff9b::101:101"]
)
def test_addresses_of_the_public_internet(address: str) -> None:
    assert is_public(address)


class Site(BaseHTTPRequestHandler):
    """A site with a picture, a redirect, a file too large, and one that says that it is packed."""

    def do_GET(self) -> None:
        seen.append((self.path, self.headers["Host"], self.headers["Accept-Encoding"]))
        status, body = {"/a.png?x=1": (200, b"picture"), "/moved": (302, b""), "/large": (200, b"x" * 5000)}.get(
            self.path, (404, b"no")
        )
        self.send_response(status)
        self.send_header("Location", "/a.png?x=1")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        pass


seen: list[tuple[str, str, str]] = []


@pytest.fixture(scope="module")
def site() -> Iterator[int]:
    with ThreadingHTTPServer(("127.0.0.1", 0), Site) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield server.server_address[1]
        server.shutdown()


async def here(_: str) -> list[str]:
    return ["127.0.0.1"]


def fetch(fetcher: Fetcher, url: str) -> bytes:
    return asyncio.run(fetcher.fetch(url, "messages[0]"))


@pytest.fixture
def open_fetcher(site: int, monkeypatch: pytest.MonkeyPatch) -> Fetcher:
    """One for which this machine is the public internet, and the site's port that of HTTP."""
    monkeypatch.setitem(PORTS, "http", site)
    return Fetcher(["Pictures.example"], 1000, here, lambda address: address == "127.0.0.1")


def test_a_picture_of_an_allowed_host(open_fetcher: Fetcher, site: int) -> None:
    seen.clear()
    assert fetch(open_fetcher, f"http://pictures.example:{site}/a.png?x=1") == b"picture"
    assert seen == [("/a.png?x=1", "pictures.example", "identity")]


@pytest.mark.parametrize(("path", "words"), [("moved", "no redirect"), ("large", "at most 1,000"), ("none", "404")])
def test_what_is_no_picture_of_bounded_size_is_refused(open_fetcher: Fetcher, site: int, path: str, words: str) -> None:
    with pytest.raises(RequestError, match=words):
        fetch(open_fetcher, f"http://pictures.example:{site}/{path}")


@pytest.mark.parametrize(
    "url",
    [
        "http://other.example/a.png", "https://pictures.example.evil/a.png", "http://pictures.example@evil/a.png",
        "ftp://pictures.example/a.png", "file:///etc/passwd", "http://pictures.example:22/", "http://[", "http://x:y/",
        "",         "//pictures.example/a.png", "http://evil\\@pictures.example/",
    ],
)  # fmt: skip
def test_other_places_are_not_asked(url: str) -> None:
    async def never(_: str) -> list[str]:
        pytest.fail("the name was looked up")

    with pytest.raises(RequestError, match="not fetched") as caught:
        fetch(Fetcher(["pictures.example"], 1000, never), url)
    assert (caught.value.code, caught.value.where) == ("remote_media_refused", "messages[0]")


@pytest.mark.parametrize("addresses", [["127.0.0.1"], ["1.1.1.1", "10.0.0.1"], ["::1"], []])
def test_an_allowed_name_that_leads_home_is_refused(addresses: list[str]) -> None:
    async def found(_: str) -> list[str]:
        return addresses

    with pytest.raises(RequestError, match="public internet"):
        fetch(Fetcher(["pictures.example"], 1000, found), "http://pictures.example/a.png")


@pytest.mark.parametrize("host", ["localhost", "127.0.0.1", "0x7f000001", "2130706433", "127.1", "[::ffff:127.0.0.1]"])
def test_no_spelling_of_this_machine_gets_through(host: str) -> None:
    with pytest.raises(RequestError, match="not fetched"):
        fetch(Fetcher([host.strip("[]")], 1000), f"http://{host}/")


def test_a_name_that_is_not_known() -> None:
    async def unknown(_: str) -> list[str]:
        raise socket.gaierror("no such name")

    with pytest.raises(RequestError, match="no such name"):
        fetch(Fetcher(["pictures.example"], 1000, unknown), "http://pictures.example/a.png")
