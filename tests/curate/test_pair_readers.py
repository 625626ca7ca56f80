from __future__ import annotations

import gzip
import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any
from xml.sax.saxutils import escape

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from caravan.core.errors import DataError
from caravan.curate.pair_readers import read_pairs
from caravan.curate.rows import BrokenFileError, Damage
from caravan.curate.shards import Shard, files_of
from caravan.recipe.pairs import PairSource
from tests.curate.conftest import context, write_parquet

LANGUAGES = ("en", "de", "zh", "fr")
Row = tuple[str, str, str, str]
NAMES = ("source_language", "target_language", "source_text", "target_text")


def rows_of(shard: Shard) -> tuple[list[Row], Damage]:
    damage = Damage(shard.name)
    batches = read_pairs(shard, damage, LANGUAGES)
    return [tuple(row[name] for name in NAMES) for batch in batches for row in batch.to_pylist()], damage


def read(path: Path, **settings: Any) -> tuple[list[Row], Damage]:
    """Pairs of a file, or of the files that a pattern stands for."""
    source = PairSource(pairs=path.name, **settings)
    (shard,) = files_of(source, context(path.parent, LANGUAGES))
    return rows_of(shard)


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
    stated = [
        ("de", "en", "Tee", "tea"),
        ("en", "zh", "tea", "茶"),
        ("en", "sv", "tea", "te"),
        ("de", "en", "", "milk"),
    ]
    assert rows == stated
    rows, _ = read(path, columns={"en": "en", "xx": "xx"}, language_column="lang", languages=["de", "en"])
    assert rows == [stated[0], stated[-1]]


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
    assert rows_of(Shard(str(path), path.name, None, number=1))[0] == [("en", "zh", "tea", "茶")]


def test_invalid_utf8_on_one_side_sets_the_row_aside(tmp_path: Path) -> None:
    path = write_parquet(tmp_path / "a.parquet", en=[b"tea", b"bread"], de=[b"Tee", b"Br\xff"])
    rows, damage = read(path)
    assert rows == [("de", "en", "Tee", "tea")]
    assert [(broken.row, broken.problem) for broken in damage.listed] == [(2, "invalid UTF-8 at byte 2")]


def test_a_table_without_two_languages_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no two columns"):
        read(write_parquet(tmp_path / "a.parquet", en=["tea"], text=["Tee"]))


TEA = [("de", "en", "Tee", "tea"), ("en", "zh", "tea", "茶")]


@pytest.mark.parametrize("named", [{}, {"columns": {"en": "translation.en", "de": "translation.de"}}])
def test_languages_may_stand_within_a_column(tmp_path: Path, named: dict[str, Any]) -> None:
    values = [{"en": "tea", "de": "Tee"}, {"en": "milk", "de": "Milch"}]
    pq.write_table(pa.table({"id": [1, 2], "translation": values}), tmp_path / "a.parquet")
    (tmp_path / "a.jsonl").write_text("".join(json.dumps({"id": 1, "translation": value}) + "\n" for value in values))
    for name in ("a.parquet", "a.jsonl"):
        assert read(tmp_path / name, **named)[0] == [("de", "en", "Tee", "tea"), ("de", "en", "Milch", "milk")]


def test_lines_of_json_have_a_field_a_language(tmp_path: Path) -> None:
    lines = [
        json.dumps({"en": "tea", "de": "Tee", "zh": "茶", "note": 3}),
        json.dumps({"en": "bread"}),
        json.dumps({"en": "milk", "de": 3}),
        json.dumps(["tea", "Tee"]),
        '{"en": "half \\ud83d", "de": "halb"}',
        "no json",
    ]
    (tmp_path / "a.jsonl").write_text("\n".join(lines), encoding="utf-8")
    rows, damage = read(tmp_path / "a.jsonl", others=0)
    assert rows == TEA
    assert [broken.row for broken in damage.listed] == [2, 3, 4, 5, 6]
    assert "fewer than two" in damage.listed[0].problem
    assert "not text" in damage.listed[1].problem


