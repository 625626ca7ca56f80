from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from gradio.queueing import Queue


@pytest.fixture
def page(server: Any) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=server.url, trust_env=False, timeout=240) as client:
        yield client


def test_the_page_names_nothing_outside(page: httpx.Client) -> None:
    text = page.get("/").raise_for_status().text
    assert "tiny reads, hears and sees" in text
    for fetched in ("fonts.googleapis", "cdn.", "api.gradio.app"):
        assert fetched not in text


@pytest.mark.parametrize("path", ["/gradio_api/file=/etc/passwd", "/gradio_api/file=README.md", "/gradio_api/info"])
def test_gradio_opens_no_other_door(page: httpx.Client, path: str) -> None:
    reply = page.get(path)
    assert "root:" not in reply.text
    assert reply.status_code in (403, 404) or reply.json() == {"named_endpoints": {}, "unnamed_endpoints": {}}


def test_gradio_still_has_the_waits_that_are_set() -> None:
    assert {"sleep_when_free", "progress_update_sleep_when_free"} <= {*Queue.__init__.__code__.co_names}


def called(page: httpx.Client, function: dict[str, Any], data: list[Any]) -> str:
    """Everything that comes of an event with data that no browser sends."""
    session = "aaaaaaaaaa"
    body = {"data": data, "fn_index": function["id"], "session_hash": session, "event_data": None, "trigger_id": 1}
    if not function["queue"]:
        return page.post("/gradio_api/run/predict", json=body).text
    reply = page.post("/gradio_api/queue/join", json=body)
    told = reply.text
    if reply.status_code == 200:
        with page.stream("GET", "/gradio_api/queue/data", params={"session_hash": session}) as events:
            for line in events.iter_lines():
                told += line
                if "process_completed" in line or "unexpected_error" in line:
                    break
    return told


def made_up(component: dict[str, Any], file: dict[str, Any]) -> Any:
    """A component's value that names a file."""
    match component["type"]:
        case "image":
            return file
        case "multimodaltextbox":
            return {"text": "", "files": [file]}
        case "browserstate":
            return [{"id": "x", "messages": [{"role": "user", "text": "t", "files": [file["path"]]}]}]
        case "dropdown":
            return "x"
    return None


@pytest.mark.parametrize("meta", [{}, {"meta": {"_type": "gradio.FileData"}}], ids=["bare", "as a file"])
@pytest.mark.parametrize("address", [None, "http://127.0.0.1:9/a.png"], ids=["a path", "an address"])
def test_no_path_in_a_request_reaches_a_file(
    server: Any, page: httpx.Client, png: Any, tmp_path: Path, meta: dict[str, Any], address: str | None
) -> None:
    """Every event of the page, with a picture of the machine's own in place of an upload."""
    secret = tmp_path / "secret-picture.png"
    secret.write_bytes(png(7, 7))
    file = {"path": address or str(secret), "orig_name": "a.png", "mime_type": "image/png", **meta}
    config = page.get("/config").json()
    components = {one["id"]: one for one in config["components"]}
    reached = 0
    for function in config["dependencies"]:
        inputs = [components[number] for number in function["inputs"]]
        if {"image", "multimodaltextbox", "browserstate"} & {one["type"] for one in inputs}:
            reached += 1
            told = called(page, function, [made_up(one, file) for one in inputs])
            assert "caravan-uploads-" not in told, function
            assert "file=" not in told, function
    assert reached >= 5
    assert page.get(f"/gradio_api/file={secret}").status_code in (403, 404)
