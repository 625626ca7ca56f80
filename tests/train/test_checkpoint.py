"""Which checkpoint is gone on from."""

from __future__ import annotations

from caravan.train.checkpoint import newest, seal


def _write(folder, step):
    (folder / f"checkpoint-{step}").mkdir(parents=True)
    (folder / f"checkpoint-{step}" / "weights").write_text("w")
    return folder / f"checkpoint-{step}"


def test_there_is_none_before_the_first(tmp_path):
    assert newest(tmp_path / "none") is None


def test_a_half_written_one_is_removed_and_the_complete_one_before_it_taken(tmp_path):
    seal(_write(tmp_path, 90))
    torn = _write(tmp_path, 100)
    assert newest(tmp_path) == tmp_path / "checkpoint-90"
    assert not torn.exists()


def test_sealing_one_removes_the_ones_before_it(tmp_path):
    for step in (90, 100):
        seal(_write(tmp_path, step))
    assert [folder.name for folder in tmp_path.iterdir()] == ["checkpoint-100"]


def test_the_largest_step_is_the_newest(tmp_path):
    for step in (100, 90):
        (_write(tmp_path, step) / "complete.json").write_text("{}")
    assert newest(tmp_path) == tmp_path / "checkpoint-100"
