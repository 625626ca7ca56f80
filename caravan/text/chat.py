"""How a dialogue becomes ids, and which of them carry loss. The one home of chat rendering.

Whatever the tokenizer's own `chat_template` says is what training, evaluation and serving see.
"""

from __future__ import annotations

import re
from collections.abc import Container, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from caravan.core.errors import ModelError, PlaceholderError, TokenizerMismatchError, UnsupervisedError
from caravan.records import Dialogue, Message, TextPart
from caravan.text.tokens import AUDIO_PAD, CHAT_TEMPLATE, END_OF_TEXT, IMAGE_PAD, PAD, SPECIAL_TOKENS

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

_PADS = re.compile(f"({re.escape(AUDIO_PAD)}|{re.escape(IMAGE_PAD)})")


@dataclass(frozen=True, slots=True)
class Rendered:
    """A dialogue as the model sees it: `loss_mask[i]` says whether `ids[i]` is learnt."""

    ids: list[int]
    loss_mask: list[bool]


def load_tokenizer(path: str | Path) -> PreTrainedTokenizerBase:
    """Load a Hugging Face tokenizer from a folder or the hub.

    Raises:
        ModelError: there is none.
    """
    from transformers import AutoTokenizer

    try:
        # A fused model's folder carries code, which a tokenizer needs not: it is not run, nor asked about.
        return AutoTokenizer.from_pretrained(str(path), trust_remote_code=False)
    except (OSError, ValueError) as error:
        raise ModelError(
            "no tokenizer can be loaded",
            where=str(path),
            expected="a Hugging Face tokenizer folder or hub name",
            got=str(error).splitlines()[0],
            fix="correct the name; without a network only folders work",
        ) from error


def complete(tokenizer: PreTrainedTokenizerBase) -> None:
    """Give an existing tokenizer the special tokens that it lacks, and our chat template.

    Its own tokens for the beginning, the end and padding stay, where it has them.
    """
    tokenizer.add_special_tokens(
        {"additional_special_tokens": list(SPECIAL_TOKENS)}, replace_extra_special_tokens=False
    )
    for role, token in (("bos_token", END_OF_TEXT), ("eos_token", END_OF_TEXT), ("pad_token", PAD)):
        if getattr(tokenizer, role) is None:
            setattr(tokenizer, role, token)
    tokenizer.chat_template = CHAT_TEMPLATE


def check_vocabulary(tokenizer: PreTrainedTokenizerBase, vocabulary: int, where: str = "") -> None:
    """See that every id of the tokenizer has a row in a model's embedding of `vocabulary` rows.

    Raises:
        TokenizerMismatchError: the tokenizer knows more tokens than the model has rows.
    """
    if len(tokenizer) > vocabulary:
        raise TokenizerMismatchError(
            "the tokenizer does not match the model",
            where=where or None,
            expected=f"a model with at least {len(tokenizer)} embedding rows",
            got=f"{vocabulary} rows",
            fix="use the tokenizer that the model was trained with, or train it on with this one (pretrain.from)",
        )


def special_tokens_in(tokenizer: PreTrainedTokenizerBase, text: str, allowed: Container[str] = ()) -> list[str]:
    """Special tokens that a piece of plain text contains, in order, but for those that it may contain."""
    every = tokenizer.all_special_tokens + list(tokenizer.get_added_vocab())
    names = sorted((name for name in every if name not in allowed), key=len, reverse=True)
    return re.findall("|".join(map(re.escape, names)), text) if names else []


def _plain(
    tokenizer: PreTrainedTokenizerBase, messages: Iterable[Message], where: str, allowed: Container[str] = ()
) -> list[dict[str, Any]]:
    """Messages as the template wants them; text that would be read as a special token is refused."""
    plain = []
    for message in messages:
        # Neighbouring parts are joined by the template, so a token cut in two would come together again.
        text = "".join(part.text if isinstance(part, TextPart) else "\n" for part in message.content)
        if found := special_tokens_in(tokenizer, text, allowed):
            raise PlaceholderError(
                f"text contains the special token {found[0]}",
                where=where or None,
                expected="media as parts of type audio or image, and text without special tokens",
                got=text[:80],
                fix=f"remove {found[0]} from the text; add a part for each clip or picture",
            )
        content = [
            {"type": "text", "text": part.text} if isinstance(part, TextPart) else {"type": part.type}
            for part in message.content
        ]
        plain.append({"role": message.role, "content": content})
    return plain


