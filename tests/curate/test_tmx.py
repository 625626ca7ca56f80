from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from caravan.curate.rows import BrokenFileError
from caravan.curate.shards import Shard
from caravan.curate.tmx import tmx_sides
from caravan.recipe.pairs import PairSource

HEAD = '<?xml version="1.0" encoding="{}"?><!DOCTYPE tmx SYSTEM "tmx14.dtd"><tmx version="1.4"><header/><body>'
UNIT = '<tu tuid="1"><tuv xml:lang="EN-us"><seg>tea</seg></tuv><tuv xml:lang="de_AT"><seg>Tee</seg></tuv></tu>'
TAIL = "</body></tmx>"


def written(folder: Path, body: str, encoding: str = "utf-8") -> Path:
    path = folder / "a.tmx"
    path.write_bytes((HEAD.format(encoding) + body + TAIL).encode(encoding))
    return path


def units(path: Path) -> Iterator[tuple[int, dict[str, str]]]:
    return tmx_sides(Shard(str(path), path.name, PairSource(pairs=path.name)))


@pytest.mark.parametrize("encoding", ["utf-8", "utf-16"])
def test_units_come_with_their_number_and_languages(tmp_path: Path, encoding: str) -> None:
    path = written(tmp_path, UNIT + UNIT.replace("tea", "thé &amp; lait"), encoding)
    assert list(units(path)) == [
        (1, {"en": "tea", "de": "Tee"}),
        (2, {"en": "thé & lait", "de": "Tee"}),
    ]


def test_markup_goes_and_the_text_around_it_stays(tmp_path: Path) -> None:
    unit = (
        '<tu><tuv xml:lang="iw"><prop>no text</prop><seg>a <bpt i="1">&lt;b&gt;</bpt>b<ept i="1">&lt;/b&gt;</ept> '
        'c<ph x="1">{0}<sub>footnote</sub></ph> <hi type="x">d</hi>.</seg></tuv>'
        '<tuv lang="in"><seg>e</seg></tuv><tuv lang="in"><seg>a later variant</seg></tuv><tuv xml:lang="fr"/></tu>'
    )
    assert list(units(written(tmp_path, unit))) == [(1, {"he": "a b c d.", "id": "e"})]


def test_a_file_that_is_cut_off_gives_what_stands_before(tmp_path: Path) -> None:
    path = written(tmp_path, UNIT * 3)
    path.write_bytes(path.read_bytes()[:-60])
    found = units(path)
    assert [next(found)[0], next(found)[0]] == [1, 2]
    with pytest.raises(BrokenFileError, match="after unit 2: "):
        next(found)


@pytest.mark.parametrize(
    ("content", "told"),
    [
        ("<html><tu/></html>", "the outermost element is html"),
        ("", "no element"),
        ("tea\tTee", "syntax error"),
        (
            '<!DOCTYPE tmx [<!ENTITY a "aaaaaaaaaa">'
            + "".join(f'<!ENTITY {b} "{f"&{a};" * 10}">' for a, b in zip("abcdefgh", "bcdefghi", strict=True))
            + "]><tmx><body><tu><tuv xml:lang='en'><seg>&i;</seg></tuv></tu></body></tmx>",
            "amplification",
        ),
    ],
)
def test_what_is_no_tmx_is_a_broken_file(tmp_path: Path, content: str, told: str) -> None:
    path = tmp_path / "a.tmx"
    path.write_text(content)
    with pytest.raises(BrokenFileError, match=told):
        list(units(path))
