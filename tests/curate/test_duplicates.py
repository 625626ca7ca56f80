from __future__ import annotations

from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from caravan.core.errors import DiskFullError
from caravan.curate import duplicates
from caravan.curate.duplicates import components, find_duplicates
from caravan.curate.signatures import sign
from caravan.recipe.curate import DuplicateConfig

NODES = 12
FOX = "the quick brown fox jumps over the lazy dog while seven small children watch from behind a wooden fence"


@settings(max_examples=60, deadline=None, derandomize=True)
@given(st.lists(st.tuples(st.integers(0, NODES - 1), st.integers(0, NODES - 1)), max_size=20))
def test_components_are_those_of_the_graph(links: list[tuple[int, int]]) -> None:
    group = {node: {node} for node in range(NODES)}
    for a, b in links:
        joined = group[a] | group[b]
        group.update(dict.fromkeys(joined, joined))
    found = components(NODES, np.array(links, np.int64).reshape(-1, 2))
    assert found.tolist() == [min(group[node]) for node in range(NODES)]


def find(folder: Path, rows: list[tuple[str, str]], **settings: Any) -> dict[int, tuple[str, float, str]]:
    """Verdicts by row of (language, text) rows, given as two files."""
    texts = pa.array([text for _, text in rows])
    exact, bands = sign(texts, np.full(len(rows), 5, np.int32), bands=14, rows=8)
    table = pa.table({
        "key": pa.array(range(len(rows)), pa.int64()), "id": [f"d{i}" for i in range(len(rows))], "text": texts,
        "language": [language for language, _ in rows], "reason": pa.nulls(len(rows), pa.string()), "hash": exact,
        "bands": pa.FixedSizeListArray.from_arrays(pa.array(bands.ravel()), 14),
    })  # fmt: skip
    for number, part in enumerate((table[: len(rows) // 2], table[len(rows) // 2 :])):
        pq.write_table(part, folder / f"{number}.parquet")
    find_duplicates([folder / "0.parquet", folder / "1.parquet"], DuplicateConfig(**settings), folder / "found.parquet")
    found = pq.read_table(folder / "found.parquet").to_pylist()
    return {row["key"]: (row["reason"], row["value"], row["duplicate_of"]) for row in found}


def test_copies_are_found_over_files_and_the_first_is_kept(tmp_path: Path) -> None:
    rows = [("en", FOX), ("en", "nothing like it"), ("en", FOX.upper()), ("en", FOX + "!"), ("en", "short and other")]
    assert find(tmp_path, rows) == {2: ("exact copy", 3.0, "d0"), 3: ("near copy", 3.0, "d0")}


def test_the_longest_can_be_kept(tmp_path: Path) -> None:
    rows = [("en", FOX), ("en", FOX + "!!!"), ("en", FOX)]
    assert find(tmp_path, rows, keep="longest") == {0: ("near copy", 3.0, "d1"), 2: ("near copy", 3.0, "d1")}


def test_languages_do_not_meet(tmp_path: Path) -> None:
    assert find(tmp_path, [("en", "Radio"), ("de", "Radio")]) == {}


@pytest.mark.parametrize(("exact", "near", "found"), [(True, False, {1}), (False, False, set()), (False, True, {1, 2})])
def test_each_kind_can_be_left_out(tmp_path: Path, exact: bool, near: bool, found: set[int]) -> None:
    rows = [("en", FOX), ("en", FOX), ("en", FOX + "?")]
    assert set(find(tmp_path, rows, exact=exact, near=near)) == found


def test_a_text_of_which_a_tenth_is_another_is_found(tmp_path: Path) -> None:
    words = [f"word{i}" for i in range(300)]
    edited = [*words[:100], "other", *words[100:]]
    assert find(tmp_path, [("en", " ".join(words)), ("en", " ".join(edited))])[1][0] == "near copy"


def test_no_room_for_grouping_is_a_full_disk_by_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def without_disk(memory: str, spill: Path) -> duckdb.DuckDBPyConnection:
        connection = connect(memory, spill)
        connection.execute("SET max_temp_directory_size = '0KB'")
        return connection

    connect = duplicates.connect
    monkeypatch.setattr(duplicates, "connect", without_disk)
    rows = [("en", f"document {number} of {number * number} others") for number in range(5000)]
    with pytest.raises(DiskFullError, match=r"spill: no room to group(.|\n)*got: Out of Memory(.|\n)*fix: free"):
        find(tmp_path, rows, memory="2MB")
    assert not (tmp_path / "found.parquet").exists()
