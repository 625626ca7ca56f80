from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from pathlib import Path
from typing import Any

import pytest

from caravan.recipe.serve import ServeConfig
from caravan.records import LANGUAGES, AudioPart, ImagePart, Media, Message
from caravan.serve.assistant import Assistant
from caravan.serve.errors import EngineDownError
from caravan.serve.question import Piece, Question, Sampling, Turn
from caravan.serve.web import talk
from caravan.serve.web.chat import photographed
from caravan.serve.web.talk import NAMES, NOT_ANSWERED, WISHES, Said


class Two:
    """Answers in two pieces, or not at all."""

    senses: frozenset[str] = frozenset()
    context = 100

    def check(self) -> None:
        pass

    def figures(self) -> dict[str, Any]:
        return {}

    async def answer(self, question: Question) -> AsyncGenerator[Piece, None]:
        if question.turns[-1].text == "no":
            raise EngineDownError("it is tired")
        for text in ("a ", "cat"):
            yield Piece(text)


def test_turns_that_were_not_answered_are_left_out(tmp_path: Any) -> None:
    (tmp_path / "a.png").write_bytes(b"x")
    (tmp_path / "b.wav").write_bytes(b"x")
    files = str(tmp_path / "a.png"), str(tmp_path / "b.wav")
    said = [
        Said("user", "what", files[:1]), Said("assistant", "a cat"),
        Said("user", "corrupt"), Said("assistant", "no", failed=True),
        Said("user", "stopped"), Said("user", "and", (*files[1:], "gone.png")),
    ]  # fmt: skip
    wanted = talk.question(said, "fr", Sampling(max_tokens=3))
    assert wanted.sampling.max_tokens == 3
    assert wanted.turns == tuple(
        map(
            Turn.of,
            [
                Message.of("system", "Réponds en français."),
                Message.of("user", ImagePart(Media(path=files[0])), "what"),
                Message.of("assistant", "a cat"),
                Message.of("user", AudioPart(Media(path=files[1])), "and"),
            ],
        )
    )
    assert talk.question(said).turns[0].role == "user"
    assert WISHES.keys() == NAMES.keys() == {*LANGUAGES}


def test_it_is_shown_with_its_files_and_its_errors(tmp_path: Any) -> None:
    (tmp_path / "a.png").write_bytes(b"x")
    file = str(tmp_path / "a.png")
    question, answer = talk.shown([Said("user", "", (file, "/x/gone.wav")), Said("assistant", "\tno", failed=True)])
    assert question["content"] == [{"path": file}, "📎 gone.wav (no longer kept)"]
    assert answer["content"] == [{"type": "text", "text": "\tno"}]
    assert answer["metadata"] == {"title": NOT_ANSWERED}


@pytest.mark.parametrize(("words", "last"), [("x", Said("assistant", "a cat")), ("no", None)])
def test_an_answer_or_an_error_comes_last(words: str, last: Said | None) -> None:
    async def run() -> list[list[Said]]:
        assistant = Assistant("two", Two(), ServeConfig())  # type: ignore[arg-type]
        return [grown async for grown in talk.answered(assistant, [Said("user", words)])]

    *_, grown = asyncio.run(run())
    assert grown[0] == Said("user", words)
    assert grown[1] == last if last else grown[1].failed and "it is tired" in grown[1].text


def test_asked_again_and_otherwise() -> None:
    said = [Said("user", "a", ("f",)), Said("assistant", "b"), Said("user", "c"), Said("assistant", "d")]
    assert talk.again(said, 3) == talk.again(said, 2) == said[:3]
    assert talk.again(said, 1) == said[:1]
    assert talk.again([], 5) == []
    assert talk.edited(said, 0, "A") == [Said("user", "A", ("f",))]
    assert talk.edited(said, 2, "C") == [*said[:2], Said("user", "C")]
    assert talk.edited(said, 1, "no") == talk.edited(said, 9, "no") == said
    assert (talk.place(3), talk.place((3, 1))) == (3, 3)


def test_a_photograph_joins_what_is_in_the_box() -> None:
    assert photographed("c.webp", {"text": "see", "files": ["a"]}) == (None, {"text": "see", "files": ["a", "c.webp"]})


def test_files_are_what_their_names_say() -> None:
    names = ("a.png", "a.JPG", "a.webp", "a.wav", "a.mp3", "recording")
    kinds = [talk.file_part(Path(name)).type for name in names]
    assert kinds == ["image", "image", "image", "audio", "audio", "audio"]
