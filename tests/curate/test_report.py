from __future__ import annotations

import math
import re
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from caravan.core.errors import DiskFullError
from caravan.core.files import read_json
from caravan.curate.distributions import STEPS_AN_OCTAVE, spread
from caravan.curate.report import stage_table, summarise, survivors
from caravan.curate.report_page import page
from caravan.curate.rows import Broken
from caravan.curate.stage import run
from caravan.recipe.curate import CurateConfig
from tests.curate.conftest import configuration, context, sentences, write_jsonl, write_parquet
from tests.pages.page import Page

CONFIG = CurateConfig()
STEPS = ["language", "rules", "perplexity", "duplicates"]
GERMAN = "Die Karawane trägt Briefe von Stadt zu Stadt, und niemand weiß, wie lang der Weg zum Meer ist."


def counted(language: str, documents: int, step: str | None = None, reason: str | None = None) -> dict[str, Any]:
    return {"language": language, "step": step, "reason": reason, "documents": documents, "bytes": 10 * documents}


ROWS = [
    counted("en", 40), counted("en", 20, "rules", "symbols"), counted("en", 10, "perplexity", "high perplexity"),
    counted("en", 10, "duplicates", "near copy"), counted("de", 30), counted("de", 10, "duplicates", "exact copy"),
    counted("zh", 20, "rules", "digits"), counted("sv", 60, "language", "language not wanted"),
]  # fmt: skip


def test_what_is_left_after_each_step() -> None:
    left = survivors(ROWS, STEPS)
    assert [entry["documents"] for entry in left] == [200, 140, 100, 90, 70]
    assert [entry["kept"] for entry in left] == [1.0, 0.7, 0.5, 0.45, 0.35]
    assert [entry["dropped"] for entry in left[1:]] == pytest.approx([60 / 200, 40 / 140, 10 / 100, 20 / 90], abs=1e-6)
    assert left[-1]["bytes"] == 700
    assert [entry["stage"] for entry in left] == ["", "identification", "rules", "learned filters", "duplicates"]


def test_the_table_by_stage_has_english_beside_the_other_languages() -> None:
    table = {row["stage"]: row for row in stage_table(ROWS, STEPS, ["en", "de", "zh"])}
    assert list(table) == ["identification", "rules", "learned filters", "duplicates", "rules and learned filters"]
    assert table["duplicates"]["English"] == {"documents": 40, "kept": 0.5, "dropped": 0.2}
    assert table["duplicates"]["other languages"] == {"documents": 30, "kept": 0.5, "dropped": 0.25}
    assert table["rules and learned filters"]["all"] == {"documents": 90, "kept": 0.45, "dropped": 0.357143}
    assert table["rules and learned filters"]["English"]["dropped"] == 0.375
    alone = stage_table(ROWS[:1], ["language", "rules"], ["en"])
    assert [set(row) for row in alone] == [{"stage", "all"}] * 2


def test_nothing_read_is_a_table_of_nothing() -> None:
    assert stage_table([], ["rules"], ["en"]) == [
        {"stage": "rules", "all": {"documents": 0, "kept": None, "dropped": None}}
    ]


FIGURES = st.lists(st.tuples(st.floats(1, 1e6), st.booleans()), min_size=1, max_size=60)


@settings(deadline=None, derandomize=True)
@given(FIGURES)
def test_spreads_are_those_of_the_figures_to_half_a_bin(figures: list[tuple[float, bool]]) -> None:
    bins = [(round(STEPS_AN_OCTAVE * math.log2(figure)), 1, int(kept)) for figure, kept in figures]
    found = spread(bins)
    for name, chosen in (("read", [figure for figure, _ in figures]), ("kept", [f for f, kept in figures if kept])):
        assert found[name]["documents"] == len(chosen)
        for quantile in (0.05, 0.5, 0.95) if chosen else ():
            exact = sorted(chosen)[max(0, math.ceil(quantile * len(chosen)) - 1)]
            told = found[name][f"{100 * quantile:.0f} %"]
            assert abs(math.log2(told / exact)) <= 0.5 / STEPS_AN_OCTAVE + math.log2(1 + 0.05 / exact)
    assert [sum(column) for column in list(zip(*found["histogram"], strict=True))[1:]] == [
        found["read"]["documents"], found["kept"]["documents"],
    ]  # fmt: skip


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("report")
    good = sentences(12)
    junk = [f"{good[2]} <script>alert(1)</script>" + " #|*" * 60, "Karavanen bär brev från stad till stad."]
    mail = f"{good[11]} Write to ann@mail.de or bob@mail.de."
    write_jsonl(folder / "a.jsonl", [*good[:11], mail, good[0], GERMAN, *junk])
    with (folder / "a.jsonl").open("a") as stream:
        stream.write("no <b>json</b>\n")
    pairs = [("tea", "Tee"), ("milk", "Milch"), ("bread", ""), ("write to ann@mail.de", "an ann@mail.de")]
    write_parquet(folder / "p.parquet", en=[en for en, _ in pairs], de=[de for _, de in pairs])
    run(configuration({"path": "a.jsonl"}, {"pairs": "p.parquet"}), context(folder))
    return folder / "out"


