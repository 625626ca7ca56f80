"""A server on this machine that answers as the Hugging Face hub, as S3 and as a plain web server do."""

from __future__ import annotations

import hashlib
import json
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

COMMIT = "0123456789abcdef0123456789abcdef01234567"
REVISIONS = ("main", "refs/convert/parquet")
HUB = "/datasets/owner/name"
BUCKET = "/bucket/"


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Server

    def log_message(self, *_: Any) -> None:
        pass

    def do_GET(self) -> None:
        self.server.asked.append(self.path)
        path, query = unquote(urlsplit(self.path).path), parse_qs(urlsplit(self.path).query)
        files = self.server.files
        if path.startswith(f"/api{HUB}"):
            self._hub_api(path.removeprefix(f"/api{HUB}"), query)
        elif match := re.fullmatch(rf"{HUB}/resolve/({'|'.join(REVISIONS)})/(.+)", path):
            self._file(files.get(match[2]))
        elif path.rstrip("/") == BUCKET.rstrip("/") and "list-type" in query:
            self._bucket(query.get("prefix", [""])[0], query.get("delimiter", [""])[0])
        elif path == "/files/":
            self._answer("".join(f'<a href="{name}">{name}</a>' for name in files).encode(), kind="text/html")
        else:
            self._file(files.get(path.removeprefix(BUCKET).removeprefix("/files/")))

    do_HEAD = do_GET  # noqa: N815

    def _hub_api(self, rest: str, query: dict[str, list[str]]) -> None:
        if match := re.match(rf"/tree/({'|'.join(REVISIONS)})/?(.*)", rest):
            folder = f"{match[2]}/".lstrip("/")
            inside = {name: data for name, data in self.server.files.items() if name.startswith(folder)}
            folders = {name.rsplit("/", 1)[0] for name in inside if "/" in name.removeprefix(folder)}
            entries: list[dict[str, Any]] = [{"type": "directory", "path": name, "oid": name} for name in folders]
            entries += [
                {"type": "file", "path": name, "size": len(data), "oid": hashlib.sha1(data).hexdigest()}
                for name, data in inside.items()
                if "true" in query.get("recursive", "") or "/" not in name.removeprefix(folder)
            ]
            self._answer(json.dumps(entries).encode())
        else:
            self._answer(json.dumps({"id": "owner/name", "sha": COMMIT, "siblings": [], "tags": []}).encode())

    def _bucket(self, prefix: str, delimiter: str) -> None:
        entries, folders = "", set()
        for name, data in self.server.files.items():
            if not name.startswith(prefix):
                continue
            rest = name[len(prefix) :]
            if delimiter and delimiter in rest:
                folders.add(prefix + rest.split(delimiter)[0] + delimiter)
            else:
                tag = hashlib.md5(data).hexdigest()
                entries += (
                    f"<Contents><Key>{name}</Key><Size>{len(data)}</Size><ETag>&quot;{tag}&quot;</ETag>"
                    "<LastModified>2026-01-01T00:00:00.000Z</LastModified></Contents>"
                )
        entries += "".join(f"<CommonPrefixes><Prefix>{name}</Prefix></CommonPrefixes>" for name in sorted(folders))
        space = "http://s3.amazonaws.com/doc/2006-03-01/"
        head = f'<ListBucketResult xmlns="{space}"><Name>bucket</Name><IsTruncated>false</IsTruncated>'
        self._answer(f"{head}{entries}</ListBucketResult>".encode(), kind="application/xml")

    def _file(self, data: bytes | None) -> None:
        if data is None:
            self._answer(b"", 404)
        elif match := re.match(r"bytes=(\d+)-(\d*)", self.headers.get("Range", "")):
            first, last = int(match[1]), min(int(match[2] or len(data)), len(data) - 1)
            self._answer(data[first : last + 1], 206, {"Content-Range": f"bytes {first}-{last}/{len(data)}"})
        else:
            self._answer(data, headers={"Accept-Ranges": "bytes"})

    def _answer(
        self, data: bytes, code: int = 200, headers: dict[str, str] | None = None, kind: str = "application/json"
    ) -> None:
        self.send_response(code)
        tag = hashlib.md5(data).hexdigest()
        fixed = {"Content-Type": kind, "Content-Length": str(len(data)), "ETag": f'"{tag}"', "X-Repo-Commit": COMMIT}
        for name, value in {**fixed, **(headers or {})}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(data)


class Server(ThreadingHTTPServer):
    """Files by name, and every path that was asked for."""

    daemon_threads = True

    def __init__(self, files: dict[str, bytes]) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.files, self.asked = files, list[str]()
        self.url = f"http://127.0.0.1:{self.server_port}"


@contextmanager
def serve(files: dict[str, bytes]) -> Iterator[Server]:
    """Serve files until the block ends."""
    with Server(files) as server:
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        yield server
        server.shutdown()
        thread.join()
