from __future__ import annotations

import itertools
import math
import statistics
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from caravan.core.errors import DiskFullError
from caravan.core.files import read_json
from caravan.curate.settle_pairs import RATIOS, settle_pairs
from caravan.curate.shards import PAIR_SCHEMA
from caravan.curate.steps import MASKED, VERDICT_FIELDS
from caravan.recipe.curate import CurateConfig
from tests.curate.conftest import rows

SCHEMA = pa.schema([*PAIR_SCHEMA, MASKED, *VERDICT_FIELDS])
Sides = tuple[str, str]


def settled(
    folder: Path, *groups: tuple[str, list[Sides]], memory: str = "100MB", **limits: Any
) -> dict[str, tuple[str | None, float | None]]:
    """Reason and figure of each pair, by its id; every group of a pair of languages is a shard."""
    number = itertools.count()
    shards = []
    for index, (languages, sides) in enumerate(groups):
        source, target = languages.split("-")
        listed = [
            {"key": key, "id": f"{languages} {a} {b}", "source_language": source, "target_language": target,
             "source_text": a, "target_text": b, "source": "test"}
            for (a, b), key in zip(sides, number, strict=False)
        ]  # fmt: skip
        shards.append(folder / f"{index}.parquet")
        pq.write_table(pa.Table.from_pylist(listed, SCHEMA), shards[-1])
    settle_pairs(shards, CurateConfig.model_validate({"pairs": limits, "duplicates": {"memory": memory}}), folder)
    gone = {row["id"]: (row["reason"], row["value"]) for row in rows(folder, "rejected_pairs")}
    return {**{row["id"]: (None, None) for row in rows(folder, "pairs")}, **gone}


def text(characters: int, seed: int = 0) -> str:
    return f"{seed:04d}".ljust(characters, "x")


def test_the_usual_ratio_is_the_median_of_the_pairs(tmp_path: Path) -> None:
    lengths = [(20 + i % 37, 50 + i % 83) for i in range(301)]
    pairs = [(text(a, i), text(b, i)) for i, (a, b) in enumerate(lengths)]
    found = settled(tmp_path, ("de-en", [*pairs, (text(100, 900), text(30, 900))]))
    ratios = read_json(tmp_path / RATIOS)
    expected = statistics.median(b / a for a, b in lengths)
    assert ratios["de-en"]["ratio"] == pytest.approx(expected, rel=0.01)
    assert (ratios["de-en"]["pairs"], ratios["de-en"]["from"]) == (302, "median")
    gone = {name: value for name, value in found.items() if value[0] is not None}
    assert list(gone.values()) == [("lengths differ", pytest.approx(expected / 0.3, rel=0.01))]


def test_of_few_pairs_the_scripts_say_what_is_usual_and_the_recipe_above_all(tmp_path: Path) -> None:
    odd = [(text(40, 1), text(100, 1))]
    found = settled(tmp_path, ("en-zh", odd), ("de-en", odd), ("en-fr", odd), usual_ratio={"en-fr": 0.5}, max_ratio=4.0)
    ratios = read_json(tmp_path / RATIOS)
    assert {name: (entry["ratio"], entry["from"]) for name, entry in ratios.items()} == {
        "en-zh": (0.26, "scripts"), "de-en": (0.909, "scripts"), "en-fr": (0.5, "recipe"),
    }  # fmt: skip
    reasons = {name.split()[0]: value for name, value in found.items()}
    assert reasons["en-zh"] == ("lengths differ", pytest.approx(2.5 / 0.26))
    assert reasons["de-en"] == (None, None)
    assert reasons["en-fr"] == ("lengths differ", pytest.approx(5.0))


def test_no_room_for_the_pairs_is_a_full_disk_by_name(tmp_path: Path) -> None:
    pairs = [(text(200, i), text(200, i + 1)) for i in range(4000)]
    with pytest.raises(DiskFullError, match="beyond 1MB of memory"):
        settled(tmp_path, ("de-en", pairs), memory="1MB")


def test_short_sides_may_be_of_any_length(tmp_path: Path) -> None:
    assert settled(tmp_path, ("de-en", [("OK", "all is well today")]))["de-en OK all is well today"] == (None, None)


def test_copies_go_within_their_languages_alone(tmp_path: Path) -> None:
    found = settled(tmp_path, ("de-en", [("Tee", "tea"), ("Tee ", "TEA")]), ("en-fr", [("tea", "thé")]))
    assert {name: reason for name, (reason, _) in found.items()} == {
        "de-en Tee tea": None, "de-en Tee  TEA": "exact copy", "en-fr tea thé": None,
    }  # fmt: skip


def test_a_side_may_come_so_often_with_other_texts(tmp_path: Path) -> None:
    pairs = [(f"Art {i}", "type") for i in range(4)]
    pairs += [("Art 0", "type"), ("Tee", "tea"), ("Tee", "brew"), ("Tee", "cuppa")]
    found = settled(tmp_path, ("de-en", pairs[:3]), ("de-en", pairs[3:]), max_repeats=2)
    assert [value for value in found.values() if value[0] == "repeated side"] == [
        ("repeated side", 3.0),
        ("repeated side", 4.0),
        ("repeated side", 3.0),
    ]
    assert found["de-en Art 2 type"] == ("repeated side", 3.0)
    assert found["de-en Tee cuppa"] == ("repeated side", 3.0)
    assert found["de-en Art 0 type"] == ("exact copy", 1.0)
    (tmp_path / "any").mkdir()
    free = settled(tmp_path / "any", ("de-en", pairs), max_repeats=None)
    assert {reason for reason, _ in free.values()} == {None, "exact copy"}


def test_what_was_settled_stays(tmp_path: Path) -> None:
    settled(tmp_path, ("de-en", [("Tee", "tea")]))
    before = (tmp_path / "rejected_pairs" / "00000.parquet").stat().st_mtime_ns
    settle_pairs([tmp_path / "0.parquet"], CurateConfig(), tmp_path)
    assert (tmp_path / "rejected_pairs" / "00000.parquet").stat().st_mtime_ns == before
    assert math.isfinite(read_json(tmp_path / RATIOS)["de-en"]["ratio"])
