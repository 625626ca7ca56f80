"""Conversations that a browser keeps: in its own storage, and nowhere else.

What comes back from there is what anybody may have written: it is read as such, and names no files but uploads.
"""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, TypeAdapter, ValidationError

from caravan.core.errors import MediaError
from caravan.serve.web.talk import GONE, Said, Talk
from caravan.serve.web.uploads import uploaded

MOST, MOST_CHARACTERS = 50, 2_000_000  # a browser keeps about five million for one site
TITLE = 40


class KeptMessage(BaseModel):
    """A message as the browser keeps it."""

    model_config = ConfigDict(extra="ignore", frozen=True)

    role: Literal["user", "assistant"]
    text: str
    files: tuple[str, ...] = ()
    failed: bool = False


class KeptTalk(BaseModel):
    """A conversation as the browser keeps it."""

    model_config = ConfigDict(extra="ignore", frozen=True)

    id: str
    messages: tuple[KeptMessage, ...]

    @property
    def title(self) -> str:
        """Its first words."""
        words = next((one.text for one in self.messages if one.text.strip()), "📎")
        line = " ".join(words.split())
        return line if len(line) <= TITLE else f"{line[:TITLE]}…"

    @property
    def talk(self) -> Talk:
        """To go on with. Files that are gone, or that were never uploaded, are told by their names."""
        return [Said(one.role, *_there(one), one.failed) for one in self.messages]


def _there(message: KeptMessage) -> tuple[str, tuple[str, ...]]:
    files, text = [], message.text
    for name in message.files:
        try:
            files.append(uploaded(name))
        except MediaError:
            text = f"{GONE.format(name=name.rpartition('/')[2][:80])}\n{text}"
    return text, tuple(files)


_SHELF = TypeAdapter(list[KeptTalk])


def read(stored: Any) -> list[KeptTalk]:
    """The newest first; nothing where what is stored is none of ours."""
    try:
        return _SHELF.validate_python(stored or [])
    except ValidationError:
        return []


def written(shelf: list[KeptTalk]) -> list[dict[str, Any]]:
    """To be stored: the newest, as many as there is room for."""
    kept, size = [], 0
    for one in shelf[:MOST]:
        size += sum(len(message.text) for message in one.messages)
        if size > MOST_CHARACTERS:
            break
        kept.append(one.model_dump(mode="json"))
    return kept


def put(shelf: list[KeptTalk], name: str, talk: Talk) -> list[KeptTalk]:
    """The shelf with a conversation in its first place."""
    messages = tuple(KeptMessage.model_validate(one, from_attributes=True) for one in talk)
    return [KeptTalk(id=name, messages=messages), *without(shelf, name)]


def without(shelf: list[KeptTalk], name: str) -> list[KeptTalk]:
    """The shelf without a conversation."""
    return [one for one in shelf if one.id != name]


def found(shelf: list[KeptTalk], name: str | None) -> Talk:
    """A conversation; empty if it is not there."""
    return next((one.talk for one in shelf if one.id == name), [])


def choices(shelf: list[KeptTalk]) -> list[tuple[str, str]]:
    """Titles and ids."""
    return [(one.title, one.id) for one in shelf]
