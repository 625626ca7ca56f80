"""The web chat as a person uses it: in a browser, over the whole server."""

from __future__ import annotations

import base64
import os
import shutil
from pathlib import Path
from typing import Any

import httpx
from playwright.sync_api import Page, expect

Files = dict[str, Path]
# Notes how the last answer grows.
WATCH = """() => {
    window.seen = new Set();
    new MutationObserver(() => {
        const answers = document.querySelectorAll('[data-testid="bot"]');
        if (answers.length) window.seen.add(answers[answers.length - 1].innerText);
    }).observe(document.body, {subtree: true, childList: true, characterData: true});
}"""


def submit(page: Page) -> None:
    """Send what is in the box, and wait until it has been answered."""
    answers = page.get_by_test_id("bot").count()
    page.get_by_role("button", name="Submit").click()
    answered(page, answers + 1)


def answered(page: Page, answers: int) -> None:
    """Wait until there are so many answers and the last one is whole."""
    expect(page.get_by_test_id("bot")).to_have_count(answers)
    expect(page.get_by_label("Retry")).to_be_enabled()
    expect(page.get_by_role("textbox")).to_be_enabled()


def attach(page: Page, *files: Path) -> None:
    page.locator("input[type=file]").first.set_input_files(files)
    expect(page.get_by_label("Remove file")).to_have_count(len(files))


def copied(page: Page) -> str:
    """The last answer, letter by letter but for white space around it."""
    page.get_by_label("Copy message").last.click()
    return str(page.evaluate("navigator.clipboard.readText()")).strip()


def over_http(url: str, *turns: Any) -> str:
    messages = [{"role": role, "content": content} for role, content in turns]
    reply = httpx.post(f"{url}/v1/chat/completions", json={"messages": messages}, timeout=240, trust_env=False)
    return str(reply.raise_for_status().json()["choices"][0]["message"]["content"]).strip()


def parts(files: Files) -> list[dict[str, Any]]:
    sound, pixels = (base64.b64encode(files[name].read_bytes()).decode() for name in ("clip", "picture"))
    return [
        {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{pixels}"}},
        {"type": "input_audio", "input_audio": {"data": sound, "format": "wav"}},
    ]


def test_type_and_upload(page: Page, chat_url: str, question: Files, tmp_path: Path) -> None:
    page.evaluate(WATCH)
    page.get_by_role("textbox").fill("What month comes after November?")
    submit(page)
    first = copied(page)
    assert first == over_http(chat_url, ("user", "What month comes after November?"))
    attach(page, question["picture"], question["clip"])
    submit(page)
    history = ("user", "What month comes after November?"), ("assistant", first)
    assert copied(page) == over_http(chat_url, *history, ("user", parts(question)))
    whole = page.get_by_test_id("bot").all_inner_texts()
    assert set(page.evaluate("[...window.seen]")) - {"", *whole}, "the answers came in one piece"
    page.screenshot(path=tmp_path / "web-chat.png")
    if kept := os.environ.get("CARAVAN_SCREENSHOT"):
        shutil.copy(tmp_path / "web-chat.png", kept)


def test_speak_into_the_microphone(page: Page) -> None:
    page.get_by_label("Record audio").click()
    page.get_by_label("Start recording").click()
    page.wait_for_timeout(2500)
    page.get_by_label("Stop recording").click()
    page.get_by_label("Attach audio").click()
    submit(page)
    expect(page.get_by_test_id("user").get_by_label("Play")).to_have_count(1)
    assert "could not be answered" not in page.get_by_test_id("bot").inner_text()


def test_photograph_with_the_camera(page: Page) -> None:
    page.get_by_role("button", name="Camera").click()
    page.get_by_text("Click to Access Webcam").click()
    # A photograph of a camera that has no picture yet is none.
    page.wait_for_function("() => [...document.querySelectorAll('video')].some(v => v.readyState >= 2 && v.videoWidth)")
    page.get_by_label("capture photo").click()
    expect(page.get_by_label("Remove file")).to_have_count(1)
    submit(page)
    expect(page.get_by_test_id("user").locator("img")).to_have_count(1)
    assert "could not be answered" not in page.get_by_test_id("bot").inner_text()


def test_a_turn_that_fails_says_why_and_the_next_is_answered(page: Page, chat_url: str, tmp_path: Path) -> None:
    corrupt = tmp_path / "corrupt.png"
    corrupt.write_bytes(b"\x89PNG\r\n\x1a\nand no more")
    attach(page, corrupt)
    submit(page)
    expect(page.get_by_test_id("bot")).to_contain_text("the picture cannot be decoded")
    page.get_by_role("textbox").fill("hello")
    submit(page)
    assert copied(page) == over_http(chat_url, ("user", "hello"))


def test_an_example_is_answered(page: Page, chat_url: str) -> None:
    page.get_by_text("What month comes after November?").click()
    answered(page, 1)
    assert copied(page) == over_http(chat_url, ("user", "What month comes after November?"))
