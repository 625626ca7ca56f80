"""The web chat as a person uses it: in a browser, over the whole server."""

from __future__ import annotations

import base64
import contextlib
import json
import os
import re
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
from playwright.sync_api import Page, expect

Files = dict[str, Path]
Keep = Callable[[Page, str], None]
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
    """The last answer, letter by letter but for white space around it; on a busy machine it may take minutes."""
    page.get_by_label("Copy message").last.click(timeout=200_000)
    return str(page.evaluate("navigator.clipboard.readText()")).strip()


def says(page: Page, answer: str) -> None:
    """Wait until the last answer is this one: an earlier one may stand there until it is asked again."""
    deadline = time.monotonic() + 60
    while (found := copied(page)) != answer:
        assert time.monotonic() < deadline, f"{found!r} is not {answer!r}"
        page.wait_for_timeout(50)


def over_http(url: str, *turns: Any, strip: bool = True, **settings: Any) -> str:
    body = {"messages": [{"role": role, "content": content} for role, content in turns], **settings}
    reply = httpx.post(f"{url}/v1/chat/completions", json=body, timeout=240, trust_env=False)
    answer = str(reply.raise_for_status().json()["choices"][0]["message"]["content"])
    return answer.strip() if strip else answer


def parts(files: Files) -> list[dict[str, Any]]:
    sound, pixels = (base64.b64encode(files[name].read_bytes()).decode() for name in ("clip", "picture"))
    return [
        {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{pixels}"}},
        {"type": "input_audio", "input_audio": {"data": sound, "format": "wav"}},
    ]


def test_type_and_upload(page: Page, chat_url: str, question: Files, keep: Keep) -> None:
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
    keep(page, "web-chat")


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
    page.get_by_text("What month comes after November?").first.click()
    answered(page, 1)
    assert copied(page) == over_http(chat_url, ("user", "What month comes after November?"))


def test_settings_change_the_answer(page: Page, chat_url: str) -> None:
    page.get_by_role("button", name="Settings").click()
    page.get_by_label("number input for Longest answer").fill("3")
    page.keyboard.press("Tab")  # who leaves the field has entered the number
    page.get_by_label("Language of the answer").click()
    page.get_by_role("option", name="Français").click()
    expect(page.get_by_label("range slider for Longest answer")).to_have_value("3")
    page.get_by_role("textbox").fill("hello")
    submit(page)
    turns = ("system", "Réponds en français."), ("user", "hello")
    assert copied(page) == over_http(chat_url, *turns, max_tokens=3)


def test_asked_again_and_otherwise(page: Page, chat_url: str, question: Files) -> None:
    attach(page, question["picture"], question["picture"])
    page.get_by_role("textbox").fill("hello")
    submit(page)
    first = copied(page)
    page.get_by_label("Retry").click()
    answered(page, 1)
    says(page, first)
    page.get_by_label("Edit").last.click()
    page.locator("textarea.edit-textarea").fill("good morning")
    page.get_by_label("Submit").first.click()
    expect(page.get_by_test_id("user").filter(has_text="good morning")).to_have_count(1)
    answered(page, 1)
    picture = parts(question)[0]
    says(page, over_http(chat_url, ("user", [picture, picture, {"type": "text", "text": "good morning"}])))


def test_an_answer_can_be_stopped(page: Page, chat_server: Any) -> None:
    engine = chat_server.engines()[0]
    os.kill(engine, signal.SIGSTOP)
    try:
        page.get_by_role("textbox").fill("hello")
        page.get_by_role("button", name="Submit").click()
        page.get_by_role("button", name="Stop").click()
        expect(page.get_by_role("textbox")).to_be_enabled()
    finally:
        # A machine that takes minutes over this may have seen the engine replaced.
        with contextlib.suppress(ProcessLookupError):
            os.kill(engine, signal.SIGCONT)
    page.get_by_role("textbox").fill("hello again")
    page.get_by_role("button", name="Submit").click()
    expect(page.get_by_test_id("bot").last).to_be_visible()
    expect(page.get_by_role("textbox")).to_be_enabled()


def picked(page: Page) -> list[str]:
    """The titles of the conversations that the browser keeps."""
    page.get_by_label("Conversations").click()
    titles = page.get_by_role("option").all_inner_texts()
    page.get_by_label("Conversations").blur()
    expect(page.get_by_role("option")).to_have_count(0)
    return [title.strip().removeprefix("✓").strip() for title in titles]


def test_conversations_stay_in_the_browser(page: Page, chat_url: str) -> None:
    for words in ("first words", "other words"):
        page.get_by_role("textbox").fill(words)
        submit(page)
        expect(page.get_by_label("Conversations")).to_have_value(words)
        page.get_by_role("button", name="New").first.click()
        expect(page.get_by_test_id("bot")).to_have_count(0)
    page.reload()
    page.get_by_role("textbox").wait_for()
    assert picked(page) == ["other words", "first words"]
    page.get_by_label("Conversations").click()
    page.get_by_role("option", name="first words").click()
    expect(page.get_by_test_id("user")).to_contain_text("first words")
    page.get_by_role("textbox").fill("and then")
    submit(page)
    first = over_http(chat_url, ("user", "first words"), strip=False)
    assert copied(page) == over_http(chat_url, ("user", "first words"), ("assistant", first), ("user", "and then"))
    page.get_by_role("button", name="Delete").click()
    expect(page.get_by_test_id("bot")).to_have_count(0)
    page.reload()
    page.get_by_role("textbox").wait_for()
    assert picked(page) == ["other words"]


def test_on_a_phone(phone: Page, chat_url: str, question: Files, keep: Keep) -> None:
    attach(phone, question["picture"], question["picture"])
    phone.get_by_role("textbox").fill("What is in the picture?")
    submit(phone)
    picture = parts(question)[0]
    assert copied(phone) == over_http(
        chat_url, ("user", [picture, picture, {"type": "text", "text": "What is in the picture?"}])
    )
    assert phone.evaluate("document.documentElement.scrollWidth") <= 390
    for name in ("New", "Delete", "Settings"):
        box = phone.get_by_role("button", name=name).first.bounding_box()
        assert box
        assert box["width"] >= 24
        assert box["x"] + box["width"] <= 390
    keep(phone, "web-chat-phone")


def tab_to(page: Page, words: str) -> None:
    """Press the tabulator until what is in focus has such a name."""
    for _ in range(40):
        page.keyboard.press("Tab")
        name = page.evaluate("""() => {
            const one = document.activeElement;
            const names = [one.getAttribute('aria-label'), one.title, one.innerText, one.placeholder];
            return one === document.body ? '' : names.join(' ');
        }""")
        if words in name:
            return
    raise AssertionError(f"the tabulator does not lead to {words}")


def test_by_keyboard_alone(page: Page, chat_url: str) -> None:
    tab_to(page, "Type")
    page.keyboard.type("hello")
    page.keyboard.press("Enter")
    answered(page, 1)
    tab_to(page, "Retry")
    page.keyboard.press("Enter")
    answered(page, 1)
    says(page, over_http(chat_url, ("user", "hello")))
    tab_to(page, "New")
    page.keyboard.press("Enter")
    expect(page.get_by_test_id("bot")).to_have_count(0)


def test_two_models_side_by_side(page: Page, preferences: Path, keep: Keep) -> None:
    names = sorted(("model-f16", httpx.get(f"{page.url}health", trust_env=False).json()["model"]))
    page.get_by_role("tab", name="Compare").click()
    panel = page.get_by_role("tabpanel").filter(visible=True)
    panel.get_by_role("textbox").fill("What month comes after November?")
    panel.get_by_role("button", name="Submit").click()
    better = panel.get_by_role("button", name="Left is better")
    expect(better).to_be_enabled()
    expect(panel.get_by_test_id("bot")).to_have_count(2)
    said = panel.inner_text()
    assert not [name for name in names if name in said], "it is not blind"
    better.click()
    told = panel.get_by_text("Left was")
    expect(told).to_be_visible()
    left, right = re.findall(r"Left was (\S+), right was (\S+)\.", told.inner_text())[0]
    assert sorted((left, right)) == names
    expect(panel.get_by_role("row").filter(has_text=left)).to_contain_text("100%")
    keep(page, "compare")
    (row,) = [json.loads(line) for line in (preferences / "preferences.jsonl").read_text().splitlines()]
    assert row.keys() == {"time", "left", "right", "preferred"}
    assert (row["left"], row["right"], row["preferred"]) == (left, right, left)
    panel.get_by_role("button", name="New comparison").click()
    expect(panel.get_by_test_id("bot")).to_have_count(0)
    expect(better).to_be_disabled()