def test_the_report_tells_of_everything(corpus: Path) -> None:
    report = read_json(corpus / "report.json")
    assert [entry["documents"] for entry in report["documents"]["stages"]] == [16, 15, 15, 14, 14, 13]
    assert report["documents"]["table"][-1]["English"] == {"documents": 12, "kept": 0.857143, "dropped": 0.076923}
    reasons = {entry["reason"]: entry["languages"] for entry in report["documents"]["reasons"]}
    assert reasons == {"symbols": {"en": 1}, "exact copy": {"en": 1}, "language not wanted": {"sv": 1}}
    assert report["languages"]["en"]["left"]["rules"] == 13
    assert report["masked"] == {
        "documents": [{"kind": "email", "documents": 1, "places": 2}],
        "pairs": [{"kind": "email", "documents": 1, "places": 2}],
    }
    lengths = [len(row) for row in sentences(11)]
    assert report["lengths"]["en"]["read"]["documents"] == 14
    assert report["lengths"]["en"]["kept"]["50 %"] == pytest.approx(sorted(lengths)[5], rel=0.1)
    (copy,) = (sample for sample in report["samples"] if sample["reason"] == "exact copy")
    assert (copy["value"], copy["copy_of"]) == (1, "a.jsonl#1")
    assert [(pair["reason"], pair["value"]) for pair in report["pairs"]["samples"]] == [("empty side", 0)]
    assert report["pairs"]["languages"]["de-en"]["kept"] == 3


def test_the_page_holds_everything_itself(corpus: Path) -> None:
    text = (corpus / "report.html").read_text(encoding="utf-8")
    page = Page(text)
    assert page.loads_nothing
    assert page.tags.count("svg") == 3
    assert "<script>alert" not in text
    assert "<b>json</b>" not in text
    assert "&lt;script&gt;alert" in text
    for words in ("Karavanen", "language not wanted", "PolyLM", "7.7 %", "email", "empty side", "Lengths", "not JSON"):
        assert words.lower() in text.lower(), words
    assert "<h2>Perplexity" not in text
    assert re.search(r'<svg role="img" aria-label="share of documents', text)


def test_the_same_corpus_gives_the_same_page(corpus: Path) -> None:
    names = [entry["step"] for entry in read_json(corpus / "report.json")["documents"]["stages"]][1:]
    again = summarise(corpus, CONFIG, names, ["en", "de", "zh", "th"], {"a": 1}, [])
    first, second = (page(again, ["en", "de"], []) for _ in range(2))
    assert first == second
    assert again["documents"] == read_json(corpus / "report.json")["documents"]


def test_samples_are_the_same_in_the_same_order(tmp_path: Path) -> None:
    (tmp_path / "rejected").mkdir()
    rows = [{"id": f"document {row}", "text": "", "reason": f"reason {row % 40}"} for row in range(400)]
    table = pa.Table.from_pylist(rows)
    for first in range(0, 400, 16):
        pq.write_table(table.slice(first, 16), tmp_path / "rejected" / f"{first:03d}.parquet")
    with duckdb.connect() as connection:
        connection.register("rejected", table)
        ranked = "SELECT *, row_number() OVER (PARTITION BY reason ORDER BY hash(id)) AS rank FROM rejected"
        least = connection.execute(
            f"SELECT reason, id FROM ({ranked}) WHERE rank <= 3 ORDER BY reason, rank"
        ).fetchall()
    for _ in range(6):
        samples = summarise(tmp_path, CONFIG, ["rules"], ["en"], {}, [])["samples"]
        assert [(sample["reason"], sample["id"]) for sample in samples] == least


def test_the_report_keeps_to_the_memory_of_the_recipe(tmp_path: Path) -> None:
    texts = [f"{number} " * 500 for number in range(2000)]
    write_parquet(tmp_path / "kept" / "en" / "0.parquet", id=texts, text=texts, language=["en"] * len(texts))
    config = CurateConfig.model_validate({"workers": 1, "duplicates": {"memory": "1MB"}})
    with pytest.raises(DiskFullError, match="beyond 1MB of memory"):
        summarise(tmp_path, config, STEPS, ["en"], {}, [])
    config = CurateConfig.model_validate({"workers": 1, "duplicates": {"memory": "64MB"}})
    assert summarise(tmp_path, config, STEPS, ["en"], {}, [])["documents"]["kept"] == 2000


def test_perplexity_before_and_after_is_shown_where_it_was_measured(tmp_path: Path) -> None:
    kept = {"id": ["a", "b"], "text": ["tea", "milk"], "language": ["en"] * 2, "perplexity": [100.0, None]}
    write_parquet(tmp_path / "kept" / "en" / "0.parquet", **kept)
    gone = {"step": ["perplexity"], "reason": ["high perplexity"], "value": [3200.0], "perplexity": [3200.0]}
    write_parquet(tmp_path / "rejected" / "0.parquet", id=["c"], text=["x"], language=["en"], **gone)
    report = summarise(tmp_path, CONFIG, STEPS, ["en"], {}, [])
    assert report["perplexity"]["en"]["read"] == {"documents": 2, "5 %": 98.7, "50 %": 98.7, "95 %": 3158.4}
    assert report["perplexity"]["en"]["kept"]["95 %"] == 98.7
    text = page(report, ["en"], [])
    assert "<h2>Perplexity" in text
    assert text.count("<svg") == 4
    assert "by language, as shares" not in text, "one language needs no table by language"


def test_an_empty_corpus_and_a_broken_file_alone_have_a_page(tmp_path: Path) -> None:
    report = summarise(tmp_path, CONFIG, STEPS, ["en"], {}, [])
    assert report["documents"]["read"] == report["pairs"]["read"] == 0
    text = page(report, ["en"], [Broken("bad.jsonl", None, "binary data")])
    assert Page(text).loads_nothing
    assert "<svg" not in text
    assert "bad.jsonl" in text
