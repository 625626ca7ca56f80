from __future__ import annotations

from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from caravan.core.errors import DataError
from caravan.curate.language import Identifier
from caravan.curate.pairs import PairStep, read_pairs
from caravan.curate.rows import Damage
from caravan.curate.shards import PAIR_SCHEMA, Shard
from caravan.recipe.curate import LanguageRule, PairLimits, PairSource
from tests.curate.conftest import write_parquet

LANGUAGES = ("en", "de", "zh", "fr")
Row = tuple[str, str, str, str]


def read(path: Path, **settings: Any) -> tuple[list[Row], Damage]:
    source = PairSource(pairs=path.name, **settings) if settings.pop("own", True) else None
    damage = Damage(path.name)
    batches = read_pairs(Shard(path, path.name, source, number=1), damage, LANGUAGES)
    names = ("source_language", "target_language", "source_text", "target_text")
    return [tuple(row[name] for name in names) for batch in batches for row in batch.to_pylist()], damage


@pytest.fixture
def wide(tmp_path: Path) -> Path:
    return write_parquet(
        tmp_path / "wide.parquet",
        key=["k1", "k2", "k3"],
        en=["tea", "bread", None],
        de=["Tee", None, "Milch"],
        zh=["茶", "面包", "牛奶"],
        sv=["te", "bröd", "mjölk"],
    )


def test_a_wide_table_gives_the_pivot_with_each_language_and_some_between_others(wide: Path) -> None:
    rows, damage = read(wide)
    assert ("de", "en", "Tee", "tea") in rows
    assert ("en", "zh", "bread", "面包") in rows
    assert ("de", "zh", "Tee", "茶") in rows
    assert ("de", "zh", "Milch", "牛奶") in rows
    assert len(rows) == 5
    assert damage.rows == 0


def test_pairs_between_others_can_be_left_out_and_are_drawn_the_same_each_time(wide: Path) -> None:
    assert [row for row in read(wide, others=0)[0] if "en" not in row[:2]] == []
    assert read(wide)[0] == read(wide)[0]


def test_languages_of_a_source_can_be_restricted(wide: Path) -> None:
    assert {language for row in read(wide, languages=["en", "zh"])[0] for language in row[:2]} == {"en", "zh"}


def test_a_row_can_name_the_language_of_its_other_side(tmp_path: Path) -> None:
    path = write_parquet(
        tmp_path / "long.parquet",
        lang=["de", "zh", "sv", "de"],
        en=["tea", "tea", "tea", "milk"],
        xx=["Tee", "茶", "te", None],
    )
    rows, _ = read(path, columns={"en": "en", "xx": "xx"}, language_column="lang")
    assert rows == [("de", "en", "Tee", "tea"), ("en", "zh", "tea", "茶"), ("de", "en", "", "milk")]


def test_pairs_of_the_sample_world_lose_their_direction(tmp_path: Path) -> None:
    path = write_parquet(
        tmp_path / "samples.parquet",
        id=["1"],
        source_language=["zh"],
        target_language=["en"],
        source_text=["茶"],
        target_text=["tea"],
        source=["samples"],
    )
    assert read(path, own=False)[0] == [("en", "zh", "tea", "茶")]


def test_invalid_utf8_on_one_side_sets_the_row_aside(tmp_path: Path) -> None:
    path = write_parquet(tmp_path / "a.parquet", en=[b"tea", b"bread"], de=[b"Tee", b"Br\xff"])
    rows, damage = read(path)
    assert rows == [("de", "en", "Tee", "tea")]
    assert [(broken.row, broken.problem) for broken in damage.listed] == [(2, "invalid UTF-8 at byte 2")]


def test_a_table_without_two_languages_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no two columns"):
        read(write_parquet(tmp_path / "a.parquet", en=["tea"], text=["Tee"]))


ENGLISH = "The caravan carries letters from city to city, and nobody knows how long the road to the sea is."
GERMAN = "Die Karawane trägt Briefe von Stadt zu Stadt, und niemand weiß, wie lang der Weg zum Meer ist."
CHINESE = "商队把信从一座城市送到另一座城市，没有人知道通往大海的路有多长。"


@pytest.mark.parametrize(
    ("languages", "sides", "reason"),
    [
        (("de", "en"), (GERMAN, ENGLISH), None),
        (("en", "zh"), (ENGLISH, CHINESE), None),
        (("de", "en"), ("Peru", "Peru"), None),
        (("de", "en"), ("  ", ENGLISH), "empty side"),
        (("de", "en"), (ENGLISH, ENGLISH.upper()), "identical sides"),
        (("de", "en"), ("Die Karawane.", ENGLISH), "lengths differ"),
        (("en", "zh"), (ENGLISH, CHINESE * 4), "lengths differ"),
        (("de", "en"), (GERMAN, GERMAN.replace("Karawane", "Kolonne")), "another language than stated"),
    ],
)
def test_pairs_are_checked(languages: tuple[str, str], sides: tuple[str, str], reason: str | None) -> None:
    values = [1, "id", *languages, *sides, "test"]
    batch = pa.RecordBatch.from_pylist([dict(zip(PAIR_SCHEMA.names, values, strict=True))], PAIR_SCHEMA)
    step = PairStep(PairLimits(), Identifier(LANGUAGES, LanguageRule()))
    assert step.judge(batch).reason.to_pylist() == [reason]