def test_a_line_of_json_can_name_the_language_of_its_other_side(tmp_path: Path) -> None:
    records = [
        {"lang": "de", "en": "tea", "xx": "Tee"},
        {"en": "tea", "xx": "te"},
        {"lang": "zh", "en": "tea", "xx": "茶"},
    ]
    (tmp_path / "a.jsonl").write_text("".join(json.dumps(record) + "\n" for record in records))
    rows, damage = read(tmp_path / "a.jsonl", columns={"en": "en", "xx": "xx"}, language_column="lang")
    assert rows == TEA
    assert [(broken.row, broken.problem) for broken in damage.listed] == [(2, "no field lang")]


@pytest.mark.parametrize(
    ("lines", "settings"),
    [
        (["de\tid\ten", "Tee\t1\ttea", "too few"], {}),
        (["german\tid\tenglish", "Tee\t1\ttea", "too few"], {"columns": {"en": "english", "de": "german"}}),
        (["tea\tTee\tCC-BY", "too few"], {"columns": {"en": 1, "de": 2}}),
        (["de\tTee\ttea", "too few"], {"columns": {"en": 3, "xx": 2}, "language_column": 1}),
    ],
)
def test_cells_between_tabs_are_named_by_a_head_or_by_their_place(
    tmp_path: Path, lines: list[str], settings: dict[str, Any]
) -> None:
    (tmp_path / "a.tsv.gz").write_bytes(gzip.compress("\r\n".join(lines).encode("utf-8-sig")))
    rows, damage = read(tmp_path / "a.tsv.gz", **settings)
    assert rows == [("de", "en", "Tee", "tea")]
    assert damage.rows == 1


def test_columns_that_are_not_there_are_named(tmp_path: Path) -> None:
    (tmp_path / "a.tsv").write_text("tea\tTee\n")
    with pytest.raises(DataError, match="no two columns"):
        read(tmp_path / "a.tsv")
    with pytest.raises(DataError, match="no column english"):
        read(tmp_path / "a.tsv", columns={"en": "english", "de": 2})
    with pytest.raises(DataError, match="by its place"):
        read(write_parquet(tmp_path / "a.parquet", en=["tea"], de=["Tee"]), columns={"en": 1, "de": 2})


def test_files_of_one_language_each_are_read_side_by_side(tmp_path: Path) -> None:
    for name, lines in (("news.de", ["Tee", "Br\xff"]), ("news.en", ["tea", "bread"]), ("news.zh", ["茶", "面包"])):
        (tmp_path / name).write_bytes("\n".join(lines).encode().replace("\xff".encode(), b"\xff"))
    rows, damage = read(tmp_path / "*.{language}", others=0)
    assert rows == TEA
    assert [(broken.row, broken.problem) for broken in damage.listed] == [(2, "invalid UTF-8 at byte 2")]


def test_an_overlong_line_on_one_side_sets_its_row_aside_and_no_other(tmp_path: Path) -> None:
    (tmp_path / "a.en").write_bytes(b"tea\n" + b"x" * 1_050_000 + b"\nsalt\n")
    (tmp_path / "a.de").write_text("Tee\nBrot\nSalz\n")
    rows, damage = read(tmp_path / "a.{language}", max_row_mb=1)
    assert rows == [("de", "en", "Tee", "tea"), ("de", "en", "Salz", "salt")]
    assert [entry[1:] for entry in damage.listed] == [(2, "a line of 1,050,000 bytes, more than 1,048,576")]


