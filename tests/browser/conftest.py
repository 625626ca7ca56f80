"""A browser in front of the web chat.

`CARAVAN_BROWSER_MODEL=runs/quickstart` serves that model instead of the tiny one, and `CARAVAN_SCREENSHOTS=docs/images`
keeps pictures of its chat there: those of the documentation are made like that.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, Page, expect, sync_playwright

CHROMIUM = Path("/usr/bin/chromium")
PATIENCE = 60_000  # milliseconds, on a machine that is busy
FLAGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--use-fake-device-for-media-stream",
    "--use-fake-ui-for-media-stream",
]


@pytest.fixture(scope="session")
def preferences(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where choices between two models are written."""
    return tmp_path_factory.mktemp("preferences")


@pytest.fixture(scope="session")
def chat_server(
    request: pytest.FixtureRequest, start_server: Callable[..., AbstractContextManager[Any]], preferences: Path
) -> Iterator[Any]:
    """A server of the model, which is compared with itself in another precision."""
    model = Path(os.environ.get("CARAVAN_BROWSER_MODEL") or request.getfixturevalue("exported"))
    (other,) = [path for path in (model, model / "export") if (path / "model-f16.gguf").is_file()]
    # What the engine remembers may tip a near tie, and here answers are compared letter by letter.
    settings = "cache_prompt=false", "max_tokens=48", "--compare", str(other / "model-f16.gguf")
    with start_server(model, *settings, f"preferences={preferences}") as running:
        yield running


@pytest.fixture(scope="session")
def chat_url(chat_server: Any) -> str:
    return str(chat_server.url)


@pytest.fixture(scope="session")
def question(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A picture and a spoken question about it, which training never shows."""
    from caravan.recipe.samples import SamplesConfig
    from caravan.samples import dialogues

    config = SamplesConfig(dialogues=1, test=4, languages=["en"], spoken=["en"])
    dialogue = next(row for row in dialogues(config, 7, "test") if row.task == "both")
    folder = tmp_path_factory.mktemp("question")
    (folder / "picture.png").write_bytes(dialogue.images[0].read())
    (folder / "clip.wav").write_bytes(dialogue.audios[0].read())
    return {"picture": folder / "picture.png", "clip": folder / "clip.wav"}


# Playwright keeps an event loop running in this thread until it stops: other tests need theirs.
@pytest.fixture(scope="module")
def browser(question: dict[str, Path]) -> Iterator[Browser]:
    """Chromium, whose microphone hears the spoken question."""
    if not CHROMIUM.exists():
        pytest.skip(f"{CHROMIUM} is not installed (Debian: apt-get install chromium)")
    with sync_playwright() as playwright:
        flags = [*FLAGS, f"--use-file-for-fake-audio-capture={question['clip']}"]
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=flags)
        yield browser
        browser.close()


@contextmanager
def opened(browser: Browser, url: str, width: int, height: int) -> Iterator[Page]:
    """The web chat in a window of its own; whatever it asks for must come from its own server."""
    allowed = ["microphone", "camera", "clipboard-read", "clipboard-write"]
    context = browser.new_context(viewport={"width": width, "height": height}, permissions=allowed)
    page = context.new_page()
    page.set_default_timeout(PATIENCE)
    expect.set_options(timeout=PATIENCE)
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    page.goto(url)
    page.get_by_role("textbox").wait_for()
    yield page
    context.close()
    assert [one for one in asked if not one.startswith((url, f"blob:{url}", "data:"))] == []


@pytest.fixture
def page(browser: Browser, chat_url: str) -> Iterator[Page]:
    """The web chat on a desktop."""
    with opened(browser, chat_url, 1000, 860) as page:
        yield page


@pytest.fixture
def phone(browser: Browser, chat_url: str) -> Iterator[Page]:
    """The web chat on a phone."""
    with opened(browser, chat_url, 390, 780) as page:
        yield page


@pytest.fixture
def keep(tmp_path: Path) -> Callable[[Page, str], None]:
    """Makes a picture of a page, under a name; see the top of this file."""
    folder = Path(os.environ.get("CARAVAN_SCREENSHOTS") or tmp_path)
    return lambda page, name: page.screenshot(path=folder / f"{name}.png") and None
