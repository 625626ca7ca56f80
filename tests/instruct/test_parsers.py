"""Whatever stands in a file, a reader gives rows or named faults, and gives back what was written."""

from __future__ import annotations

import csv
import gzip
import io
import json
import tarfile
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from caravan.core.errors import DataError
from caravan.core.stage import StageContext
from caravan.instruct import formats
from caravan.instruct.containers import built, read_rows
from caravan.instruct.rows import Row, faults_of
from caravan.instruct.tars import tar_rows
from caravan.recipe.instruct import DataSource
from caravan.records import LANGUAGES, Media

SETTINGS = settings(max_examples=60, deadline=None)
TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=12)
BROKEN = st.sampled_from(["\ud800", "a\0b", "<|end|>", "<image>", "<audio>"])
CELL = st.text(st.characters(exclude_categories=["Cs", "Cc"]), min_size=1, max_size=12).filter(str.strip)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.floats(allow_nan=False, allow_infinity=False) | TEXT,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXT, inner, max_size=3),
    max_leaves=6,
)
KEYS = ("messages", "conversations", "instruction", "input", "output", "history", "system", "image", "images",
        "audio", "audios", "text", "path", "lang", "task")  # fmt: skip
PART = st.fixed_dictionaries(
    {"type": st.sampled_from(["text", "image", "audio"]) | JSON}, optional={"text": JSON, "image": JSON}
)
TURN = st.fixed_dictionaries(
    {},
    optional={
        "role": st.sampled_from(["user", "assistant", "system", "x"]) | JSON,
        "from": st.sampled_from(["human", "gpt"]) | JSON,
        "content": TEXT | BROKEN | st.lists(PART, max_size=2) | JSON,
        "value": TEXT | JSON,
    },
)
ROW = st.dictionaries(st.sampled_from(KEYS), st.lists(TURN, max_size=3) | JSON | BROKEN, max_size=6)


@SETTINGS
@given(ROW)
def test_any_row_gives_dialogues_or_named_faults(values: dict[str, Any]) -> None:
    ctx = StageContext(Path("out"), {}, Path(), 1, LANGUAGES, "instruct")
    build = formats.Builder(DataSource(path="x", language="en"), ctx, "00-path")
    for item in built([Row(Path("x.jsonl"), 1, values)], build):
        if isinstance(item, DataError):
            assert all(fault.where and "x.jsonl, line 1" in fault.where for fault in faults_of(item))
        else:
            assert item.dialogue.messages[-1].role == "assistant"
            assert item.dialogue.messages[-1].text.strip()


@SETTINGS
@given(st.lists(st.dictionaries(TEXT, JSON, max_size=3), max_size=5), st.sampled_from(["", " \n", "\ufeff"]),
       st.sampled_from([None, 1]))  # fmt: skip
def test_json_arrays_are_read_as_they_were_written(rows: list[dict[str, Any]], before: str, indent: int | None) -> None:
    with TemporaryDirectory() as folder:
        file = Path(folder) / "a.json.gz"
        file.write_bytes(gzip.compress((before + json.dumps(rows, indent=indent)).encode()))
        assert [row.values for row in read_rows(file) if isinstance(row, Row)] == rows


@SETTINGS
@given(st.lists(st.tuples(CELL, TEXT), max_size=5))
def test_csv_is_read_as_it_was_written(cells: list[tuple[str, str]]) -> None:
    buffer = io.StringIO(newline="")
    csv.writer(buffer).writerows([("name", "text"), *cells])
    with TemporaryDirectory() as folder:
        file = Path(folder) / "a.csv"
        file.write_bytes(buffer.getvalue().encode())
        found = [(row.values["name"], row.values["text"]) for row in read_rows(file) if isinstance(row, Row)]
    assert found == cells


@SETTINGS
@given(st.lists(CELL, max_size=5))
def test_a_tab_separated_cell_may_hold_any_quotation_marks(cells: list[str]) -> None:
    with TemporaryDirectory() as folder:
        file = Path(folder) / "a.tsv"
        file.write_bytes("".join(f'{cell}\t"{cell}\n' for cell in ["name", *cells]).encode())
        assert [row.values['"name'] for row in read_rows(file) if isinstance(row, Row)] == [
            f'"{cell}' for cell in cells
        ]


@SETTINGS
@given(st.binary(max_size=200), st.sampled_from(["a.json", "a.jsonl", "a.csv", "a.tsv", "a.parquet", "a.jsonl.gz"]))
def test_any_bytes_give_rows_or_an_error_that_names_the_file(data: bytes, name: str) -> None:
    with TemporaryDirectory() as folder:
        file = Path(folder) / name
        file.write_bytes(data)
        found: list[Row | DataError] = []
        try:
            found += read_rows(file)
        except DataError as error:
            found.append(error)
        assert all(str(file) in str(row.file if isinstance(row, Row) else row.where) for row in found)


@SETTINGS
@given(st.lists(st.binary(min_size=1, max_size=2000), min_size=1, max_size=5))
def test_a_stretch_of_an_archive_is_the_member(members: list[bytes]) -> None:
    with TemporaryDirectory() as folder:
        file = Path(folder) / "w.tar"
        with tarfile.open(file, "w") as tar:
            for number, data in enumerate(members):
                info = tarfile.TarInfo(f"{number}.png")
                info.size = len(data)
                tar.addfile(info, io.BytesIO(data))
        rows = [row for row in tar_rows(file) if isinstance(row, Row)]
        assert [row.values["image"].read() for row in rows] == members
        with pytest.raises(DataError, match="ends 5 bytes too early"):
            Media(path=f"{file}:{file.stat().st_size - 5}:10").read()
