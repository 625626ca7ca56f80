from __future__ import annotations

import struct
import tempfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from caravan.core.errors import ArtifactError
from caravan.text.indexed import IndexedDataset, IndexedWriter, token_dtype

DOCUMENTS = st.lists(st.lists(st.integers(0, 60_000), max_size=20), max_size=20)


def write(path: Path, documents: list[list[int]], dtype: type = np.uint16) -> Path:
    with IndexedWriter(path, dtype) as writer:
        for ids in documents:
            writer.add(ids)
    return path


@settings(max_examples=40, deadline=None, derandomize=True)
@given(DOCUMENTS, st.sampled_from([np.uint16, np.int32, np.int64]))
def test_what_is_written_is_read_back(documents: list[list[int]], dtype: type) -> None:
    with tempfile.TemporaryDirectory() as folder:
        data = IndexedDataset(write(Path(folder) / "en", documents, dtype))
        assert [data[index].tolist() for index in range(len(data))] == documents
        assert data.lengths.tolist() == [len(ids) for ids in documents]
        assert data.dtype == np.dtype(dtype)


def test_the_layout_is_that_of_megatron(tmp_path: Path) -> None:
    path = write(tmp_path / "pair-en-zh", [[1, 2, 3], [], [4, 5]])
    assert path.with_suffix(".bin").read_bytes() == struct.pack("<5H", 1, 2, 3, 4, 5)
    assert path.with_suffix(".idx").read_bytes() == (
        b"MMIDIDX\x00\x00" + struct.pack("<QB", 1, 8) + struct.pack("<QQ", 3, 4)
        + struct.pack("<3i", 3, 0, 2) + struct.pack("<3q", 0, 6, 6) + struct.pack("<4q", 0, 1, 2, 3)
    )  # fmt: skip


@pytest.mark.parametrize(("vocabulary", "dtype"), [(4096, np.uint16), (65_499, np.uint16), (65_500, np.int32)])
def test_the_type_of_tokens_follows_the_vocabulary(vocabulary: int, dtype: type) -> None:
    assert token_dtype(vocabulary) == np.dtype(dtype)


def test_documents_are_views_of_the_file(tmp_path: Path) -> None:
    document = IndexedDataset(write(tmp_path / "en", [[1, 2, 3]]))[0]
    assert not document.flags.owndata
    assert not document.flags.writeable


@pytest.mark.parametrize("suffix", [".bin", ".idx"])
@pytest.mark.parametrize("left", [0, 10, -1])
def test_truncated_files_are_refused(tmp_path: Path, suffix: str, left: int) -> None:
    path = write(tmp_path / "en", [[1, 2, 3]] * 50)
    file = path.with_suffix(suffix)
    file.write_bytes(file.read_bytes()[:left])
    with pytest.raises(ArtifactError, match="truncated|not an index") as caught:
        IndexedDataset(path)
    assert caught.value.where == str(file)


def spoilt(path: Path, offset: int, value: bytes) -> Path:
    index = bytearray(path.with_suffix(".idx").read_bytes())
    index[offset : offset + len(value)] = value
    path.with_suffix(".idx").write_bytes(bytes(index))
    return path


@pytest.mark.parametrize(
    ("offset", "value", "problem"),
    [(0, b"TNTIDX", "not an index"), (9, b"\x02", "not an index"), (17, b"\x63", "unknown type of tokens")],
)
def test_foreign_files_are_refused(tmp_path: Path, offset: int, value: bytes, problem: str) -> None:
    path = spoilt(write(tmp_path / "en", [[1]]), offset, value)
    with pytest.raises(ArtifactError, match=problem):
        IndexedDataset(path)


@pytest.mark.parametrize("suffix", [".bin", ".idx"])
def test_a_missing_file_is_named(tmp_path: Path, suffix: str) -> None:
    path = write(tmp_path / "en", [[1]])
    path.with_suffix(suffix).unlink()
    with pytest.raises(ArtifactError, match="no such file"):
        IndexedDataset(path)


def test_a_failure_half_way_leaves_no_file(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError), IndexedWriter(tmp_path / "en", np.uint16) as writer:
        writer.add([1, 2])
        raise RuntimeError("killed")
    assert list(tmp_path.iterdir()) == []
