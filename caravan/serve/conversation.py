"""From messages to what the engine is handed: checked, decoded, encoded anew, rendered. All three chats share it."""

from __future__ import annotations

from collections.abc import Container, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from caravan.media.audio import SAMPLE_RATE, AudioLimits, decode_audio, encode_wav, window_count
from caravan.media.image import ImageLimits, decode_image, encode_png
from caravan.recipe.serve import LimitsConfig
from caravan.records import AudioPart, ImagePart, Message, Part, TextPart
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


@dataclass(frozen=True)
class Room:
    """How much fits: tokens of one request, of 30 seconds of a clip, and of a picture; 0 where that is not known."""

    context: int = 0
    window: int = 0
    picture: int = 0


class Renderer:
    """Turns messages into prompts for one model.

    Args:
        tokenizer: the model's; its chat template decides how a conversation reads.
        senses: what the model has: `audio`, `vision`.
        limits: what one request may carry.
        room: how many tokens it may have.
    """

    def __init__(
        self, tokenizer: PreTrainedTokenizerBase, senses: frozenset[str], limits: LimitsConfig, room: Room | None = None
    ) -> None:
        self.tokenizer, self.senses, self.limits, self.room = tokenizer, senses, limits, room or Room()

    def prompt(self, messages: Sequence[Message], *, first: int = 0, allowed: Container[str] = ()) -> Prompt:
        """The prompt for the next answer. Nothing of the media but sound and pixels gets past this point.

        Args:
            messages: of the conversation.
            first: which of them the client knows as its first.
            allowed: special tokens that their text may contain.

        Raises:
            RequestError: too much text, too many media, a sense that the model lacks, an order without sense.
            MediaError: a clip or a picture that cannot be decoded or exceeds a limit.
            PlaceholderError: text that contains a special token.
        """
        check(messages, self.senses, self.limits, first)
        joined = [replace(one, content=tuple(_joined(one.content))) for one in messages]
        text = prompt_text(self.tokenizer, joined, allowed=allowed)
        used = self.count(text)
        check_room(used, self.room.context, "messages")
        media = []
        for data, tokens in decoded(messages, self.limits, self.room, first):
            used += tokens
            check_room(used, self.room.context, "messages")
            media.append(data)
        return Prompt(text, tuple(media))

    def count(self, text: str) -> int:
        """Tokens of a rendered text."""
        return len(self.tokenizer(text, add_special_tokens=False)["input_ids"])


def check_room(tokens: int, most: int, param: str) -> None:
    """See that a prompt fits.

    Raises:
        RequestError: it has more tokens than `most`, which is 0 where that is not known.
    """
    if most and tokens > most:
        raise RequestError(
            "the prompt does not fit into the context",
            param=param,
            code="context_length_exceeded",
            expected=f"at most {most} tokens",
            got=f"{tokens} tokens or more",
            fix="shorten it, or serve with a larger context",
        )


def check(messages: Sequence[Message], senses: frozenset[str], limits: LimitsConfig, first: int = 0) -> None:
    """See that messages are in an order, and of a size, that can be answered; nothing is decoded.

    Raises:
        RequestError: they are not.
    """
    if not messages or messages[-1].role != "user":
        raise RequestError(
            "the last message is not the user's",
            param="messages",
            expected="a message of role user at the end",
            got=messages[-1].role if messages else "no messages",
        )
    if not any(_joined(messages[-1].content)):
        raise RequestError("the last message is empty", param="messages", expected="text, a clip or a picture")
    check_text(sum(len(message.text) for message in messages), limits, "messages")
    media = [(where, part) for where, part in _parts(messages, first) if not isinstance(part, TextPart)]
    if len(media) > limits.media:
        raise RequestError(
            "too many media",
            param="messages",
            expected=f"at most {limits.media} clips and pictures",
            got=len(media),
            fix="send fewer, or raise limits.media of the server",
        )
    for where, part in media:
        _check_sense("audio" if isinstance(part, AudioPart) else "vision", senses, where)


def check_text(characters: int, limits: LimitsConfig, param: str) -> None:
    """See that a request has no more text than it may.

    Raises:
        RequestError: it has.
    """
    if characters > limits.text:
        raise RequestError(
            "too much text",
            param=param,
            code="context_length_exceeded",
            expected=f"at most {limits.text:,} characters",
            got=f"{characters:,}",
            fix="shorten it",
        )


def _check_sense(sense: str, senses: frozenset[str], where: str) -> None:
    if sense not in senses:
        able = [SENSES[name] for name in sorted(senses) if name in SENSES]
        raise RequestError(
            f"this model cannot {SENSES[sense]}",
            param=where,
            code="unsupported_media",
            expected=f"text{''.join(f', something to {verb}' for verb in able)}",
            got="a clip" if sense == "audio" else "a picture",
            fix="leave it out, or serve a model that was aligned with such an encoder",
        )


def decoded(
    messages: Sequence[Message], limits: LimitsConfig, room: Room, first: int = 0
) -> Iterator[tuple[bytes, int]]:
    """Each of the media as a file that we wrote ourselves, WAV or PNG, and how many tokens it takes.

    All clips together may be as long, and all pictures together as large, as the limits say.

    Raises:
        MediaError: one that cannot be decoded, or exceeds what is left of a limit.
    """
    seconds, pixels = limits.seconds, limits.pixels
    for where, part in _parts(messages, first):
        match part:
            case AudioPart():
                wave = decode_audio(part.audio.read(), where=where, limits=AudioLimits(max_seconds=seconds))
                seconds -= len(wave) / SAMPLE_RATE
                yield encode_wav(wave), window_count(len(wave)) * room.window
            case ImagePart():
                image = decode_image(part.image.read(), where=where, limits=ImageLimits(max_pixels=pixels))
                pixels -= image.width * image.height
                yield encode_png(image), room.picture


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


def _parts(messages: Sequence[Message], first: int = 0) -> Iterator[tuple[str, Part]]:
    """Every part, and where it stands among the messages that the client sent."""
    for index, message in enumerate(messages, start=-first):
        for position, part in enumerate(message.content):
            yield f"messages[{index}].content[{position}]", part
