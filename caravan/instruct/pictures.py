"""Pictures joined with names in many languages: captions, and questions about the picture."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping
from pathlib import Path

from caravan.core.errors import DataError
from caravan.core.stage import StageContext
from caravan.instruct.build import asked, image
from caravan.instruct.containers import each_row, read_rows
from caravan.instruct.rows import Item, Row
from caravan.media.image import decode_image
from caravan.recipe.instruct import PictureSource
from caravan.text.instructions import Wish, draw

Names = Mapping[str, Mapping[str, str]]


def read(source: PictureSource, ctx: StageContext, name: str) -> Iterator[Item | DataError]:
    """Dialogues about every picture whose key has a name; each picture takes a few languages, by a pure hash."""
    names = choose_keys(source, ctx, read_names(source, ctx))
    columns = list(dict.fromkeys([source.key, source.style, source.image, *source.heldout]))

    def build(row: Row) -> list[Item]:
        key = str(row.values[source.key])
        if key not in names:
            return []
        data = row.media(source.image)
        decode_image(data, where=row.where(source.image))
        group = row.heldout(source.heldout)
        identity = f"{name}:{key}:{row.text(source.style)}"
        wishes: tuple[tuple[Wish, int], ...] = (("caption", source.captions), ("picture", source.questions))
        return [
            Item(
                "test" if group else "train",
                asked(
                    wish,
                    image(data, names[key]),
                    names[key][language],
                    row=identity,
                    language=language,
                    seed=ctx.seed,
                    source=name,
                    group=group,
                ),
            )
            for wish, count in wishes
            for language in _some(list(names[key]), count, ctx.seed, identity, wish)
        ]

    yield from each_row(_picture_files(source, ctx), columns, build)


def _picture_files(source: PictureSource, ctx: StageContext) -> list[Path]:
    """The files of pictures; a pattern may also match the file of names beside them."""
    names = ctx.resolve(source.names)
    return [file for file in ctx.resolve(source.pictures) if file not in names]


def _some(languages: list[str], count: int, *key: object) -> list[str]:
    """`count` of the languages, by a pure hash of `key`."""
    return sorted(languages, key=lambda language: draw(1 << 63, *key, language))[:count]


def read_names(source: PictureSource, ctx: StageContext) -> Names:
    """Names by key and language, for the run's languages, of the keys that the recipe keeps."""
    columns = {language: source.name_columns.format(lang=language) for language in ctx.languages}
    wanted = list(dict.fromkeys([source.key, *columns.values(), *source.where]))
    names = {}
    for file in ctx.resolve(source.names):
        for row in read_rows(file, wanted):
            if isinstance(row, DataError):
                raise row
            if any(str(row.values[column]) not in values for column, values in source.where.items()):
                continue
            values = {language: row.values.get(column) for language, column in columns.items()}
            names[str(row.values[source.key])] = {k: v.strip() for k, v in values.items() if v and v.strip()}
    return {key: values for key, values in names.items() if values}


def choose_keys(source: PictureSource, ctx: StageContext, names: Names) -> Names:
    """The first `keys` keys: those drawn in most styles, then by a pure hash.

    Raises:
        DataError: no picture has a name.
    """
    styles: dict[str, set[str]] = defaultdict(set)
    for file in _picture_files(source, ctx):
        for row in read_rows(file, [source.key, source.style]):
            if isinstance(row, Row):
                styles[str(row.values[source.key])].add(str(row.values[source.style]))
    drawn = [key for key in names if key in styles]
    if not drawn:
        raise DataError(
            "no picture has a name",
            where=source.names,
            expected=f"values of {source.key} that stand in both files",
            got=f"{len(names)} names, {len(styles)} keys of pictures, none in common",
            fix="correct `key`, `where` or the files of the source",
        )
    drawn.sort(key=lambda key: (-len(styles[key]), draw(1 << 63, ctx.seed, key)))
    return {key: names[key] for key in drawn[: source.keys]}
