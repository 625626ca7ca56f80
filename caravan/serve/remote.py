"""Pictures from allowed hosts: fetched without a way to this machine or its network.

The name is resolved here, every address that it has must be public, and the connection goes to the very address that
was checked, so that a name cannot mean another machine a moment later. Redirects are not followed.
"""

from __future__ import annotations

import asyncio
import ipaddress
import socket
from collections.abc import Awaitable, Callable, Collection, Mapping
from urllib.parse import urlsplit

import httpx

from caravan.serve.errors import RequestError

SECONDS = 20.0
PORTS = {"http": 80, "https": 443}
_NAT64 = ipaddress.ip_network("64:ff9b::/96")

Resolve = Callable[[str], Awaitable[list[str]]]


async def resolve(host: str) -> list[str]:
    """The addresses of a host."""
    found = await asyncio.get_running_loop().getaddrinfo(host, None, type=socket.SOCK_STREAM)
    return [str(entry[4][0]) for entry in found]


def is_public(address: str) -> bool:
    """Whether an address is one of the public internet, whatever it is wrapped in."""
    try:
        ip = ipaddress.ip_address(address.partition("%")[0])
    except ValueError:
        return False
    if isinstance(ip, ipaddress.IPv6Address):
        inner = ip.ipv4_mapped or ip.sixtofour or (ip.teredo and ip.teredo[1])
        if ip in _NAT64:
            inner = ipaddress.IPv4Address(int(ip) & 0xFFFFFFFF)
        if inner:
            return is_public(str(inner))
    return ip.is_global and not (ip.is_multicast or ip.is_reserved or ip.is_unspecified)


class Fetcher:
    """Fetches from allowed hosts.

    Args:
        hosts: their names.
        most: bytes of all pictures of one request.
        resolve: gives a host's addresses.
        public: whether an address may be asked.
    """

    def __init__(
        self,
        hosts: Collection[str],
        most: int,
        resolve: Resolve = resolve,
        public: Callable[[str], bool] = is_public,
    ) -> None:
        self.hosts = frozenset(host.lower() for host in hosts)
        self.most, self.resolve, self.public = most, resolve, public

    async def fetch_all(self, urls: Mapping[str, str]) -> dict[str, bytes]:
        """The bytes under each URL; the values say where it stands in the request. Raises as `fetch`."""
        fetched: dict[str, bytes] = {}
        for url, param in urls.items():
            fetched[url] = await self.fetch(url, param, self.most - sum(map(len, fetched.values())))
        return fetched

    async def fetch(self, url: str, param: str, most: int | None = None) -> bytes:
        """The bytes under a URL, at most so many.

        Raises:
            RequestError: the host is not allowed or not public, does not answer with a file, or with one too large.
        """
        try:
            parts = urlsplit(url)
            host, port = (parts.hostname or "").lower(), parts.port
        except ValueError:
            raise self._elsewhere(url, param) from None
        known = PORTS.get(parts.scheme)
        if host not in self.hosts or known is None or port not in (None, known) or "@" in parts.netloc:
            raise self._elsewhere(url, param)
        query = f"?{parts.query}" if parts.query else ""
        try:
            async with asyncio.timeout(SECONDS):
                address = await self._address(host, param)
                name = f"[{address}]" if ":" in address else address
                target = f"{parts.scheme}://{name}:{known}{parts.path or '/'}{query}"
                return await self._read(target, host, param, self.most if most is None else most)
        except (OSError, httpx.HTTPError, httpx.InvalidURL, UnicodeError) as error:
            raise _refusal(param, "a picture there", str(error) or type(error).__name__) from error

    def _elsewhere(self, url: str, param: str) -> RequestError:
        hosts = f"or a picture of {', '.join(sorted(self.hosts))}" if self.hosts else "(any common image format)"
        return _refusal(param, f"data:image/png;base64,... {hosts}", url[:60])

    async def _address(self, host: str, param: str) -> str:
        addresses = await self.resolve(host)
        if not addresses or not all(map(self.public, addresses)):
            raise _refusal(param, "a host of the public internet", host)
        return addresses[0]

    async def _read(self, url: str, host: str, param: str, most: int) -> bytes:
        """Ask the address in a URL as if it had been asked by its host's name."""
        # Nothing that unpacks to more than was sent.
        headers = {"Host": host, "Accept": "image/*", "Accept-Encoding": "identity"}
        extensions = {"sni_hostname": host, "timeout": httpx.Timeout(SECONDS).as_dict()}
        request = httpx.Request("GET", url, headers=headers, extensions=extensions)
        async with httpx.AsyncClient(trust_env=False, follow_redirects=False) as client:
            reply = await client.send(request, stream=True)
            try:
                if reply.status_code != 200:
                    raise _refusal(param, "status 200, no redirect", reply.status_code)
                data = b""
                async for chunk in reply.aiter_raw():
                    data += chunk
                    if len(data) > most:
                        raise _refusal(param, f"at most {most:,} bytes", "more")
                return data
            finally:
                await reply.aclose()


def _refusal(param: str, expected: str, got: object) -> RequestError:
    return RequestError(
        "the picture is not fetched",
        param=param,
        code="remote_media_refused",
        expected=expected,
        got=got,
        fix="send the picture itself, in base64",
    )
