"""A clip or a picture with what it says or shows: tables of paths and texts, Hugging Face's folders of media."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any, get_args

from caravan.instruct.containers import Rows, read_rows
from caravan.instruct.media import Kind, kind_of
from caravan.instruct.rows import Row
from caravan.instruct.turns import referred, see_text
from caravan.recipe.instruct import DataSource
from caravan.records import AudioPart, ImagePart

# Names of columns as they are found in the field: NeMo's, Common Voice's, ESPnet's, Hugging Face's and others.
MEDIA: dict[Kind, tuple[str, ...]] = {
    "audio": ("audio", "audio_filepath", "audio_path", "wav", "speech"),
    "image": ("image", "image_path", "img", "picture", "png", "jpg"),
}
PATHS = ("path", "file_name", "file", "filename", "file_path", "filepath")
TEXTS = ("text", "sentence", "transcription", "transcript", "caption", "label")
METADATA = ("metadata.csv", "metadata.jsonl", "metadata.parquet", "metadata.tsv")
HELD_OUT = frozenset({"test", "dev", "valid", "validation", "val", "eval"})


def is_pair(values: dict[str, Any]) -> bool:
    """Whether a row has a medium and a text under names that are known."""
    media = any(name in values for names in MEDIA.values() for name in names) or any(name in values for name in PATHS)
    return media and any(name in values for name in TEXTS)


def pair_of(row: Row, source: DataSource) -> tuple[AudioPart | ImagePart, str] | None:
    """The medium of a row and its text; None with the faults noted."""
    kind, field = _medium(row, source)
    name = source.columns.get("text") or next((name for name in TEXTS if name in row.values), "text")
    text = row.values.get(name)
    if not isinstance(text, str) or not text.strip():
        row.fault("empty answer", name, expected="what the clip says or the picture shows", got=text,
                  fix="write it, take the row out, or name its column: `columns: {text: NAME}`")  # fmt: skip
    else:
        see_text(row, name, text)
    if kind is None:
        row.fault("no medium", field or "audio", expected="a clip or a picture", got=row.values.get(field),
                  fix="name its column: `columns: {audio: NAME}` or `{image: NAME}`")  # fmt: skip
        return None
    media = referred(row, source, kind, row.values.get(field), field)
    if row.faults or media is None:
        return None
    said = str(text).strip()
    return (AudioPart(media, text=said) if kind == "audio" else ImagePart(media, text=said)), said


def translation_of(row: Row, source: DataSource) -> str:
    """What a clip says in the language that the recipe names; empty with the fault noted."""
    name = source.columns.get("translation", "translation")
    text = row.values.get(name)
    if isinstance(text, str) and text.strip():
        see_text(row, name, text)
        return text.strip()
    row.fault("no translation", name, expected=f"what the clip says, in {source.translated}", got=text,
              fix="write it, or name its column: `columns: {translation: NAME}`")  # fmt: skip
    return ""


def _medium(row: Row, source: DataSource) -> tuple[Kind | None, str]:
    """Kind of a row's medium, and the column in which it stands."""
    for kind in get_args(Kind):
        named = source.columns.get(kind)
        for name in (named,) if named else MEDIA[kind]:
            if row.values.get(name) not in (None, ""):
                return kind, name
    for name in PATHS:
        value = row.values.get(name)
        if isinstance(value, str) and (found := kind_of(value)):
            return found, name
    return None, next((name for name in PATHS if name in row.values), "")


def folder_rows(folder: Path) -> Rows:
    """Rows of Hugging Face's `audiofolder` and `imagefolder`: by `metadata.*`, else each file named by its folder."""
    found = False
    for place, _, names in walk(folder):
        for name in METADATA:
            if name in names:
                found = True
                for row in read_rows(place / name):
                    if isinstance(row, Row):
                        row.split = split_of(place.relative_to(folder.parent))
                    yield row
    if not found:
        yield from _labelled(folder)


def _labelled(folder: Path) -> Iterator[Row]:
    """Every medium with the name of its folder as text."""
    number = 0
    for place, _, names in walk(folder):
        for name in names:
            if place != folder and kind_of(name):
                values = {"path": name, "label": place.name.replace("_", " ")}
                yield Row(place / name, number, values, "item", place, split_of(place.relative_to(folder.parent)))
                number += 1


def walk(folder: Path) -> Iterator[tuple[Path, list[str], list[str]]]:
    """Folders below one, with their folders and files in order; one of them at a time is in memory."""
    for place, folders, names in os.walk(folder):
        folders.sort()
        yield Path(place), folders, sorted(names)


def split_of(path: Path) -> str:
    """The held-out split that a folder or file belongs to by its name, such as `dev` or `test-clean`."""
    parts = [part.split(".")[0].replace("_", "-").split("-")[0].lower() for part in path.parts]
    return next((part for part in parts if part in HELD_OUT), "")
