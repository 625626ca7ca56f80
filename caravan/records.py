"""What flows on the road: documents, parallel pairs, and dialogues of text, audio and images."""

from __future__ import annotations

import builtins
import io
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import pyarrow as pa

from caravan.core.errors import DataError, PlaceholderError

LANGUAGES = (
    "zh", "en", "ru", "es", "fr", "pt", "de", "it", "nl", "pl", "ar", "tr", "he", "ja", "ko", "th", "vi", "id",
)  # fmt: skip
ROLES = ("system", "user", "assistant")
# A stretch of an uncompressed archive, as in the manifests of fairseq's speech_to_text: FILE.tar:OFFSET:LENGTH.
_STRETCH = re.compile(r"(?P<file>.+\.tar):(?P<start>\d+):(?P<size>\d+)")


@dataclass(frozen=True, slots=True)
class Document:
    """One piece of monolingual text."""

    id: str
    text: str
    language: str
    source: str = ""


@dataclass(frozen=True, slots=True)
class Pair:
    """One sentence in two languages."""

    id: str
    source_language: str
    target_language: str
    source_text: str
    target_text: str


@dataclass(frozen=True, slots=True)
class Media:
    """An encoded audio clip or image: its bytes, the path of its file, or `FILE.tar:OFFSET:LENGTH` in an archive."""

    bytes: builtins.bytes | None = None
    path: str | None = None

    def open(self) -> BinaryIO:
        """The encoded bytes as a seekable stream; a file is not read before it is asked for.

        Raises:
            DataError: neither bytes nor a file that can be read.
        """
        if self.bytes is not None:
            return io.BytesIO(self.bytes)
        path = self.path or ""
        try:
            if stretch := _STRETCH.fullmatch(path):
                return io.BytesIO(_stretch(stretch["file"], int(stretch["start"]), int(stretch["size"])))
            return Path(path).open("rb")
        except (OSError, ValueError) as error:
            raise DataError(
                "a media file cannot be read",
                where=self.path,
                expected="bytes, the path of a file, or FILE.tar:OFFSET:LENGTH",
                got=getattr(error, "strerror", None) or error,
                fix="correct the path in the data",
            ) from error

    def read(self) -> builtins.bytes:
        """The encoded bytes.

        Raises:
            DataError: neither bytes nor a file that can be read.
        """
        if self.bytes is not None:
            return self.bytes
        with self.open() as stream:
            return stream.read()


def _stretch(file: str, start: int, size: int) -> bytes:
    with Path(file).open("rb") as stream:
        stream.seek(start)
        data = stream.read(size)
    if len(data) < size:
        raise OSError(f"the archive ends {size - len(data)} bytes too early")
    return data


@dataclass(frozen=True, slots=True)
class TextPart:
    text: str
    type: str = "text"


@dataclass(frozen=True, slots=True)
class AudioPart:
    """A clip; `text` is what it says, where that is known."""

    audio: Media
    type: str = "audio"
    text: str = ""


@dataclass(frozen=True, slots=True)
class ImagePart:
    """A picture; `text` is what it shows, where that is known, a line for each language."""

    image: Media
    type: str = "image"
    text: str = ""


Part = TextPart | AudioPart | ImagePart


@dataclass(frozen=True, slots=True)
class Message:
    """One turn of a dialogue."""

    role: str
    content: tuple[Part, ...]

    @classmethod
    def of(cls, role: str, *content: Part | str) -> Message:
        """A message from parts; a string stands for a text part."""
        return cls(role, tuple(TextPart(part) if isinstance(part, str) else part for part in content))

    @property
    def text(self) -> str:
        """The text of the message, media left out."""
        return "".join(part.text for part in self.content if isinstance(part, TextPart))


@dataclass(frozen=True, slots=True)
class Dialogue:
    """Turns of text, audio and images; `group` marks what a held-out row tests."""

    id: str
    language: str
    task: str
    messages: tuple[Message, ...]
    source: str = ""
    group: str = ""

    @property
    def audios(self) -> list[Media]:
        return [part.audio for message in self.messages for part in message.content if isinstance(part, AudioPart)]

    @property
    def images(self) -> list[Media]:
        return [part.image for message in self.messages for part in message.content if isinstance(part, ImagePart)]


_MEDIA = pa.list_(pa.struct([("bytes", pa.binary()), ("path", pa.string())]))
_CONTENT = pa.list_(pa.struct([("type", pa.string()), ("text", pa.string())]))
DIALOGUE_SCHEMA = pa.schema(
    [
        ("id", pa.string()),
        ("language", pa.string()),
        ("task", pa.string()),
        ("group", pa.string()),
        ("source", pa.string()),
        ("messages", pa.list_(pa.struct([("role", pa.string()), ("content", _CONTENT)]))),
        ("audios", _MEDIA),
        ("images", _MEDIA),
    ]
)


def _message_row(message: Message) -> dict[str, Any]:
    content = [{"type": part.type, "text": part.text} for part in message.content]
    return {"role": message.role, "content": content}


def dialogue_to_row(dialogue: Dialogue) -> dict[str, Any]:
    """A row of DIALOGUE_SCHEMA."""
    return {
        "id": dialogue.id,
        "language": dialogue.language,
        "task": dialogue.task,
        "group": dialogue.group,
        "source": dialogue.source,
        "messages": [_message_row(message) for message in dialogue.messages],
        "audios": [{"bytes": media.bytes, "path": media.path} for media in dialogue.audios],
        "images": [{"bytes": media.bytes, "path": media.path} for media in dialogue.images],
    }


def dialogues_to_table(dialogues: Iterable[Dialogue]) -> pa.Table:
    """Dialogues as an Arrow table of DIALOGUE_SCHEMA."""
    return pa.Table.from_pylist([dialogue_to_row(dialogue) for dialogue in dialogues], schema=DIALOGUE_SCHEMA)


def dialogue_from_row(row: Mapping[str, Any], where: str = "") -> Dialogue:
    """The dialogue in a row of DIALOGUE_SCHEMA.

    Raises:
        DataError: an unknown role or part type.
        PlaceholderError: more or fewer audio or image parts than media.
    """
    where = where or f"dialogue {row['id']}"
    audios = [Media(item["bytes"], item["path"]) for item in row["audios"] or []]
    images = [Media(item["bytes"], item["path"]) for item in row["images"] or []]
    types = [part["type"] for message in row["messages"] for part in message["content"]]
    for name, media in (("audio", audios), ("image", images)):
        if types.count(name) != len(media):
            raise PlaceholderError(
                f"{name} placeholders and {name}s do not match",
                where=where,
                expected=f"{types.count(name)} {name}(s), one for each placeholder",
                got=f"{len(media)}",
                fix=f"give as many entries in `{name}s` as the messages have parts of type {name}",
            )
    audio, image = iter(audios), iter(images)
    messages = []
    for message in row["messages"]:
        if message["role"] not in ROLES:
            raise DataError("unknown role", where=where, expected=" | ".join(ROLES), got=message["role"])
        parts: list[Part] = []
        for part in message["content"]:
            match part["type"]:
                case "text":
                    parts.append(TextPart(part["text"]))
                case "audio":
                    parts.append(AudioPart(next(audio), text=part["text"] or ""))
                case "image":
                    parts.append(ImagePart(next(image), text=part["text"] or ""))
                case other:
                    raise DataError("unknown content type", where=where, expected="text | audio | image", got=other)
        messages.append(Message(message["role"], tuple(parts)))
    return Dialogue(row["id"], row["language"], row["task"], tuple(messages), row["source"] or "", row["group"] or "")
