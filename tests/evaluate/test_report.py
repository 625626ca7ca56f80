from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from caravan.core.files import read_json
from caravan.evaluate.metrics import FP32, HTTP, INT4
from caravan.evaluate.report import build_report, write_report
from caravan.evaluate.turns import choose_turns, data_uri
from caravan.recipe.evaluate import EvaluateConfig
from tests.pages.page import Page


@pytest.fixture
def written(tmp_path: Path, row: Any, wav: bytes, png: bytes) -> Path:
    rows = [row(f"p{i}", f"thing {i % 3}", "picture", ("en", "ar")[i % 2], image=png) for i in range(12)]
    rows += [row(f"t{i}", "one two", "transcribe", "en", "unseen voice", audio=wav) for i in range(4)]
    rows += [row(f"s{i}", str(i % 4), "speech", "en", "unseen voice", audio=wav) for i in range(40)]
    fp32 = {r.id: r.reference for r in rows} | {"p0": "<script>alert(1)</script>", "t0": "one", "s0": "3"}
    answers = {FP32: fp32, INT4: fp32 | {"p1": "other"}, HTTP: {"p2": fp32["p2"]}}
    config = EvaluateConfig(turns=8)
    report = build_report(config, rows, answers, {"en": 1.5, "ar": 2.5})
    write_report(tmp_path, report, config, rows, answers, seed=1)
    return tmp_path


def test_the_page_holds_everything_itself(written: Path) -> None:
    text = (written / "report.html").read_text()
    page = Page(text)
    assert page.tags.count("svg") == 3
    assert page.tags.count("audio") >= 2
    assert page.tags.count("img") >= 2
    assert "matrix" in text
    assert page.loads_nothing
    assert "<script>alert" not in text
    assert "&lt;script&gt;alert" in text
    assert "prefers-color-scheme: dark" in text
    assert "currentColor" in text


def test_the_table_is_the_same_everywhere(written: Path) -> None:
    report = read_json(written / "report.json")
    line = next(line for line in report["table"] if line["name"] == "int4 answers as fp32")
    assert line["value"] == pytest.approx(55 / 56)
    assert report["bits_per_byte_mean"] == pytest.approx(2.0)
    for name in ("report.md", "report.html"):
        text = (written / name).read_text()
        assert "int4 answers as fp32" in text
        assert "98.2 %" in text
    markdown = (written / "report.md").read_text().splitlines()
    lines = [line for line in markdown if line.startswith("| int4")]
    assert lines == ["| int4 answers as fp32 | 98.2 % | 95.0 % | 56 | ✓ |"]
    assert "| transcribe | unseen voice | en | 4 | 75.0 % | 12.5 % |  |  |" in markdown


def test_the_same_answers_give_the_same_page(written: Path, tmp_path: Path, row: Any) -> None:
    first = (written / "report.html").read_bytes()
    rows = [row("a", "x")]
    config = EvaluateConfig()
    pages = []
    for _ in range(2):
        write_report(
            tmp_path, build_report(config, rows, {FP32: {"a": "x"}}, {}), config, rows, {FP32: {"a": "x"}}, seed=1
        )
        pages.append((tmp_path / "report.html").read_bytes())
    assert pages[0] == pages[1] != first


def test_turns_show_right_and_wrong_of_every_task(row: Any) -> None:
    rows = [row(f"{task}{i}", "x", task) for task in ("picture", "speech") for i in range(20)]
    answers = {r.id: "x" if int(r.id[-1]) % 5 else "y" for r in rows}
    turns = choose_turns(rows, answers, 8, 1)
    assert len(turns) == 8
    kinds = [(r.task, answers[r.id]) for r in turns]
    assert {kind: kinds.count(kind) for kind in kinds} == {
        ("picture", "x"): 2,
        ("picture", "y"): 2,
        ("speech", "x"): 2,
        ("speech", "y"): 2,
    }
    assert len(choose_turns(rows, answers, 100, 1)) == 40


def test_data_uri_names_the_kind(wav: bytes, png: bytes) -> None:
    assert data_uri(wav).startswith("data:audio/wav;base64,")
    assert data_uri(png).startswith("data:image/png;base64,")
    assert data_uri(b"RIFF1234WEBPVP8 ").startswith("data:image/webp;")
    assert data_uri(b"OggS").startswith("data:audio/ogg;")
