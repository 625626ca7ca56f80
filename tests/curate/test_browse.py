from __future__ import annotations

import json
from pathlib import Path

import pytest
from rich.console import Console

from caravan.core.errors import ArtifactError, UsageError
from caravan.curate.browse import Choice, sample
from caravan.curate.stage import run
from caravan.inspection import show_rows
from tests.curate.conftest import configuration, context, sentences, write_jsonl, write_parquet

JUNK = " \u202e[red]x[/]\x1b[31m" + " ### *** |||" * 9


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("corpus")
    good = sentences(8)
    write_jsonl(folder / "a.jsonl", [*good, *(text + JUNK for text in good[:4]), good[0], good[1], "Wer?"])
    write_parquet(folder / "p.parquet", en=["tea", "bread", "milk"], de=["Tee", "", "Milch"])
    sources = {"path": "a.jsonl", "language": "en"}, {"pairs": "p.parquet"}
    run(configuration(*sources, rules={"min_characters": 10}), context(folder))
    return folder / "out"


def printed(corpus: Path, choice: Choice, capsys: pytest.CaptureFixture[str], *, as_json: bool = False) -> list[str]:
    show_rows(corpus, choice, 2, Console(), as_json=as_json)
    return capsys.readouterr().out.splitlines()


def test_so_many_of_each_reason_and_the_same_each_time(corpus: Path) -> None:
    found = [(row["step"], row["reason"]) for row in sample(corpus, Choice(), 3)]
    assert found == [("rules", "symbols")] * 3 + [("duplicates", "exact copy")] * 2 + [("rules", "too short")]
    assert sample(corpus, Choice(), 3) == sample(corpus, Choice(), 3)
    assert all(row["value"] > 0 for row in sample(corpus, Choice(), 9))
    assert [row["reason"] for row in sample(corpus, Choice(kept=True), 9)] == [None] * 8


def test_rows_are_chosen_by_reason_step_and_language(corpus: Path) -> None:
    assert {row["reason"] for row in sample(corpus, Choice(step="rules", language="en"), 9)} == {"symbols", "too short"}
    assert [row["text"] for row in sample(corpus, Choice(reason="too short"), 9)] == ["Wer?"]
    assert [row["target_text"] for row in sample(corpus, Choice(reason="empty side", pairs=True), 9)] == ["bread"]
    kept = sample(corpus, Choice(language="de-en", kept=True, pairs=True), 9)
    assert {row["text"] for row in kept} == {"Tee\ttea", "Milch\tmilk"}


@pytest.mark.parametrize(
    ("choice", "expected"),
    [
        (Choice(reason="sybols"), "symbols (4), exact copy (2), too short (1)"),
        (Choice(reason="symbols", language="de"), "en (4)"),
        (Choice(step="language"), "rules (5), duplicates (2)"),
        (Choice(reason="symbols", pairs=True), "empty side (1)"),
        (Choice(language="zh", kept=True), "en (8)"),
    ],
)
def test_what_does_not_exist_is_answered_with_what_does(corpus: Path, choice: Choice, expected: str) -> None:
    with pytest.raises(UsageError) as caught:
        sample(corpus, choice, 1)
    assert caught.value.expected == expected


def test_kept_text_has_no_reason_and_a_folder_without_a_corpus_nothing(corpus: Path) -> None:
    with pytest.raises(UsageError, match="leave out --kept"):
        sample(corpus, Choice(reason="symbols", kept=True), 1)
    with pytest.raises(ArtifactError, match="no pairs to show"):
        sample(corpus / "kept", Choice(pairs=True), 1)


def test_a_pipe_gets_a_line_each_without_what_steers_a_terminal(
    corpus: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    lines = printed(corpus, Choice(reason="symbols"), capsys)
    assert [line.split("\t")[:4:3] for line in lines] == [["rules", "en"]] * 2
    assert "[red]x[/]\\x1b[31m" in lines[0]
    assert "\\u202e" in lines[0]
    assert lines[0].isprintable() or lines[0].replace("\t", "").isprintable()
    (copy,) = printed(corpus, Choice(reason="exact copy"), capsys)[:1]
    assert copy.split("\t")[2:5:2] == ["1", "a.jsonl#13 = a.jsonl#1"]


def test_json_lines_hold_whole_texts(corpus: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rows = [json.loads(line) for line in printed(corpus, Choice(step="rules"), capsys, as_json=True)]
    assert all(row["text"] == "Wer?" or row["text"].endswith(JUNK) for row in rows)
    assert rows[-1]["value"] == 4
    (pair,) = (json.loads(line) for line in printed(corpus, Choice(pairs=True), capsys, as_json=True))
    assert (pair["source_text"], pair["target_text"], pair["reason"]) == ("", "bread", "empty side")


def test_a_terminal_gets_a_table(corpus: Path) -> None:
    with Console(force_terminal=True, width=140, record=True) as console:
        show_rows(corpus.parent / "out", Choice(reason="too short"), 1, console)
    text = console.export_text()
    assert "figure" in text
    assert "Wer?" in text
