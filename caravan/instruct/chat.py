"""Conversations in the field's two layouts, with clips and pictures at markers in their text."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Mapping
from typing import Any

from caravan.core.errors import DataError, PlaceholderError
from caravan.core.stage import StageContext
from caravan.instruct.build import audio, image
from caravan.instruct.tables import Item, Row, each_row, media_bytes
from caravan.media.audio import decode_audio
from caravan.media.image import decode_image
from caravan.recipe.instruct import ChatSource
from caravan.records import LANGUAGES, AudioPart, Dialogue, ImagePart, Message, Part, TextPart
from caravan.text.instructions import draw
from caravan.text.tokens import SPECIAL_TOKENS

ROLES = {
    "system": "system",
    "user": "user",
    "human": "user",
    "assistant": "assistant",
    "gpt": "assistant",
    "bot": "assistant",
}
PARTS = 10_000
Media = dict[str, Iterator[AudioPart | ImagePart]]


def read(source: ChatSource, ctx: StageContext, name: str) -> Iterator[Item | DataError]:
    """The conversations of the run's languages, within the length caps; a share of first questions for the test."""
    taken: Counter[str] = Counter()

    def build(row: Row) -> list[Item]:
        language = row.language(source.language, ctx.languages)
        if language is None or (source.limit is not None and taken[language] >= source.limit):
            return []
        media = _media(row, source)
        messages = tuple(_messages(row, source, media))
        _check(row, source, messages, media)
        if len(messages) > source.max_messages or sum(len(m.text) for m in messages) > source.max_characters:
            return []
        taken[language] += 1
        question = next(message.text for message in messages if message.role == "user")
        heldout = draw(PARTS, ctx.seed, question) < source.test_share * PARTS
        split, group = ("test", "unseen question") if heldout else ("train", "")
        identity = f"{name}:{row.file.name.split('.')[0]}:{row.number}"
        return [Item(split, Dialogue(identity, language, _task(messages), messages, name, group))]

    columns = [source.messages, *([source.language] if source.language not in LANGUAGES else [])]
    yield from each_row(ctx.resolve(source.chat), columns, build, optional=[source.audios, source.images])


def _media(row: Row, source: ChatSource) -> Media:
    """The row's clips and pictures, each decoded once to see that it can be."""
    clips = [
        media_bytes(value, row.file.parent, row.where(source.audios)) for value in row.values.get(source.audios) or []
    ]
    pictures = [
        media_bytes(value, row.file.parent, row.where(source.images)) for value in row.values.get(source.images) or []
    ]
    for clip in clips:
        decode_audio(clip, where=row.where(source.audios))
    for picture in pictures:
        decode_image(picture, where=row.where(source.images))
    return {"audio": iter([audio(clip) for clip in clips]), "image": iter([image(picture) for picture in pictures])}


def _messages(row: Row, source: ChatSource, media: Media) -> Iterator[Message]:
    turns = row.values.get(source.messages)
    if not isinstance(turns, list) or not turns:
        raise DataError("no messages", where=row.where(source.messages), expected="a list", got=repr(turns)[:80])
    for number, turn in enumerate(turns):
        where = row.where(f"{source.messages}[{number}]")
        if not isinstance(turn, Mapping):
            raise DataError("not a message", where=where, expected="role and content", got=repr(turn)[:80])
        role = turn.get("role", turn.get("from"))
        content = turn.get("content", turn.get("value"))
        if role not in ROLES or not isinstance(content, str | list) or not content:
            raise DataError(
                "not a message",
                where=where,
                expected=f"a role of {', '.join(ROLES)}, and content that is not empty",
                got=repr(dict(turn))[:120],
            )
        pieces = content if isinstance(content, list) else _split(content, source)
        yield Message(ROLES[role], tuple(_part(piece, media, where) for piece in pieces))


def _split(text: str, source: ChatSource) -> list[dict[str, str]]:
    """Text with markers as parts; the line breaks that layouts put around a marker go."""
    kinds = {source.audio_marker: "audio", source.image_marker: "image"}
    pieces = re.split("|".join(rf"\n?({re.escape(marker)})\n?" for marker in kinds), text)
    return [{"type": kinds[piece]} if piece in kinds else {"type": "text", "text": piece} for piece in pieces if piece]


def _part(piece: Any, media: Media, where: str) -> Part:
    kind = piece.get("type") if isinstance(piece, Mapping) else None
    if kind == "text" and isinstance(piece.get("text"), str):
        if token := next((token for token in SPECIAL_TOKENS if token in piece["text"]), None):
            raise PlaceholderError(f"text contains the special token {token}", where=where, got=piece["text"][:80])
        return TextPart(piece["text"])
    if kind not in media:
        raise DataError("unknown content", where=where, expected="text, audio or image", got=repr(piece)[:80])
    part = next(media[kind], None)
    if part is None:
        raise PlaceholderError(
            f"a placeholder for {kind} with no media",
            where=where,
            expected=f"one entry in the media column for each {kind} placeholder",
            got="fewer entries",
            fix="add the media, or take the placeholder out",
        )
    return part


def _check(row: Row, source: ChatSource, messages: tuple[Message, ...], media: Media) -> None:
    """See that nothing is left over and that there is something to ask and to learn."""
    for kind, rest in media.items():
        if extra := len(list(rest)):
            raise PlaceholderError(
                f"{kind} with no placeholder",
                where=row.where(source.messages),
                expected=f"{source.audio_marker} or {source.image_marker} in the text for each medium",
                got=f"{extra} left over",
                fix="add the placeholder, or take the media out",
            )
    roles = [message.role for message in messages]
    turns = roles[1:] if roles[0] == "system" else roles
    if turns != ["user", "assistant"] * (len(turns) // 2) or not turns:
        raise DataError(
            "turns do not alternate",
            where=row.where(source.messages),
            expected="user and assistant in turn, after at most one system message",
            got=", ".join(roles)[:120],
        )


def _task(messages: tuple[Message, ...]) -> str:
    """The task that a conversation belongs to, by the media in it."""
    types = {part.type for message in messages for part in message.content}
    senses = ("audio" in types, "image" in types)
    return {(False, False): "chat", (True, False): "speech", (False, True): "picture", (True, True): "both"}[senses]
