from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from caravan.core import files
from caravan.core.errors import DiskFullError


def test_a_failed_write_leaves_the_old_file_and_no_temporary(tmp_path: Path) -> None:
    target = tmp_path / "value.json"
    files.write_json(target, {"a": 1})
    with pytest.raises(RuntimeError), files.atomic_path(target) as temporary:
        temporary.write_text("half")
        raise RuntimeError("killed")
    assert files.read_json(target) == {"a": 1}
    assert list(tmp_path.iterdir()) == [target]


def test_a_full_disk_is_named_and_nothing_written_is_lost(tmp_path: Path) -> None:
    target = tmp_path / "value.txt"
    files.write_text(target, "old")
    with pytest.raises(DiskFullError, match="the disk is full") as caught, files.atomic_path(target):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    assert "go" in str(caught.value.fix)
    assert caught.value.where == str(target)
    assert target.read_text() == "old"


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
def test_a_really_full_device_is_named() -> None:
    with pytest.raises(DiskFullError), files.full_disk_named(Path("/dev/full")), Path("/dev/full").open("w") as stream:
        stream.write("x" * 100_000)
        stream.flush()


def test_object_hash_ignores_key_order() -> None:
    assert files.sha256_obj({"a": 1, "b": 2}) == files.sha256_obj({"b": 2, "a": 1})
    assert files.sha256_obj({"a": 1}) != files.sha256_obj({"a": 2})


def test_other_libraries_words_for_a_full_disk_and_no_others() -> None:
    assert files.says_full_disk(RuntimeError("IO Error: could not write: No space left on device"))
    assert not files.says_full_disk(RuntimeError("IO Error: no such file: /workspace/spill"))
