from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from caravan.serve.web import shelf
from caravan.serve.web.talk import Said

TALK = [Said("user", "What is in  the picture, and what else might be there?"), Said("assistant", "A cat.")]
json = st.recursive(
    st.none() | st.booleans() | st.floats() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
)


def test_what_is_kept_comes_back_newest_first() -> None:
    kept = shelf.put(shelf.put([], "a", TALK), "b", [Said("user", "", ("x.png",))])
    stored = shelf.written(kept)
    assert shelf.choices(shelf.read(stored)) == [("📎", "b"), ("What is in the picture, and what else mi…", "a")]
    assert shelf.found(shelf.read(stored), "a") == TALK
    assert [one.id for one in shelf.put(kept, "a", TALK[:1])] == ["a", "b"]
    assert [one.id for one in shelf.without(kept, "a")] == ["b"]
    assert shelf.found(kept, "c") == []


def test_files_are_uploads_or_names(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GRADIO_TEMP_DIR", str(tmp_path / "uploads"))
    (tmp_path / "uploads").mkdir()
    (tmp_path / "uploads" / "a.png").write_bytes(b"x")
    (tmp_path / "b.png").write_bytes(b"x")
    paths = str(tmp_path / "uploads" / "a.png"), str(tmp_path / "b.png")
    (told,) = shelf.found(shelf.put([], "x", [Said("user", "see", paths)]), "x")
    assert told == Said("user", "📎 b.png (no longer kept)\nsee", paths[:1])


@given(json)
def test_nothing_that_a_browser_sends_breaks_it(value: object) -> None:
    assert isinstance(shelf.read(value), list)


def test_there_is_an_end_to_what_is_kept() -> None:
    kept = [one for number in range(60) for one in shelf.put([], str(number), TALK)]
    assert len(shelf.written(kept)) == shelf.MOST
    long = [one for number in range(5) for one in shelf.put([], str(number), [Said("user", "x" * 900_000)])]
    assert [one["id"] for one in shelf.written(long)] == ["0", "1"]
