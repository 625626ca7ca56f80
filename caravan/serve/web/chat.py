"""The chat: conversations that the browser keeps, settings, and a box to type, record and upload in.

The conversation that is under way stands in the server's session, so that no message can be made up on its way.
"""

from __future__ import annotations

import secrets
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from typing import Any, Literal

import gradio as gr

from caravan.core.errors import MediaError
from caravan.serve.assistant import Assistant
from caravan.serve.errors import sentence
from caravan.serve.question import Sampling
from caravan.serve.web import shelf as shelves
from caravan.serve.web.talk import NAMES, Talk, again, answered, asked, edited, place, shown

EXAMPLES = (
    "What month comes after November?",
    "¿Cuánto es 2 más 3?",
    "用汉字写出31。",
    "أي شهر يأتي قبل أبريل؟",
    'Скажи "воскресенье" по-индонезийски.',
    'Wie sagt man "schwarz" auf Türkisch?',
)
# The browser's storage is no secret from who sits before it; a key of its own for each start would lose what is kept.
SHELF_KEY = "caravan-conversations"
Event = Callable[..., Any]


@dataclass(frozen=True)
class Parts:
    """What the events of the chat read and write."""

    talk: gr.State
    name: gr.State
    shelf: gr.BrowserState
    picker: gr.Dropdown
    chatbot: gr.Chatbot
    box: gr.MultimodalTextbox
    settings: tuple[Any, ...]


def chat_tab(page: gr.Blocks, assistant: Assistant) -> None:
    """Add the chat to a page."""
    senses = assistant.backend.senses
    shelf = gr.BrowserState([], storage_key=SHELF_KEY, secret=SHELF_KEY)
    with gr.Row(equal_height=True):
        picker = gr.Dropdown([], label="Conversations", show_label=False, container=False, scale=6, min_width=140)
        new = gr.Button("New", size="sm", scale=1, min_width=60)
        delete = gr.Button("Delete", size="sm", scale=1, min_width=60)
    chatbot = gr.Chatbot(
        show_label=False,
        height="55vh",
        layout="bubble",
        buttons=["copy"],
        editable="user",
        group_consecutive_messages=False,
        examples=[{"text": text} for text in EXAMPLES],
    )
    box = question_box(senses)
    settings = _settings(assistant)
    if "vision" in senses:
        with gr.Accordion("Camera", open=False):
            camera = gr.Image(sources=["webcam"], type="filepath", show_label=False, height=300, buttons=[])
        camera.input(photographed, [camera, box], [camera, box], api_visibility="private")
    parts = Parts(gr.State([]), gr.State(""), shelf, picker, chatbot, box, settings)
    _conversation(assistant, parts)
    _shelf(page, parts, new, delete)


def question_box(senses: frozenset[str]) -> gr.MultimodalTextbox:
    """A box to type in, to record in and to put files in, as far as the model has senses for them."""
    able = {"audio": "record your voice", "vision": "add pictures"}
    sources: list[Literal["upload", "microphone"]] = ["upload"] if senses & able.keys() else []
    return gr.MultimodalTextbox(
        sources=[*sources, "microphone"] if "audio" in senses else sources,
        file_types=[kind for kind, sense in (("image", "vision"), ("audio", "audio")) if sense in senses],
        file_count="multiple",
        placeholder=", ".join(["Type", *(words for sense, words in able.items() if sense in senses)]),
        show_label=False,
        label="Question",
        autofocus=True,
    )


def _settings(assistant: Assistant) -> tuple[Any, ...]:
    config = assistant.config
    with gr.Accordion("Settings", open=False):
        languages = [("as asked", ""), *((name, language) for language, name in NAMES.items())]
        language = gr.Dropdown(languages, value="", label="Language of the answer")
        temperature = gr.Slider(
            0, 2, value=config.temperature, step=0.05, label="Temperature (0: the likeliest answer)"
        )
        most = min(config.limits.tokens, assistant.backend.context)
        tokens = gr.Slider(1, most, value=min(config.max_tokens, most), step=1, label="Longest answer, in tokens")
    return language, temperature, tokens


def busy() -> gr.MultimodalTextbox:
    """The box while an answer comes: it can be stopped."""
    return gr.MultimodalTextbox(value=None, interactive=False, submit_btn=False, stop_btn=True)


def idle() -> gr.MultimodalTextbox:
    """The box when the next question can be asked."""
    return gr.MultimodalTextbox(interactive=True, submit_btn=True, stop_btn=False)


def photographed(photo: str | None, turn: dict[str, Any]) -> tuple[None, dict[str, Any]]:
    """Put a photograph into the box, and make the camera ready for the next."""
    return None, {"text": turn["text"], "files": [*turn["files"], *([photo] if photo else [])]}


