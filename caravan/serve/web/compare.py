"""Two models side by side, blind: who answers on which side is drawn anew each time, and told after the choice."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import gradio as gr

from caravan.core.errors import MediaError
from caravan.serve.assistant import Assistant
from caravan.serve.errors import sentence
from caravan.serve.web.chat import busy, idle, question_box
from caravan.serve.web.preferences import NEITHER, TIE, Preferences
from caravan.serve.web.talk import Talk, answered, asked, shown

CHOICES = {"Left is better": "left", "Both are good": TIE, "Neither is good": NEITHER, "Right is better": "right"}
WAITING = "Ask both the same. Which model stands on which side is told when you have chosen."
DRAW_SECONDS = 0.1
Talks = tuple[Talk, Talk]
EMPTY: Talks = ([], [])


def compare_tab(first: Assistant, second: Assistant) -> None:
    """Add the comparison of two assistants to a page."""
    pair, config = (first, second), first.config
    names = (first.name, second.name if second.name != first.name else f"{second.name} (2)")
    folder = Path(config.preferences) if config.preferences else None
    preferences = Preferences(names, folder, config.preferences_content)
    talks, sides = gr.State(EMPTY), gr.State((0, 1))
    with gr.Row():
        left, right = (
            gr.Chatbot(label=side, height="45vh", layout="bubble", buttons=["copy"], min_width=300)
            for side in ("Left", "Right")
        )
    box = question_box(first.backend.senses & second.backend.senses)
    with gr.Row():
        buttons = [gr.Button(words, size="sm", min_width=120, interactive=False) for words in CHOICES]
    verdict = gr.Markdown(WAITING)
    new = gr.Button("New comparison", size="sm")

    def ask(turn: dict[str, Any], talks: Talks, sides: tuple[int, int]) -> tuple[Any, ...]:
        try:
            said = asked(turn)
        except MediaError as error:
            raise gr.Error(sentence(error)) from error
        if said is None:
            return gr.skip(), talks, sides, gr.skip(), gr.skip()
        if not talks[0]:
            sides = (0, 1) if secrets.randbelow(2) else (1, 0)
        talks = ([*talks[0], said], [*talks[1], said])
        return busy(), talks, sides, *map(shown, talks)

    async def reply(talks: Talks, sides: tuple[int, int]) -> AsyncIterator[tuple[Any, ...]]:
        if talks[0] and talks[0][-1].role == "user":
            async for grown in both(pair[sides[0]], pair[sides[1]], talks):
                yield grown, *map(shown, grown)

    def settled(talks: Talks) -> list[Any]:
        whole = all(talk and talk[-1].role == "assistant" and not talk[-1].failed for talk in talks)
        return [idle(), *(gr.Button(interactive=whole) for _ in CHOICES)]

    def choose(words: str, talks: Talks, sides: tuple[int, int]) -> list[Any]:
        placed = [names[side] for side in sides]
        preferred = {"left": placed[0], "right": placed[1]}.get(CHOICES[words], CHOICES[words])
        told = [[{"role": one.role, "text": one.text} for one in talk] for talk in talks]
        preferences.add(placed, preferred, told)
        words = f"Left was **{placed[0]}**, right was **{placed[1]}**.\n\n{preferences.table()}"
        return [words, gr.MultimodalTextbox(interactive=False), *(gr.Button(interactive=False) for _ in CHOICES)]

    def begin() -> list[Any]:
        return [EMPTY, [], [], WAITING, idle(), *(gr.Button(interactive=False) for _ in CHOICES)]

    quick: dict[str, Any] = {"queue": False, "api_visibility": "private"}
    shown_both = [left, right]
    replied = box.submit(ask, [box, talks, sides], [box, talks, sides, *shown_both], **quick).success(
        reply, [talks, sides], [talks, *shown_both], concurrency_limit=config.parallel, api_visibility="private"
    )
    replied.then(settled, talks, [box, *buttons], **quick)
    box.stop(settled, talks, [box, *buttons], cancels=[replied], **quick)
    for button in buttons:
        button.click(choose, [button, talks, sides], [verdict, box, *buttons], **quick)
    new.click(begin, None, [talks, *shown_both, verdict, box, *buttons], cancels=[replied], **quick)


async def both(left: Assistant, right: Assistant, talks: Talks) -> AsyncIterator[Talks]:
    """Two conversations with their answers, as they grow side by side."""
    grown = [*talks]

    async def grow(side: int, assistant: Assistant) -> None:
        async for talk in answered(assistant, talks[side]):
            grown[side] = talk

    tasks = {asyncio.create_task(grow(side, assistant)) for side, assistant in enumerate((left, right))}
    try:
        waiting = tasks
        while waiting:
            done, waiting = await asyncio.wait(waiting, timeout=DRAW_SECONDS)
            for task in done:
                task.result()
            yield grown[0], grown[1]
    finally:
        for task in tasks:
            task.cancel()
