"""A clip or a picture, an instruction and an answer, as one dialogue."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from caravan.records import AudioPart, Dialogue, ImagePart, Media, Message, Part
from caravan.text.instructions import Wish, instruction


def asked(
    wish: Wish, part: AudioPart | ImagePart, answer: str, *, row: str, language: str, seed: int, source: str, group: str
) -> Dialogue:
    """One turn: an instruction in the row's language before or after the medium, then the answer.

    Args:
        row: identity of the row; with `seed` it alone decides wording and place of the instruction.
    """
    words, before = instruction(wish, language, seed, row, language)
    content: tuple[Part | str, ...] = (words, part) if before else (part, words)
    messages = (Message.of("user", *content), Message.of("assistant", answer))
    return Dialogue(f"{row}:{language}:{wish}", language, wish, messages, source, group)


def audio(data: bytes, said: str = "") -> AudioPart:
    return AudioPart(Media(bytes=data), text=said)


def image(data: bytes, names: Mapping[str, str] = MappingProxyType({})) -> ImagePart:
    """A picture and its names by language."""
    return ImagePart(Media(bytes=data), text="\n".join(names.values()))
