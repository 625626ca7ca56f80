from __future__ import annotations

from pathlib import Path

import pytest

from caravan.core.errors import MediaError
from caravan.serve.web.uploads import places, uploaded


def test_only_what_was_uploaded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "uploads"
    folder.mkdir()
    monkeypatch.setenv("GRADIO_TEMP_DIR", str(folder))
    (folder / "a.png").write_bytes(b"x")
    (tmp_path / "b.png").write_bytes(b"x")
    (folder / "link.png").symlink_to(tmp_path / "b.png")
    assert uploaded(str(folder / "a.png")) == str(folder / "a.png")
    for other in ("b.png", "uploads/../b.png", "uploads/link.png", "uploads/none.png", "uploads", "uploads-b.png"):
        with pytest.raises(MediaError, match="the file is not here"):
            uploaded(str(tmp_path / other))
    for other in ("/etc/passwd", "http://127.0.0.1/a.png", "", "a.png", "\0"):
        with pytest.raises(MediaError, match="the file is not here"):
            uploaded(other)


def test_every_place_in_an_event_is_found() -> None:
    data = [{"files": [{"path": "a"}, {"b": {"path": "c"}}]}, [[{"path": "d", "inner": {"path": "e"}}]], {"path": ""}]
    assert [*places({"data": data})] == ["a", "c", "d", "e"]
