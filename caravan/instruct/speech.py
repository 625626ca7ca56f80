"""Recordings with transcripts, alone or beside a picture, as dialogues."""

from __future__ import annotations

import itertools
from collections import defaultdict
from collections.abc import Iterator

from caravan.core.errors import DataError
from caravan.core.stage import StageContext
from caravan.instruct.build import asked, audio, image
from caravan.instruct.containers import each_row, read_rows
from caravan.instruct.rows import Item, Row
from caravan.media.audio import decode_audio
from caravan.media.image import decode_image
from caravan.recipe.instruct import SpeechSource, SpokenPictureSource
from caravan.records import LANGUAGES, Dialogue, Message
from caravan.text.instructions import draw

PARTS = 10_000


def _columns(*fields: str, language: str, heldout: dict[str, list[str]]) -> list[str]:
    named = [language] if language not in LANGUAGES else []
    return list(dict.fromkeys([*fields, *named, *heldout]))


def read(source: SpeechSource, ctx: StageContext, name: str) -> Iterator[Item | DataError]:
    """A dialogue for every clip and task; a held-out speaker, or a held-out transcript, goes to the test."""

    def build(row: Row) -> list[Item]:
        language = row.language(source.language, ctx.languages)
        if language is None:
            return []
        text, data = row.text(source.text), row.media(source.audio)
        decode_audio(data, where=row.where(source.audio))
        group = row.heldout(source.heldout)
        if not group and draw(PARTS, ctx.seed, name, text) < source.test_share * PARTS:
            group = "unseen text"
        return [
            Item(
                "test" if group else "train",
                asked(
                    task,
                    audio(data, text),
                    text,
                    row=f"{name}:{row.file.stem}:{row.number}",
                    language=language,
                    seed=ctx.seed,
                    source=name,
                    group=group,
                ),
            )
            for task in source.tasks
        ]

    columns = _columns(source.text, source.audio, language=source.language, heldout=source.heldout)
    items = each_row(ctx.resolve(source.speech), columns, build)
    limit = source.limit and source.limit * len(source.tasks)
    yield from itertools.islice(items, limit)


def read_spoken_pictures(source: SpokenPictureSource, ctx: StageContext, name: str) -> Iterator[Item | DataError]:
    """A spoken word and a picture that shows it, or another one: half of the answers are yes.

    A test row has a held-out recording and a held-out picture; a training row has neither.
    """
    pictures = _pictures_by_label(source, ctx, name)
    labels = sorted(set(source.words.values()))

    def build(row: Row) -> list[Item]:
        language = row.language(source.language, ctx.languages)
        label = source.words.get(row.text(source.word))
        if language is None or label is None:
            return []
        word, clip = row.text(source.word), row.media(source.audio)
        decode_audio(clip, where=row.where(source.audio))
        group = row.heldout(source.heldout)
        split = "test" if group else "train"
        identity = f"{name}:{row.file.stem}:{row.number}"
        same = draw(2, "same", ctx.seed, identity) == 0
        others = [other for other in labels if other != label]
        shown = label if same else others[draw(len(others), "label", ctx.seed, identity)]
        pool = pictures[split, shown]
        picture = pool[draw(len(pool), "picture", ctx.seed, identity)]
        question = source.questions[draw(len(source.questions), "words", ctx.seed, identity)]
        messages = (
            Message.of("user", audio(clip, word), image(picture), question),
            Message.of("assistant", source.same if same else source.different),
        )
        return [Item(split, Dialogue(f"{identity}:both", language, "both", messages, name, group))]

    columns = _columns(source.word, source.audio, language=source.language, heldout=source.heldout)
    yield from each_row(ctx.resolve(source.spoken_pictures), columns, build)


def _pictures_by_label(source: SpokenPictureSource, ctx: StageContext, name: str) -> dict[tuple[str, str], list[bytes]]:
    """Encoded pictures by split and label.

    Raises:
        DataError: a label has no picture in one of the splits, or a picture cannot be used.
    """
    found: dict[tuple[str, str], list[bytes]] = defaultdict(list)
    for file in ctx.resolve(source.pictures):
        for row in read_rows(file, [source.label, source.image]):
            if isinstance(row, DataError):
                raise row
            data = row.media(source.image)
            decode_image(data, where=row.where(source.image))
            kept = draw(PARTS, ctx.seed, name, row.file.stem, row.number) < source.picture_share * PARTS
            found["test" if kept else "train", str(row.values[source.label])].append(data)
    for split in ("train", "test"):
        for label in source.words.values():
            if (split, label) not in found:
                raise DataError(
                    f"no picture of {label} in the {split} split",
                    where=f"{source.pictures}, field {source.label}",
                    expected=f"pictures of each of {', '.join(sorted(set(source.words.values())))}",
                    got=f"labels {', '.join(sorted({label for _, label in found}))}",
                    fix="correct `words` or `label`, or give more pictures",
                )
    return found
