"""Conversations: LLaVA's, LLaSM's, ShareGPT's, OpenAI's and Alpaca's layouts, and dialogues of our own, as messages.

Every fault of a row is noted on it; a row without any gives messages whose media are references.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

from caravan.core.errors import DataError, PlaceholderError
from caravan.instruct.media import Kind, base64_media, look, media_of
from caravan.instruct.rows import Row
from caravan.recipe.instruct import DataSource
from caravan.records import AudioPart, ImagePart, Media, Message, Part, TextPart
from caravan.text.tokens import SPECIAL_TOKENS

ROLES = {
    "system": "system",
    "user": "user",
    "human": "user",
    "assistant": "assistant",
    "gpt": "assistant",
    "chatgpt": "assistant",
    "bot": "assistant",
    "model": "assistant",
}
# OpenAI's names of parts, and the shorter ones of Qwen's and our own.
PARTS: Mapping[str, Kind] = {"image_url": "image", "image": "image", "input_audio": "audio", "audio": "audio"}
COLUMNS: Mapping[Kind, tuple[str, ...]] = {"audio": ("audios", "audio"), "image": ("images", "image")}
MESSAGES = ("messages", "conversations")
# Content whose fault has been noted.
UNUSABLE: list[Mapping[str, Any]] = [{"type": None}]


def messages_of(row: Row, source: DataSource) -> tuple[Message, ...]:
    """The messages of a row of any of the layouts; empty where it has a fault."""
    field = source.columns.get("messages") or next((name for name in MESSAGES if name in row.values), "")
    turns = list(_alpaca(row)) if not field and "output" in row.values else _listed(row, field or MESSAGES[0])
    media = {kind: _media(row, source, kind) for kind in COLUMNS}
    rest = {kind: iter(found) for kind, found in media.items()}
    counts = dict.fromkeys(media, 0)
    messages = []
    for place, turn in turns:
        pieces = _pieces(row, source, place, turn)
        parts = [_part(row, place, piece, rest, counts) for piece in pieces]
        role = _role(row, place, turn)
        if pieces != UNUSABLE and not any(isinstance(part, TextPart) and part.text.strip() for part in parts):
            _see_content(row, place, role, bool(pieces))
        messages.append(Message(role, tuple(part for part in parts if part is not None)))
    for kind, found in media.items():
        if counts[kind] != len(found):
            _unequal(row, source, kind, counts[kind], len(found))
    _see_order(row, field or MESSAGES[0], [message.role for message in messages])
    return () if row.faults else tuple(messages)


def task_of(messages: tuple[Message, ...]) -> str:
    """The task that a conversation belongs to, by the media in it."""
    types = {part.type for message in messages for part in message.content}
    senses = ("audio" in types, "image" in types)
    return {(False, False): "chat", (True, False): "speech", (False, True): "picture", (True, True): "both"}[senses]


def _listed(row: Row, field: str) -> list[tuple[str, Mapping[str, Any]]]:
    """Place and turn of each element of a list of turns, the system prompt of a column first."""
    turns = row.values.get(field)
    if not isinstance(turns, list) or not turns:
        row.fault("no messages", field, expected="a list of turns", got=turns, fix="give question and answer")
        return []
    found: list[tuple[str, Mapping[str, Any]]] = []
    # `instruction` is the system prompt of Chinese-Llama-2-7b's rows.
    prompt = next((name for name in ("system", "instruction") if isinstance(row.values.get(name), str)), "")
    if prompt and row.values[prompt].strip():
        found.append((prompt, {"role": "system", "content": row.values[prompt]}))
    for number, turn in enumerate(turns):
        place = f"{field}[{number}]"
        if isinstance(turn, Mapping):
            found.append((place, turn))
        else:
            row.fault("not a message", place, expected="role and content, or from and value", got=turn,
                      fix="give each turn as an object")  # fmt: skip
    return found


def _alpaca(row: Row) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Alpaca's rows: instruction, input, output; also `system`, and `history` as pairs of question and answer."""
    values = row.values
    if values.get("system"):
        yield "system", {"role": "system", "content": values["system"]}
    history = values.get("history") or []
    for number, pair in enumerate(history if isinstance(history, list) else [history]):
        place = f"history[{number}]"
        if not isinstance(pair, list | tuple) or len(pair) != 2:
            row.fault("not a pair", place, expected="[question, answer]", got=pair, fix="give both")
            continue
        yield place, {"role": "user", "content": pair[0]}
        yield place, {"role": "assistant", "content": pair[1]}
    instruction, more = values.get("instruction"), values.get("input")
    asked = f"{instruction}\n{more}" if isinstance(instruction, str) and isinstance(more, str) and more else instruction
    yield "instruction", {"role": "user", "content": asked}
    yield "output", {"role": "assistant", "content": values["output"]}


def _media(row: Row, source: DataSource, kind: Kind) -> list[Media | None]:
    """The media of a row's column, None for one that cannot be used."""
    field = source.columns.get(kind) or next((name for name in COLUMNS[kind] if row.values.get(name) is not None), "")
    cells = row.values.get(field)
    if cells is None or cells == "":
        return []
    several = isinstance(cells, list)
    return [
        referred(row, source, kind, cell, f"{field}[{number}]" if several else field)
        for number, cell in enumerate(cells if several else [cells])
    ]


