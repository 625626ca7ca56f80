"""A conversation of the web chat as the server keeps it: what was said, with which files, and how it is shown."""

from __future__ import annotations

import mimetypes
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import aclosing
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

from caravan.core.errors import CaravanError
from caravan.records import AudioPart, ImagePart, Media, Message
from caravan.serve.assistant import Assistant
from caravan.serve.errors import sentence
from caravan.serve.question import Question, Sampling, Turn
from caravan.serve.web.uploads import uploaded

NOT_ANSWERED = "This could not be answered"
GONE = "📎 {name} (no longer kept)"
# A browser draws no more often than this; each time, it is sent the conversation.
DRAW_SECONDS = 0.05
# The language of the answer where the reader chooses one; a model that knows no such wish answers as asked.
WISHES = {
    "zh": "请用中文回答。", "en": "Answer in English.", "ru": "Отвечай по-русски.", "es": "Responde en español.",
    "fr": "Réponds en français.", "pt": "Responda em português.", "de": "Antworte auf Deutsch.",
    "it": "Rispondi in italiano.", "nl": "Antwoord in het Nederlands.", "pl": "Odpowiadaj po polsku.",
    "ar": "أجب بالعربية.", "tr": "Türkçe yanıtla.", "he": "ענה בעברית.", "ja": "日本語で答えてください。",
    "ko": "한국어로 대답해 주세요.", "th": "ตอบเป็นภาษาไทย", "vi": "Hãy trả lời bằng tiếng Việt.",
    "id": "Jawab dalam bahasa Indonesia.",
}  # fmt: skip
NAMES = {
    "zh": "中文", "en": "English", "ru": "Русский", "es": "Español", "fr": "Français", "pt": "Português",
    "de": "Deutsch", "it": "Italiano", "nl": "Nederlands", "pl": "Polski", "ar": "العربية", "tr": "Türkçe",
    "he": "עברית", "ja": "日本語", "ko": "한국어", "th": "ไทย", "vi": "Tiếng Việt", "id": "Bahasa Indonesia",
}  # fmt: skip


@dataclass(frozen=True)
class Said:
    """One message; `files` lie in the folder of uploads, `failed` is the title of an answer that is an error."""

    role: Literal["user", "assistant"]
    text: str
    files: tuple[str, ...] = ()
    failed: bool = False


Talk = list[Said]


def asked(turn: dict[str, Any] | None) -> Said | None:
    """What is in the box, if anything is.

    Raises:
        MediaError: a file that was not uploaded.
    """
    turn = turn or {}
    files = tuple(uploaded(file) for file in turn.get("files") or ())
    text = turn.get("text") or ""
    return Said("user", text, files) if files or text.strip() else None


def shown(talk: Talk) -> list[dict[str, Any]]:
    """As Gradio's messages."""
    return [
        {
            "role": one.role,
            # The text first: Gradio's page can edit no other part of a message.
            "content": [
                # As it stands: Gradio takes the indentation off a mere string.
                *([{"type": "text", "text": one.text}] if one.text or not one.files else []),
                *({"path": file} if Path(file).is_file() else GONE.format(name=Path(file).name) for file in one.files),
            ],
            "metadata": {"title": NOT_ANSWERED} if one.failed else None,
        }
        for one in talk
    ]


def question(talk: Talk, language: str | None = None, sampling: Sampling | None = None) -> Question:
    """A conversation to be answered. Turns that were not answered are left out, except the last."""
    messages = [Message.of("system", WISHES[language])] if language in WISHES else []
    for one, answer in zip(talk, [*talk[1:], None], strict=True):
        if one.role == "user" and answer is not None and not answer.failed and answer.role == "assistant":
            messages += [_message(one), _message(answer)]
    return Question(tuple(map(Turn.of, [*messages, _message(talk[-1])])), sampling or Sampling())


def _message(one: Said) -> Message:
    return Message.of(one.role, *(file_part(Path(file)) for file in one.files if Path(file).is_file()), one.text)


def file_part(path: Path) -> AudioPart | ImagePart:
    """A file as the part that its name says it is; what is not called a picture is taken for a clip."""
    kind, _ = mimetypes.guess_type(path.name, strict=False)
    media = Media(path=str(path))
    return ImagePart(media) if (kind or "").startswith("image/") else AudioPart(media)


async def answered(
    assistant: Assistant, talk: Talk, language: str | None = None, sampling: Sampling | None = None
) -> AsyncIterator[Talk]:
    """The conversation with its answer, as it grows; one that cannot be answered says why in its place."""
    answer, drawn = Said("assistant", ""), time.monotonic()
    try:
        async with aclosing(assistant.answer(question(talk, language, sampling))) as pieces:
            async for piece in pieces:
                answer = replace(answer, text=answer.text + piece.text)
                if time.monotonic() - drawn > DRAW_SECONDS:
                    drawn = time.monotonic()
                    yield [*talk, answer]
        yield [*talk, answer]
    except CaravanError as error:
        yield [*talk, Said("assistant", sentence(error), failed=True)]


def place(index: int | Sequence[int]) -> int:
    """Which message an event of Gradio's is about; it may say which part, too."""
    return index if isinstance(index, int) else index[0]


def again(talk: Talk, index: int) -> Talk:
    """The conversation up to the question that message `index` is, or answers."""
    ends = [number for number, one in enumerate(talk[: index + 1]) if one.role == "user"]
    return talk[: ends[-1] + 1] if ends else []


def edited(talk: Talk, index: int, text: str) -> Talk:
    """The conversation up to question `index`, which now reads so; its files stay."""
    if not 0 <= index < len(talk) or talk[index].role != "user":
        return talk
    return [*talk[:index], replace(talk[index], text=text)]