def _conversation(assistant: Assistant, parts: Parts) -> None:
    """Ask, ask again, ask otherwise, stop."""

    def ask(turn: dict[str, Any], talk: Talk) -> tuple[Any, Talk, Any]:
        try:
            said = asked(turn)
        except MediaError as error:
            raise gr.Error(sentence(error)) from error
        talk = [*talk, said] if said else talk
        return (busy() if said else gr.skip()), talk, shown(talk)

    def example(talk: Talk, data: gr.SelectData) -> tuple[Any, Talk, Any]:
        return ask({"text": str(data.value["text"])}, talk)

    def retry(talk: Talk, data: gr.RetryData) -> tuple[Any, Talk, Any]:
        talk = again(talk, place(data.index))
        return busy(), talk, shown(talk)

    def edit(talk: Talk, data: gr.EditData) -> tuple[Any, Talk, Any]:
        talk = edited(talk, place(data.index), str(data.value))
        return busy(), talk, shown(talk)

    async def reply(
        talk: Talk, language: str, temperature: float, tokens: float
    ) -> AsyncIterator[tuple[Talk, list[dict[str, Any]]]]:
        if talk and talk[-1].role == "user":
            sampling = Sampling(max_tokens=max(int(tokens), 1), temperature=min(max(float(temperature), 0.0), 2.0))
            async for grown in answered(assistant, talk, language, sampling):
                yield grown, shown(grown)

    begun = [parts.box, parts.talk, parts.chatbot]
    replies = []
    for trigger, first, inputs in (
        (parts.box.submit, ask, [parts.box, parts.talk]),
        (parts.chatbot.example_select, example, [parts.talk]),
        (parts.chatbot.retry, retry, [parts.talk]),
        (parts.chatbot.edit, edit, [parts.talk]),
    ):
        replied = trigger(first, inputs, begun, queue=False, api_visibility="private").success(
            reply,
            [parts.talk, *parts.settings],
            [parts.talk, parts.chatbot],
            concurrency_limit=assistant.config.parallel,
            concurrency_id="chat",
            show_progress="minimal",
            api_visibility="private",
        )
        replies.append(replied)
        _kept(replied.then(idle, None, parts.box, queue=False, api_visibility="private"), parts)
    stopped = parts.box.stop(idle, None, parts.box, queue=False, cancels=replies, api_visibility="private")
    _kept(stopped, parts)


def _kept(event: Any, parts: Parts) -> None:
    """Keep the conversation in the browser, after an event."""

    def keep(talk: Talk, name: str, stored: Any) -> tuple[str, Any, Any]:
        name = name or secrets.token_hex(8)
        kept = shelves.read(stored)
        kept = shelves.put(kept, name, talk) if talk else kept
        return name, shelves.written(kept), gr.Dropdown(shelves.choices(kept), value=name if talk else None)

    read, write = [parts.talk, parts.name, parts.shelf], [parts.name, parts.shelf, parts.picker]
    event.then(keep, read, write, queue=False, show_progress="hidden", api_visibility="private")


def _shelf(page: gr.Blocks, parts: Parts, new: gr.Button, delete: gr.Button) -> None:
    """Open, begin and delete conversations."""

    def start(stored: Any) -> Any:
        return gr.Dropdown(shelves.choices(shelves.read(stored)), value=None)

    def begin() -> tuple[Any, ...]:
        return [], "", [], None

    def take(name: str | None, present: str, stored: Any) -> tuple[Any, ...]:
        # A list that is only passed with the tabulator reports a choice too: what is under way must outlive it.
        if not name or name == present:
            return gr.skip(), gr.skip(), gr.skip()
        talk = shelves.found(shelves.read(stored), name)
        return talk, name if talk else "", shown(talk)

    def drop(name: str, stored: Any) -> tuple[Any, ...]:
        kept = shelves.without(shelves.read(stored), name)
        return [], "", [], shelves.written(kept), gr.Dropdown(shelves.choices(kept), value=None)

    settings: dict[str, Any] = {"queue": False, "show_progress": "hidden", "api_visibility": "private"}
    said = [parts.talk, parts.name, parts.chatbot]
    page.load(start, parts.shelf, parts.picker, **settings)
    for fresh in (new.click, parts.chatbot.clear):
        fresh(begin, None, [*said, parts.picker], **settings)
    parts.picker.input(take, [parts.picker, parts.name, parts.shelf], said, **settings)
    delete.click(drop, [parts.name, parts.shelf], [*said, parts.shelf, parts.picker], **settings)
