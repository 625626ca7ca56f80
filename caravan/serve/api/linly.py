"""Linly's one route, for its clients: POST /chat, a question in, an answer out."""

from __future__ import annotations

from typing import Annotated

from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse, Response
from pydantic import BeforeValidator, Field

from caravan.core.errors import CaravanError
from caravan.records import Message
from caravan.serve.api.base import Strict, Words
from caravan.serve.api.streams import unless_gone, whole
from caravan.serve.assistant import Assistant
from caravan.serve.errors import sentence, status_of
from caravan.serve.question import Question, Turn


class ChatQuestion(Strict):
    """The body of POST /chat: one question; as a list of one, too, as Linly takes it."""

    question: Annotated[
        Words,
        Field(min_length=1),
        BeforeValidator(
            lambda value: value[0] if isinstance(value, list) and len(value) == 1 else value,
            json_schema_input_type=Words | Annotated[list[Words], Field(min_length=1, max_length=1)],
        ),
    ]


def add(app: FastAPI, assistant: Assistant) -> None:
    """Offer POST /chat."""

    @app.post("/chat")
    async def chat(asked: ChatQuestion, request: Request) -> Response:
        question = Question((Turn.of(Message.of("user", asked.question)),))
        try:
            pieces = await unless_gone(request, whole(assistant.answer(question)))
        except CaravanError as error:
            status, _ = status_of(error)
            return JSONResponse({"answer": "", "status": "error", "error": sentence(error)}, status)
        return JSONResponse({"answer": "".join(piece.text for piece in pieces), "status": "success"})
