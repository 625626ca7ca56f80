from __future__ import annotations

from pathlib import Path
from types import MappingProxyType
from typing import Any

import duckdb
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from caravan.core.errors import DiskFullError
from caravan.curate import duplicates
from caravan.curate.duplicates import components, find_duplicates
from caravan.curate.readers import KEY_BITS
from caravan.curate.signatures import columns, sign
from caravan.recipe.curate import CurateConfig

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


def find(
    folder: Path, documents: list[tuple[str, str]], notes: Any = MappingProxyType({}), **chosen: Any
) -> dict[int, tuple[str, float, str]]:
    """Verdicts by row of (language, text) documents with `notes` of other steps, given as two files."""
    config = CurateConfig.model_validate({"workers": 1, "duplicates": chosen})
    texts, languages = pa.array([text for _, text in documents]), [language for language, _ in documents]
    names = columns(config.duplicates)
    shingles = [config.shingle(language) for language in languages]
    exact, bands = sign(texts, languages, shingles, bands=len(names) - 1, rows=config.duplicates.rows)
    # As if the second half of the rows came from the second file.
    places = [(i // (len(documents) - len(documents) // 2) << KEY_BITS) + i for i in range(len(documents))]
    table = pa.table({
        "key": places, "id": [f"d{i}" for i in range(len(documents))], "text": texts, "language": languages,
        "reason": pa.nulls(len(documents), pa.string()), **notes, **dict(zip(names, (exact, *bands), strict=True)),
    })  # fmt: skip
    shards = [folder / f"{number:05d}.parquet" for number in range(2)]
    for number, shard in enumerate(shards):
        pq.write_table(table.filter(pc.equal(pc.shift_right(table["key"], KEY_BITS), number)), shard)
    find_duplicates(shards, config, folder / "found.parquet")
    found = pq.read_table(folder / "found.parquet").to_pylist()
    assert [row["key"] for row in found] == sorted(row["key"] for row in found)
    return {places.index(row["key"]): (row["reason"], row["value"], row["duplicate_of"]) for row in found}


def test_copies_are_found_over_files_and_the_first_is_kept(tmp_path: Path) -> None:
    rows = [("en", FOX), ("en", "nothing like it"), ("en", FOX.upper()), ("en", FOX + "!"), ("en", "short and other")]
    assert find(tmp_path, rows) == {2: ("exact copy", 1.0, "d0"), 3: ("near copy", 1.0, "d0")}


def test_the_longest_can_be_kept(tmp_path: Path) -> None:
    rows = [("en", FOX), ("en", FOX + "!!!"), ("en", FOX)]
    assert find(tmp_path, rows, keep="longest") == {0: ("near copy", 1.0, "d1"), 2: ("near copy", 1.0, "d1")}


@pytest.mark.parametrize(
    ("notes", "kept"),
    [
        ({}, "d2"),
        ({"repairs": [None, "mojibake", "mojibake, whitespace", None]}, "d3"),
        ({"repairs": [None, "mojibake", "mojibake, whitespace", "whitespace"]}, "d0"),
        ({"perplexity": [9.0, 9.0, None, 9.0]}, "d1"),
        ({"perplexity": [9.0, 9.5, None, 9.0], "quality": [0.5, 0.5, 0.25, None]}, "d0"),
        ({"perplexity": [9.0, 9.5, 8.0, 7.0], "quality": [None, 0.25, 0.5, 0.25]}, "d2"),
    ],
)
def test_the_best_can_be_kept(tmp_path: Path, notes: dict[str, Any], kept: str) -> None:
    rows = [("en", FOX), ("en", FOX + "!"), ("en", FOX + " !!"), ("en", FOX + ".")]
    notes = {"repairs": [None] * 4, **notes}
    columns = {
        name: pa.array(values, pa.string() if name == "repairs" else pa.float32()) for name, values in notes.items()
    }
    found = find(tmp_path, rows, columns, keep="best")
    assert len(found) == 3
    assert {verdict[2] for verdict in found.values()} == {kept}


def test_languages_do_not_meet(tmp_path: Path) -> None:
    assert find(tmp_path, [("en", "Radio"), ("de", "Radio")]) == {}


@pytest.mark.parametrize(("exact", "near", "found"), [(True, False, {1}), (False, False, set()), (False, True, {1, 2})])
def test_each_kind_can_be_left_out(tmp_path: Path, exact: bool, near: bool, found: set[int]) -> None:
    rows = [("en", FOX), ("en", FOX), ("en", FOX + "?")]
    assert set(find(tmp_path, rows, exact=exact, near=near)) == found


def without(words: list[str], *gone: int) -> str:
    return " ".join(word for index, word in enumerate(words) if index not in gone)


def naive_similarity(a: str, b: str) -> float:
    first, second = ({tuple(words[i : i + 5]) for i in range(len(words) - 4)} for words in (a.split(), b.split()))
    return len(first & second) / len(first | second)


def test_a_near_copy_goes_with_its_true_similarity(tmp_path: Path) -> None:
    words = [f"word{i}" for i in range(300)]
    text, edited = " ".join(words), without(words, 100, 200)
    (verdict,) = find(tmp_path, [("en", text), ("en", edited)]).values()
    assert verdict == ("near copy", pytest.approx(naive_similarity(text, edited)), "d0")


def test_what_shares_a_band_and_is_less_alike_than_the_recipe_says_stays(tmp_path: Path) -> None:
    words = [f"word{i}" for i in range(300)]
    edited = without(words, *range(0, 300, 22))
    similarity = naive_similarity(" ".join(words), edited)
    assert 0.6 < similarity < 0.7
    rows = [("en", " ".join(words)), ("en", edited)]
    assert find(tmp_path, rows, rows=2) == {}
    for verify in (0, 0.6):
        assert find(tmp_path, rows, rows=2, verify=verify) == {1: ("near copy", pytest.approx(similarity), "d0")}


def test_a_chain_of_near_copies_is_one_group_and_each_value_is_that_of_the_kept_one(tmp_path: Path) -> None:
    words = [f"word{i}" for i in range(100)]
    texts = [without(words, *range(4 * count)) for count in range(8)]
    found = find(tmp_path, [("en", text) for text in texts], keep="longest", verify=0.9, rows=2, bands=30)
    assert {row: (value, kept) for row, (_, value, kept) in found.items()} == {
        row: (pytest.approx(naive_similarity(texts[0], texts[row])), "d0") for row in range(1, 8)
    }


VOCABULARY = ["one", "two", "three", "four", "five", "six", "seven"]


@settings(max_examples=8, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.lists(st.sampled_from(VOCABULARY), min_size=6, max_size=9), min_size=2, max_size=9))
def test_groups_are_those_of_the_true_similarities(tmp_path: Path, texts: list[list[str]]) -> None:
    # With a row a band and many bands, nearly everything that shares a shingle is looked at.
    rows = [("en", " ".join(words)) for words in texts]
    found = find(tmp_path, rows, rows=1, bands=30, verify=0.3)
    group = {i: {i} for i in range(len(rows))}
    for a in range(len(rows)):
        for b in range(a):
            if naive_similarity(rows[a][1], rows[b][1]) >= 0.3:
                joined = group[a] | group[b]
                group.update(dict.fromkeys(joined, joined))
    assert set(found) <= {i for i in group if i != min(group[i])}
    for row, (_, _, kept) in found.items():
        assert int(kept[1:]) in group[row]


def test_grouping_beyond_the_memory_of_the_recipe_goes_to_disk_and_finds_the_same(tmp_path: Path) -> None:
    config, count, found = CurateConfig(), 100_000, []
    draw = np.random.default_rng(7)
    hashes = {name: draw.integers(2 * count, size=count, dtype=np.uint64) for name in columns(config.duplicates)}
    for memory in ("1GB", "12MB"):
        with duplicates.connect(memory, 1, tmp_path / memory) as connection:
            connection.register("documents", pa.table({"key": np.arange(count), **hashes}))
            connection.register(
                "indexed", pa.table({"key": np.arange(0), **{name: hashes[name][:0] for name in hashes}})
            )
            exact, near = duplicates._pairs(connection, config)
            found.append((np.sort(exact, axis=0), near))
            (spilled,) = connection.execute("SELECT count(*) FROM duckdb_temporary_files()").fetchone() or ()
            assert bool(spilled) == (memory == "12MB")
    for large, small in zip(*found, strict=True):
        np.testing.assert_array_equal(small, large)


def test_no_room_for_grouping_is_a_full_disk_by_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def without_disk(*limits: Any) -> duckdb.DuckDBPyConnection:
        connection = connect(*limits)
        connection.execute("SET max_temp_directory_size = '0KB'")
        return connection

    connect = duplicates.connect
    monkeypatch.setattr(duplicates, "connect", without_disk)
    rows = [("en", f"document {number} of {number * number} others") for number in range(5000)]
    with pytest.raises(DiskFullError, match=r"spill: no room to group(.|\n)*got: Out of Memory(.|\n)*fix: free"):
        find(tmp_path, rows, memory="2MB")
    assert not (tmp_path / "found.parquet").exists()