def referred(row: Row, source: DataSource, kind: Kind, cell: Any, field: str) -> Media | None:
    """The medium that a cell names, seen to be usable; None with the fault noted."""
    try:
        media = cell if isinstance(cell, Media) else media_of(cell, row.folder)
        look(media, kind, whole=source.decode)
    except DataError as error:
        got = ": ".join(filter(None, (error.where, error.got)))
        row.fault(error.problem, field, expected=error.expected, got=got, fix=error.fix or "", kind=type(error))
        return None
    return media


def _role(row: Row, place: str, turn: Mapping[str, Any]) -> str:
    role = turn.get("role", turn.get("from"))
    if isinstance(role, str) and role in ROLES:
        return ROLES[role]
    row.fault("unknown role", place, expected=" | ".join(ROLES), got=role, fix="rename the role, or take the turn out")
    return ""


def _pieces(row: Row, source: DataSource, place: str, turn: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """The content of a turn as parts."""
    content = turn.get("content", turn.get("value"))
    if isinstance(content, str):
        return _split(content, source)
    if isinstance(content, list) and all(isinstance(piece, Mapping) for piece in content):
        return content
    row.fault("content of a wrong type", place, expected="text, or a list of parts", got=content, fix="write the text")
    return UNUSABLE


def _split(text: str, source: DataSource) -> list[Mapping[str, Any]]:
    """Text with markers as parts; the line breaks that layouts put around a marker go."""
    kinds = {source.audio_marker: "audio", source.image_marker: "image"}
    pieces = re.split("|".join(rf"\n?({re.escape(marker)})\n?" for marker in kinds), text)
    return [{"type": kinds[piece]} if piece in kinds else {"type": "text", "text": piece} for piece in pieces if piece]


def _part(
    row: Row, place: str, piece: Mapping[str, Any], rest: Mapping[Kind, Iterator[Media | None]], counts: dict[Kind, int]
) -> Part | None:
    """A part of a message; None with the fault noted."""
    name = piece.get("type")
    if name == "text" and isinstance(piece.get("text"), str):
        see_text(row, place, piece["text"])
        return TextPart(piece["text"])
    kind = PARTS.get(str(name))
    if kind is None:
        if piece not in UNUSABLE:
            row.fault("unknown content", place, expected=" | ".join(["text", *PARTS]), got=piece, fix="rename the type")
        return None
    inner = piece.get(str(name), piece.get("url", piece.get("path")))
    if inner is not None:
        media = _inline(row, place, kind, inner)
    else:
        counts[kind] += 1
        media = next(rest[kind], None)
    if media is None:
        return None
    known = piece["text"] if isinstance(piece.get("text"), str) else ""
    return AudioPart(media, text=known) if kind == "audio" else ImagePart(media, text=known)


def see_text(row: Row, place: str, text: str) -> None:
    """Note text that would be read as a special token, or that is no valid Unicode."""
    if token := next((token for token in SPECIAL_TOKENS if token in text), None):
        row.fault(
            f"text contains the special token {token}",
            place,
            expected="text without special tokens",
            got=text,
            fix=f"remove {token}",
            kind=PlaceholderError,
        )
    if any("\ud800" <= character <= "\udfff" for character in text):
        row.fault("half of a surrogate pair", place, expected="valid Unicode", got=ascii(text), fix="write it again")


def _inline(row: Row, place: str, kind: Kind, inner: Any) -> Media | None:
    """A medium that stands in its part: OpenAI's `{url}` and `{data, format}`, a path, or bytes."""
    try:
        coded = isinstance(inner, Mapping) and "data" in inner and "format" in inner
        media = base64_media(inner["data"]) if coded else media_of(inner, row.folder)
        look(media, kind, whole=False)
    except DataError as error:
        row.fault(error.problem, place, expected=error.expected, got=error.got or "", fix=error.fix or "",
                  kind=type(error))  # fmt: skip
        return None
    return media


def _see_content(row: Row, place: str, role: str, pieces: bool) -> None:
    """A turn without text: an answer must have some, a question may be a clip or a picture alone."""
    if role == "assistant":
        row.fault("empty answer", place, expected="text to learn", got="", fix="write the answer, or take the row out")
    elif not pieces:
        row.fault("empty turn", place, expected="text or a medium", got="", fix="write the text, or take the turn out")


def _unequal(row: Row, source: DataSource, kind: Kind, placeholders: int, media: int) -> None:
    marker = source.audio_marker if kind == "audio" else source.image_marker
    row.fault(
        f"{kind} placeholders and {kind} media differ in number",
        "",
        expected=f"{media} placeholder(s) {marker}, one for each medium",
        got=f"{placeholders}",
        fix=f"add {marker} or the medium, or name the marker of this data: `{kind}_marker`",
        kind=PlaceholderError,
    )


def _see_order(row: Row, field: str, roles: list[str]) -> None:
    turns = roles[1:] if roles[:1] == ["system"] else roles
    if roles and all(roles) and (not turns or turns != ["user", "assistant"] * (len(turns) // 2)):
        row.fault(
            "turns do not alternate",
            field,
            expected="user and assistant in turn, after at most one system message",
            got=", ".join(roles),
            fix="join turns of one role, and end with an answer",
        )
