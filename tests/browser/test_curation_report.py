"""The curation report as a person sees it: on a desk, in the dark and on a phone.

`CARAVAN_REPORT=FILE.html` looks at that page instead of a small one, and `CARAVAN_SCREENSHOT=FILE.png` keeps a picture:
`docs/images/curation-report.png` is made like that.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, expect, sync_playwright

from caravan.curate.stage import run
from tests.browser.conftest import CHROMIUM, FLAGS
from tests.curate.conftest import configuration, context, sentences, write_jsonl, write_parquet

SCREENS = {"desk": (1000, 1600, "light"), "dark": (1000, 900, "dark"), "phone": (390, 844, "light")}
LUMINANCE = """element => {
    const level = colour => { const [r, g, b] = colour.match(/[0-9.]+/g).map(Number); return r + g + b; };
    return [level(getComputedStyle(element).color), level(getComputedStyle(document.body).backgroundColor)];
}"""


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> Path:
    if given := os.environ.get("CARAVAN_REPORT"):
        return Path(given).resolve()
    folder = tmp_path_factory.mktemp("report")
    good = sentences(30)
    write_jsonl(folder / "a.jsonl", [*good, *(text + " #|*" * 60 for text in good[:5]), *good[:3]])
    write_parquet(folder / "p.parquet", en=["tea", "milk", "bread"], de=["Tee", "", "Brot"])
    run(configuration({"path": "a.jsonl", "language": "en"}, {"pairs": "p.parquet"}), context(folder))
    return folder / "out" / "report.html"


@pytest.fixture(scope="module")
def chromium() -> Iterator[Browser]:
    if not CHROMIUM.exists():
        pytest.skip(f"{CHROMIUM} is not installed (Debian: apt-get install chromium)")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        yield browser
        browser.close()


@pytest.fixture(params=SCREENS)
def page(request: pytest.FixtureRequest, chromium: Browser, report: Path) -> Iterator[Page]:
    width, height, scheme = SCREENS[request.param]
    context = chromium.new_context(viewport={"width": width, "height": height}, color_scheme=scheme)
    page = context.new_page()
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    page.goto(report.as_uri())
    yield page
    context.close()
    assert asked == [report.as_uri()]


def test_the_report_reads_on_every_screen(page: Page, tmp_path: Path) -> None:
    """Nothing is wider than the screen but what scrolls by itself, and letters stand out, those in plots too."""
    assert page.evaluate("document.documentElement.scrollWidth <= window.innerWidth")
    for selector in ("h1", "#steps td", "svg text"):
        ink, paper = page.locator(selector).first.evaluate(LUMINANCE)
        assert abs(ink - paper) > 300, selector
    for plot in page.locator("svg").all():
        assert plot.bounding_box()["width"] > 0.6 * min(page.viewport_size["width"], 544)
    smallest = page.locator("svg text").first.bounding_box()
    assert smallest["height"] >= 8
    page.screenshot(path=tmp_path / "report.png")
    figures = page.locator("details", has_text="in figures").first
    figures.locator("summary").click()
    expect(figures.locator("table")).to_be_visible()
    if page.viewport_size["width"] > 500 and (kept := os.environ.get("CARAVAN_SCREENSHOT")):
        shutil.copy(tmp_path / "report.png", kept)
