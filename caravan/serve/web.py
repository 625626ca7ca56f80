"""The web chat: Gradio's multimodal chat over the same assistant as the API."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Sequence
from contextlib import aclosing
from itertools import pairwise
from pathlib import Path
from typing import Any, Literal

# Read when Gradio is imported: it would otherwise tell its makers of every start.
os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"

import gradio as gr
from fastapi import FastAPI

from caravan.core.errors import CaravanError
from caravan.records import Message, Part
from caravan.serve.assistant import Assistant
from caravan.serve.conversation import SENSES, file_part
from caravan.serve.errors import sentence
from caravan.serve.question import Question, Turn

EXAMPLES = (
    "What month comes after November?",
    "¿Cuánto es 2 más 3?",
    "用汉字写出31。",
    "أي شهر يأتي قبل أبريل؟",
    'Скажи "воскресенье" по-индонезийски.',
    'Wie sagt man "schwarz" auf Türkisch?',
)
NOT_ANSWERED = "This could not be answered"
# Uploads and recordings are deleted after an hour; the check is made as often.
KEEP_SECONDS = 3600
# Each message in the direction of its own script; no button that would send pictures elsewhere.
CSS = """
.message, .message *, textarea { unicode-bidi: plaintext; text-align: start; }
button[aria-label="Share"], footer { display: none !important; }
"""
SYSTEM_FONTS = ("ui-sans-serif", "system-ui", "sans-serif")
MONO_FONTS = ("ui-monospace", "Consolas", "monospace")


def mount_chat(app: FastAPI, assistant: Assistant) -> FastAPI:
    """Mount the web chat of an assistant at `/`. Nothing in it is fetched from elsewhere."""
    theme = gr.themes.Soft(primary_hue="amber", font=SYSTEM_FONTS, font_mono=MONO_FONTS)
    return gr.mount_gradio_app(
        app,
        chat_page(assistant),
        path="/",
        theme=theme,
        css=CSS,
        footer_links=[],
        run_history=False,
        show_error=True,
        ssr_mode=False,
        pwa=False,
        mcp_server=False,
        enable_monitoring=False,
        max_file_size=assistant.config.limits.request_bytes,
    )


def chat_page(assistant: Assistant) -> gr.Blocks:
    """The page: a conversation, a box to type, record and upload in, and the camera where the model sees."""
    senses = assistant.backend.senses
    sources: list[Literal["upload", "microphone"]] = []
    if senses & SENSES.keys():
        sources.append("upload")
    if "audio" in senses:
        sources.append("microphone")

    async def reply(turn: dict[str, Any], history: list[dict[str, Any]]) -> AsyncIterator[str | gr.ChatMessage]:
        messages = _conversation(history, turn)
        text = ""
        try:
            async with aclosing(assistant.answer(Question(tuple(map(Turn.of, messages))))) as pieces:
                async for piece in pieces:
                    text += piece.text
                    yield text
        except CaravanError as error:
            # Gradio leaves the box disabled after an error that is raised.
            yield gr.ChatMessage(sentence(error), metadata={"title": NOT_ANSWERED})

    title, cache = f"Caravan: {assistant.name}", (KEEP_SECONDS, KEEP_SECONDS)
    with gr.Blocks(title=title, delete_cache=cache, analytics_enabled=False, fill_height=True) as page:
        gr.Markdown(f"# Caravan\n{assistant.description}")
        box = gr.MultimodalTextbox(
            sources=sources,
            file_types=[kind for kind, sense in (("image", "vision"), ("audio", "audio")) if sense in senses],
            file_count="multiple",
            placeholder=_invitation(senses),
            show_label=False,
            autofocus=True,
        )
        gr.ChatInterface(
            reply,
            multimodal=True,
            chatbot=gr.Chatbot(show_label=False, height="65vh", layout="bubble", buttons=["copy"]),
            textbox=box,
            examples=[*EXAMPLES],
            concurrency_limit=assistant.config.parallel,
            flagging_mode="never",
            analytics_enabled=False,
            api_visibility="private",
        )
        if "vision" in senses:
            with gr.Accordion("Camera", open=False):
                camera = gr.Image(sources=["webcam"], type="filepath", show_label=False, height=300, buttons=[])
            camera.input(_photographed, [camera, box], [camera, box], api_visibility="private")
    return page


def _invitation(senses: frozenset[str]) -> str:
    """What stands in the empty box."""
    able = [
        "Type",
        *(["record your voice"] if "audio" in senses else []),
        *(["add a picture"] if "vision" in senses else []),
    ]
    return ", ".join(able)


def _photographed(photo: str | None, turn: dict[str, Any]) -> tuple[None, dict[str, Any]]:
    """Put a photograph into the box, and make the camera ready for the next."""
    return None, {"text": turn["text"], "files": [*turn["files"], *([photo] if photo else [])]}


def _conversation(history: Sequence[dict[str, Any]], turn: dict[str, Any]) -> list[Message]:
    """What was said and answered, and what is said now. Turns that could not be answered are left out."""
    messages: list[Message] = []
    for question, answer in pairwise(history):
        if question["role"] == "user" and answer["role"] == "assistant" and not answer["metadata"]:
            messages += [_said(question), _said(answer)]
    files = [file_part(Path(file)) for file in turn["files"]]
    return [*messages, Message.of("user", *files, turn["text"])]


def _said(message: dict[str, Any]) -> Message:
    """A message of Gradio's history: its files in the order in which they were put in, and its text."""
    parts: list[Part | str] = [
        file_part(Path(part["file"]["path"])) if part["type"] == "file" else str(part["text"])
        for part in message["content"]
    ]
    return Message.of(message["role"], *parts)