@pytest.mark.parametrize(
    ("names", "pattern", "groups"),
    [
        (["OPUS.de-en.de", "OPUS.de-en.en", "OPUS.en-zh.en", "OPUS.en-zh.zh"], "OPUS.*.{language}", ["de-en", "en-zh"]),
        (["en/a.txt", "de/a.txt", "en/b.txt", "zh/b.txt"], "{language}/*.txt", ["a.txt", "b.txt"]),
        (["train.en.gz", "train.fr.gz", "train.zh.gz"], "train.{language}.gz", ["train"]),
    ],
)
def test_files_that_differ_in_their_language_alone_belong_together(
    tmp_path: Path, names: list[str], pattern: str, groups: list[str]
) -> None:
    for name in names:
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text("tea\n")
    shards = files_of(PairSource(pairs=pattern), context(tmp_path, LANGUAGES))
    assert len(shards) == len(groups)
    for shard, group in zip(shards, groups, strict=True):
        own = [name for name in names if group in name]
        assert sorted(path.removeprefix(f"{tmp_path}/") for _, path in shard.sides) == sorted(own)
        assert all(language in path.removeprefix(str(tmp_path)) for language, path in shard.sides)
        assert shard.size == 4 * len(own)
        assert "{language}" in shard.name


def test_a_file_without_its_other_side_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "news.de").write_text("Tee\n")
    with pytest.raises(DataError, match="without its other side"):
        read(tmp_path / "news.{language}")


def test_files_of_different_length_are_broken_before_their_first_row(tmp_path: Path) -> None:
    (tmp_path / "news.de").write_text("Tee\nBrot\n")
    (tmp_path / "news.en").write_text("tea\nbread\nmilk\n")
    with pytest.raises(BrokenFileError, match="en 3, de 2"):
        read(tmp_path / "news.{language}")


Writer = Callable[[Path, Sequence[Mapping[str, str]]], str]


def as_parquet(folder: Path, rows: Sequence[Mapping[str, str]]) -> str:
    pq.write_table(pa.Table.from_pylist([dict(row) for row in rows]), folder / "a.parquet")
    return "a.parquet"


def as_jsonl(folder: Path, rows: Sequence[Mapping[str, str]]) -> str:
    (folder / "a.jsonl").write_text("".join(json.dumps(dict(row)) + "\n" for row in rows))
    return "a.jsonl"


def as_tsv(folder: Path, rows: Sequence[Mapping[str, str]]) -> str:
    lines = ["\t".join(rows[0]), *("\t".join(row.values()) for row in rows)]
    (folder / "a.tsv").write_bytes("".join(f"{line}\n" for line in lines).encode())
    return "a.tsv"


def as_moses(folder: Path, rows: Sequence[Mapping[str, str]]) -> str:
    for language in rows[0]:
        (folder / f"a.{language}").write_bytes("".join(f"{row[language]}\n" for row in rows).encode())
    return "a.{language}"


def as_tmx(folder: Path, rows: Sequence[Mapping[str, str]]) -> str:
    units = (
        "".join(f'<tuv xml:lang="{name}"><seg>{escape(text)}</seg></tuv>' for name, text in row.items()) for row in rows
    )
    body = "".join(f"<tu>{unit}</tu>" for unit in units)
    (folder / "a.tmx").write_text(f'<tmx version="1.4"><header/><body>{body}</body></tmx>', encoding="utf-8")
    return "a.tmx"


TEXTS = st.text(
    st.characters(exclude_categories=["Cc", "Cs", "Cn", "Z", "Co"], exclude_characters="\ufeff"),
    min_size=1,
    max_size=12,
)


@pytest.mark.parametrize("write", [as_parquet, as_jsonl, as_tsv, as_moses, as_tmx])
@settings(max_examples=40, deadline=None, derandomize=True)
@given(texts=st.lists(st.tuples(TEXTS, TEXTS, TEXTS), min_size=1, max_size=6))
def test_every_format_gives_back_what_was_written(
    tmp_path_factory: pytest.TempPathFactory, write: Writer, texts: list[tuple[str, str, str]]
) -> None:
    folder = tmp_path_factory.mktemp("format")
    rows = [dict(zip(("de", "en", "zh"), row, strict=True)) for row in texts]
    found, damage = read(folder / write(folder, rows), others=0)
    assert damage.rows == 0
    assert found == [pair for de, en, zh in texts for pair in (("de", "en", de, en), ("en", "zh", en, zh))]