def _template(tokenizer: PreTrainedTokenizerBase, plain: list[dict[str, Any]], generation: bool) -> str:
    if not tokenizer.chat_template:
        raise ModelError("the tokenizer has no chat template", fix="set one: `tokenizer.chat_template`")
    return str(tokenizer.apply_chat_template(plain, tokenize=False, add_generation_prompt=generation))


def prompt_text(
    tokenizer: PreTrainedTokenizerBase, messages: Iterable[Message], where: str = "", allowed: Container[str] = ()
) -> str:
    """The prompt for the next answer: one pad token stands for each medium, the generation prompt at the end.

    `allowed` are special tokens that text may contain, such as the tags of tool calls.

    Raises:
        PlaceholderError: text contains a special token.
    """
    return _template(tokenizer, _plain(tokenizer, messages, where, allowed), generation=True)


def encode(
    tokenizer: PreTrainedTokenizerBase,
    text: str,
    audio_tokens: Sequence[int] = (),
    image_tokens: Sequence[int] = (),
    where: str = "",
) -> list[int]:
    """Ids of rendered text, each pad token repeated as often as its medium has features.

    Raises:
        PlaceholderError: more or fewer placeholders than media.
    """
    _check_counts(text, audio_tokens, image_tokens, where)
    counts = {AUDIO_PAD: list(audio_tokens), IMAGE_PAD: list(image_tokens)}
    pieces = _PADS.split(text)
    expanded = "".join(piece * counts[piece].pop(0) if piece in counts else piece for piece in pieces)
    return list(tokenizer(expanded, add_special_tokens=False)["input_ids"])


def render(
    tokenizer: PreTrainedTokenizerBase,
    dialogue: Dialogue,
    audio_tokens: Sequence[int] = (),
    image_tokens: Sequence[int] = (),
) -> Rendered:
    """A dialogue's ids; the assistant's words and the token that ends them carry loss.

    The spans come from rendering each prefix of the dialogue, so any template works that only ever appends.

    Raises:
        PlaceholderError: placeholders and media differ in number, or text contains a special token.
        UnsupervisedError: no token would carry loss.
    """
    where = f"dialogue {dialogue.id}"
    plain = _plain(tokenizer, dialogue.messages, where)
    segments: list[tuple[str, bool]] = []
    done = ""
    for index, message in enumerate(dialogue.messages):
        if message.role == "assistant":
            done = _append(segments, done, _template(tokenizer, plain[:index], generation=True), False, where)
        text = _template(tokenizer, plain[: index + 1], generation=False)
        done = _append(segments, done, text, message.role == "assistant", where)
    ids: list[int] = []
    mask: list[bool] = []
    audio, image = list(audio_tokens), list(image_tokens)
    _check_counts(done, audio, image, where)
    for text, learnt in segments:
        audios = [audio.pop(0) for _ in range(text.count(AUDIO_PAD))]
        images = [image.pop(0) for _ in range(text.count(IMAGE_PAD))]
        piece = encode(tokenizer, text, audios, images, where)
        ids += piece
        mask += [learnt] * len(piece)
    if not any(mask):
        raise UnsupervisedError(
            "a dialogue without a token to learn from",
            where=where,
            expected="at least one assistant message with text",
            got=f"roles: {', '.join(message.role for message in dialogue.messages) or 'none'}",
            fix="add the answer, or leave the row out",
        )
    return Rendered(ids, mask)


def _append(segments: list[tuple[str, bool]], done: str, text: str, learnt: bool, where: str) -> str:
    """Add what `text` has beyond `done`; a template that rewrites earlier turns cannot be masked."""
    if not text.startswith(done):
        raise ModelError(
            "the chat template rewrites earlier turns",
            where=where,
            expected="a template in which each message only appends",
            got=f"{text[:60]!r} after {done[:60]!r}",
            fix="use a template without conditions on later messages",
        )
    if len(text) > len(done):
        segments.append((text[len(done) :], learnt))
    return text


def _check_counts(text: str, audio: Sequence[int], image: Sequence[int], where: str) -> None:
    for pad, media in ((AUDIO_PAD, audio), (IMAGE_PAD, image)):
        if text.count(pad) != len(media):
            raise PlaceholderError(
                f"placeholders {pad} and media do not match",
                where=where or None,
                expected=f"{text.count(pad)} media",
                got=f"{len(media)}",
                fix="give one clip or picture for each placeholder",
            )
