from __future__ import annotations

import json
from pathlib import Path

import pytest

from caravan.core.errors import ServeError
from caravan.serve.web.preferences import FILE, NEITHER, TIE, Preferences

TALKS = [[{"role": "user", "text": "secret"}], [{"role": "user", "text": "secret"}]]


def test_choices_are_counted_written_and_found_again(tmp_path: Path) -> None:
    folder = tmp_path / "new" / "folder"
    one = Preferences(("A", "B"), folder)
    for sides, preferred in (
        (("A", "B"), "A"),
        (("B", "A"), "A"),
        (("B", "A"), "B"),
        (("A", "B"), TIE),
        (("A", "B"), NEITHER),
    ):
        one.add(sides, preferred, TALKS)
    rows = [json.loads(line) for line in (folder / FILE).read_text().splitlines()]
    assert [(row["left"], row["right"], row["preferred"]) for row in rows][:2] == [("A", "B", "A"), ("B", "A", "A")]
    assert all(row.keys() == {"time", "left", "right", "preferred"} for row in rows)
    Preferences(("A", "C"), folder).add(("A", "C"), "C")
    again = Preferences(("B", "A"), folder)
    assert again.counts == one.counts == {"A": 2, "B": 1, TIE: 1, NEITHER: 1}
    # Two and a half of four that were decided.
    assert "| A | 2 | 62% |" in again.table()
    assert "| B | 1 | 38% |" in again.table()


def test_content_is_written_only_if_asked_for(tmp_path: Path) -> None:
    Preferences(("A", "B"), tmp_path, content=True).add(("A", "B"), TIE, TALKS)
    assert json.loads((tmp_path / FILE).read_text())["conversations"] == TALKS


def test_without_a_folder_nothing_is_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    one = Preferences(("A", "B"))
    one.add(("A", "B"), "B", TALKS)
    assert "| B | 1 | 100% |" in one.table()
    assert [*tmp_path.iterdir()] == []


def test_a_line_that_is_none_of_ours_is_named(tmp_path: Path) -> None:
    (tmp_path / FILE).write_text('{"left": "A", "right": "B", "preferred": "A"}\n{"left": 1}\n')
    with pytest.raises(ServeError, match=r"preferences\.jsonl:2"):
        Preferences(("A", "B"), tmp_path)
    with pytest.raises(ServeError, match="cannot be written"):
        Preferences(("A", "B"), tmp_path / FILE)
