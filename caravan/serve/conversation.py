"""From messages to what the engine is handed: checked, decoded, encoded anew, rendered. All three chats share it."""

from __future__ import annotations

import mimetypes
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from caravan.media.audio import AudioLimits, decode_audio, encode_wav
from caravan.media.image import ImageLimits, decode_image, encode_png
from caravan.recipe.serve import LimitsConfig
from caravan.records import AudioPart, ImagePart, Media, Message, Part, TextPart
from caravan.serve.errors import RequestError
from caravan.text.chat import prompt_text

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

# A modality in llama.cpp's words, the type of its parts in ours.
SENSES = {"audio": "hear", "vision": "see"}


@dataclass(frozen=True)
class Prompt:
    """Rendered text with one placeholder for each of the media, which are 16 kHz mono WAV and PNG files."""

    text: str
    media: tuple[bytes, ...]


class Renderer:
    """Turns messages into prompts for one model.

    Args:
        tokenizer: the model's; its chat template decides how a conversation reads.
        senses: what the model has: `audio`, `vision`.
        limits: what one request may carry.
    """

    def __init__(self, tokenizer: PreTrainedTokenizerBase, senses: frozenset[str], limits: LimitsConfig) -> None:
        self.tokenizer, self.senses, self.limits = tokenizer, senses, limits

    def prompt(self, messages: Sequence[Message]) -> Prompt:
        """The prompt for the next answer. Nothing of the media but sound and pixels gets past this point.

        Raises:
            RequestError: too much text, too many media, a sense that the model lacks, an order without sense.
            MediaError: a clip or a picture that cannot be decoded or exceeds a limit.
            PlaceholderError: text that contains a special token.
        """
        self._check(messages)
        text = prompt_text(self.tokenizer, [replace(one, content=tuple(_joined(one.content))) for one in messages])
        return Prompt(text, tuple(self._media(messages)))

    def _check(self, messages: Sequence[Message]) -> None:
        if not messages or messages[-1].role != "user":
            raise RequestError(
                "the last message is not the user's",
                param="messages",
                expected="a message of role user at the end",
                got=messages[-1].role if messages else "no messages",
            )
        if not any(_joined(messages[-1].content)):
            raise RequestError("the last message is empty", param="messages", expected="text, a clip or a picture")
        characters = sum(len(message.text) for message in messages)
        if characters > self.limits.text:
            raise RequestError(
                "too much text",
                param="messages",
                code="context_length_exceeded",
                expected=f"at most {self.limits.text:,} characters",
                got=f"{characters:,}",
                fix="shorten the conversation",
            )
        media = [(where, part) for where, part in _parts(messages) if not isinstance(part, TextPart)]
        if len(media) > self.limits.media:
            raise RequestError(
                "too many media",
                param="messages",
                expected=f"at most {self.limits.media} clips and pictures",
                got=len(media),
                fix="send fewer, or raise limits.media of the server",
            )
        for where, part in media:
            self._check_sense("audio" if isinstance(part, AudioPart) else "vision", where)

    def _check_sense(self, sense: str, where: str) -> None:
        if sense not in self.senses:
            able = [SENSES[name] for name in sorted(self.senses) if name in SENSES]
            raise RequestError(
                f"this model cannot {SENSES[sense]}",
                param=where,
                code="unsupported_media",
                expected=f"text{''.join(f', something to {verb}' for verb in able)}",
                got="a clip" if sense == "audio" else "a picture",
                fix="leave it out, or serve a model that was aligned with such an encoder",
            )

    def _media(self, messages: Sequence[Message]) -> Iterator[bytes]:
        audio, image = AudioLimits(max_seconds=self.limits.seconds), ImageLimits(max_pixels=self.limits.pixels)
        for where, part in _parts(messages):
            match part:
                case AudioPart():
                    yield encode_wav(decode_audio(part.audio.read(), where=where, limits=audio))
                case ImagePart():
                    yield encode_png(decode_image(part.image.read(), where=where, limits=image))


def file_part(path: Path) -> AudioPart | ImagePart:
    """A file as the part that its name says it is; what is not called a picture is taken for a clip."""
    kind, _ = mimetypes.guess_type(path.name, strict=False)
    media = Media(path=str(path))
    return ImagePart(media) if (kind or "").startswith("image/") else AudioPart(media)


def _joined(parts: Sequence[Part]) -> Iterator[Part]:
    """Neighbouring texts as one, so that no special token can hide in two halves; empty ones left out."""
    text = ""
    for part in parts:
        if isinstance(part, TextPart):
            text += part.text
            continue
        if text:
            yield TextPart(text)
        text = ""
        yield part
    if text:
        yield TextPart(text)


def _parts(messages: Sequence[Message]) -> Iterator[tuple[str, Part]]:
    """Every part, and where it stands."""
    for index, message in enumerate(messages):
        for position, part in enumerate(message.content):
            yield f"messages[{index}].content[{position}]", part
