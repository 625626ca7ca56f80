"""The terminal chat: a turn, or a conversation, with the engine in this process."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import closing
from pathlib import Path

from caravan.core.errors import CaravanError, DataError
from caravan.core.log import console
from caravan.engine import Engine
from caravan.recipe.serve import ServeConfig
from caravan.records import AudioPart, ImagePart, Media, Message, Part
from caravan.serve.conversation import Renderer
from caravan.serve.model import find_model
from caravan.text.chat import load_tokenizer
from caravan.text.repetition import LoopWatch

HELP = "/audio FILE and /image FILE go with what you say next; /new starts again; /quit, or Ctrl-D, ends."


class TerminalChat:
    """A conversation with an engine; the same rendering as the server's, so the same answers."""

    def __init__(self, engine: Engine, renderer: Renderer, config: ServeConfig) -> None:
        self.engine, self.renderer, self.config = engine, renderer, config
        self.messages: list[Message] = []

    def say(self, *parts: Part | str) -> Iterator[str]:
        """Say something; yields the answer piece by piece, as far as it does not run away.

        A turn that fails is as if it had not been said.

        Raises:
            CaravanError: it cannot be answered.
        """
        turn = Message.of("user", *parts)
        prompt = self.renderer.prompt([*self.messages, turn])
        sampling = {"max_tokens": self.config.max_tokens, "temperature": self.config.temperature}
        answer, watch = "", LoopWatch(self.config.loop_characters)
        # Leaving the stream ends the engine's work on it.
        with closing(self.engine.stream(prompt.text, prompt.media, **sampling)) as pieces:
            for piece in pieces:
                answer += piece
                yield piece
                if watch.runs_away(piece):
                    break
        self.messages += [turn, Message.of("assistant", answer)]


def chat(
    model: Path,
    config: ServeConfig | None = None,
    *,
    text: str = "",
    audios: Sequence[Path] = (),
    images: Sequence[Path] = (),
    mmproj: Path | None = None,
) -> None:
    """Talk to a model: one turn if there is something to say, else a conversation.

    Raises:
        ServeError: a file is missing, or the engine does not start.
        MediaError: a clip or a picture cannot be decoded.
    """
    config = config or ServeConfig()
    files = find_model(model, config.quantisation, mmproj, config.adapter)
    threads = config.threads or os.cpu_count() or 1
    with Engine(files.gguf, files.mmproj, context=config.context, threads=threads, adapter=files.adapter) as engine:
        talk = TerminalChat(engine, Renderer(load_tokenizer(files.tokenizer), engine.senses, config.limits), config)
        media: list[Part] = [
            *(AudioPart(_media(path)) for path in audios),
            *(ImagePart(_media(path)) for path in images),
        ]
        if text or media:
            _print(talk.say(*media, text))
        else:
            _converse(talk, files.name)


def _converse(talk: TerminalChat, name: str) -> None:
    console.print(f"{name}. {HELP}", highlight=False)
    waiting: list[Part] = []
    while (line := _read()) is not None:
        command, _, rest = line.partition(" ")
        try:
            match command:
                case "/quit":
                    return
                case "/new":
                    talk.messages.clear()
                    waiting.clear()
                case "/audio":
                    waiting.append(AudioPart(_media(Path(rest.strip()).expanduser())))
                case "/image":
                    waiting.append(ImagePart(_media(Path(rest.strip()).expanduser())))
                case _ if line.strip() or waiting:
                    said, waiting = [*waiting, line], []
                    _print(talk.say(*said))
        except CaravanError as error:
            console.print(f"[red]error:[/] {error}", highlight=False)


def _read() -> str | None:
    try:
        return input("> ")
    except EOFError:
        return None


def _print(pieces: Iterator[str]) -> None:
    for piece in pieces:
        sys.stdout.write(piece)
        sys.stdout.flush()
    sys.stdout.write("\n")


def _media(path: Path) -> Media:
    """A file's bytes, so that a name that is wrong is said at once."""
    try:
        return Media(bytes=path.read_bytes())
    except OSError as error:
        raise DataError(
            "the file cannot be read", where=str(path), expected="a clip or a picture", got=error.strerror
        ) from error
