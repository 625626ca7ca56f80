"""The hub's HTTP API on this machine, as much of it as huggingface_hub asks for; files are kept in memory."""

from __future__ import annotations

import base64
import contextlib
import hashlib
import json
import re
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

TOKEN, COMMIT = "hf_test", "1" * 40


class Hub(ThreadingHTTPServer):
    """Repositories by name, and files of large storage by their SHA-256."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.repositories: dict[str, dict[str, bytes]] = {}
        self.private: dict[str, bool] = {}
        self.large: dict[str, bytes] = {}
        self.url = f"http://127.0.0.1:{self.server_port}"


@contextlib.contextmanager
def running() -> Iterator[Hub]:
    """A hub that answers until the end."""
    hub = Hub()
    thread = threading.Thread(target=hub.serve_forever, daemon=True)
    thread.start()
    try:
        yield hub
    finally:
        hub.shutdown()
        hub.server_close()
        thread.join()


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Hub

    def log_message(self, *_: object) -> None: ...

    def body(self) -> bytes:
        if self.headers.get("Transfer-Encoding") != "chunked":
            return self.rfile.read(int(self.headers.get("Content-Length") or 0))
        chunks = []
        while size := int(self.rfile.readline(), 16):
            chunks.append(self.rfile.read(size))
            self.rfile.readline()
        self.rfile.readline()
        return b"".join(chunks)

    def say(self, value: Any, status: int = 200) -> None:
        self.send(json.dumps(value).encode(), status)

    def send(self, data: bytes, status: int = 200, **headers: str) -> None:
        self.send_response(status)
        for name, value in {"Content-Length": str(len(data)), **headers}.items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(data)

    def do_POST(self) -> None:
        body, hub = self.body(), self.server
        if self.path == "/api/validate-yaml":
            return self.say({"errors": [], "warnings": []})
        if self.headers.get("Authorization") != f"Bearer {TOKEN}":
            return self.say({"error": "Invalid credentials"}, 401)
        if self.path == "/api/repos/create":
            told = json.loads(body)
            name = f"{told['organization']}/{told['name']}"
            hub.repositories.setdefault(name, {})
            hub.private[name] = told.get("visibility") == "private" or bool(told.get("private"))
            return self.say({"url": f"{hub.url}/{name}", "name": name})
        if found := re.fullmatch(r"/api/models/(.+)/preupload/main", self.path):
            files = [
                {
                    "path": file["path"],
                    "uploadMode": "lfs" if file["path"].endswith(".safetensors") else "regular",
                    "shouldIgnore": False,
                }
                for file in json.loads(body)["files"]
            ]
            return self.say({"files": files})
        if re.fullmatch(r"/(.+)\.git/info/lfs/objects/batch", self.path):
            objects = [
                {
                    "oid": each["oid"],
                    "size": each["size"],
                    "actions": {"upload": {"href": f"{hub.url}/large/{each['oid']}"}},
                }
                for each in json.loads(body)["objects"]
            ]
            return self.say({"transfer": "basic", "objects": objects})
        if found := re.fullmatch(r"/api/models/(.+)/commit/main", self.path):
            return self.commit(found[1], [json.loads(line) for line in body.splitlines()])
        return self.say({"error": self.path}, 404)

    def commit(self, name: str, lines: list[dict[str, Any]]) -> None:
        repository = self.server.repositories[name]
        for line in lines:
            value = line["value"]
            if line["key"] == "file":
                repository[value["path"]] = base64.b64decode(value["content"])
            elif line["key"] == "lfsFile":
                repository[value["path"]] = self.server.large[value["oid"]]
        url = f"{self.server.url}/{name}/commit/{COMMIT}"
        self.say({"success": True, "commitOid": COMMIT, "commitUrl": url, "hookOutput": ""})

    def do_PUT(self) -> None:
        data = self.body()
        oid = self.path.rpartition("/")[2]
        assert hashlib.sha256(data).hexdigest() == oid
        self.server.large[oid] = data
        self.send(b"")

    def do_GET(self) -> None:
        path = self.path.partition("?")[0]
        if found := re.fullmatch(r"/api/models/([^/]+/[^/]+)(/revision/.+)?", path):
            if found[1] not in self.server.repositories:
                return self.send(b"{}", 404, X_Error_Code="RepoNotFound")
            files = [{"rfilename": name} for name in self.server.repositories[found[1]]]
            return self.say({"id": found[1], "sha": COMMIT, "siblings": files, "private": True, "tags": []})
        if found := re.fullmatch(r"/api/models/([^/]+/[^/]+)/tree/[^/]+", path):
            files = self.server.repositories[found[1]].items()
            return self.say(
                [{"type": "file", "path": name, "size": len(data), "oid": etag(data)} for name, data in files]
            )
        if found := re.fullmatch(r"/([^/]+/[^/]+)/resolve/[^/]+/(.+)", path):
            data = self.server.repositories.get(found[1], {}).get(found[2])
            if data is None:
                return self.send(b"", 404, X_Error_Code="EntryNotFound")
            return self.send(data, ETag=f'"{etag(data)}"', X_Repo_Commit=COMMIT)
        return self.say({"error": self.path}, 404)

    do_HEAD = do_GET  # noqa: N815


def etag(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()
