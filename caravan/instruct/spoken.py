"""Conversations with their questions spoken: LLaSM-Audio-Instructions' recipe (arXiv 2308.15930, section 3.2).

What cannot be said aloud and what tells nothing is left out with its reason; the turns of the user are normalised for
speech and synthesised in many voices, faster or slower, higher or lower, some in noise; a share of the clips is written
down again by a recogniser, and left out where it hears something else. What was synthesised is kept on disk until the
source is finished: a run that was killed asks for nothing twice.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import replace

from caravan.core.cache import Cache
from caravan.core.errors import DataError, MediaError
from caravan.core.stage import StageContext
from caravan.instruct.aloud import say
from caravan.instruct.recognise import Listener
from caravan.instruct.rows import Dropped, Item
from caravan.instruct.speakable import uninformative, unspeakable
from caravan.instruct.synthesis import Request, drawn, finished, open_synthesiser
from caravan.recipe.speak import SpeakConfig
from caravan.records import AudioPart, Dialogue, Media, Message
from caravan.text.instructions import draw

AT_ONCE = 64
PARTS = 10_000
SEEDS = 1 << 31
Found = Item | DataError | Dropped


def spoken(items: Iterator[Found], config: SpeakConfig, ctx: StageContext, cache: Cache) -> Iterator[Found]:
    """The same items in the same order, their questions as clips; those that cannot be spoken as `Dropped`.

    Raises:
        EndpointError: the service does not answer; what it has said so far is kept.
    """
    speaker = _Speaker(config, ctx, cache)
    while batch := list(itertools.islice(items, AT_ONCE)):
        yield from speaker.batch(batch)


class _Speaker:
    def __init__(self, config: SpeakConfig, ctx: StageContext, cache: Cache) -> None:
        self.config, self.ctx, self.cache = config, ctx, cache
        self.synthesiser = open_synthesiser(config)
        self.listener = Listener(config.check) if config.check else None

    def batch(self, items: Sequence[Found]) -> Iterator[Found]:
        planned = [self._plan(item) for item in items]
        clips = self._clips([request for plan in planned if isinstance(plan, dict) for request in plan.values()])
        for item, plan in zip(items, planned, strict=True):
            if isinstance(plan, dict) and isinstance(item, Item):
                yield self._made(item, plan, clips)
            else:
                yield item if plan is None else Dropped(str(plan))

    def _plan(self, item: Found) -> dict[int, Request] | str | None:
        """What is to be said at which message; a reason to drop the item, or None to let it pass as it is."""
        if not isinstance(item, Item):
            return None
        dialogue = item.dialogue
        voices = self.synthesiser.voices(dialogue.language, item.split)
        if not voices:
            return "no voice in its language"
        if dialogue.audios or dialogue.images:
            return "has media already"
        if reason := _refused(dialogue, self.config):
            return reason
        chosen = [number for number, message in enumerate(dialogue.messages) if message.role == "user"]
        # A voice for each conversation, other speed and noise for each turn.
        voice = voices[draw(len(voices), "voice", self.ctx.seed, dialogue.id)]
        return {
            number: drawn(
                say(dialogue.messages[number].text, dialogue.language),
                dialogue.language,
                [voice],
                self.config,
                draw(SEEDS, "speech", self.ctx.seed, dialogue.id, number),
            )
            for number in chosen[: 1 if self.config.turns == "first" else None]
        }

    def _clips(self, requests: Sequence[Request]) -> dict[Request, bytes | str]:
        """A finished clip for each request, or why there is none; made once, and heard by the recogniser if drawn."""
        name = self.synthesiser.name
        found: dict[Request, bytes | str] = {
            request: kept for request in requests if (kept := self.cache.get("speech", name, request)) is not None
        }
        missing = [request for request in dict.fromkeys(requests) if request not in found]
        for place, clip in self.synthesiser.clips(missing):
            request = missing[place]
            try:
                if isinstance(clip, MediaError):
                    raise clip
                made = finished(clip, request)
            except MediaError as error:
                found[request] = f"no speech: {error.problem}"
                continue
            self.cache.put(made, "speech", name, request)
            found[request] = made
        return found if self.listener is None else {**found, **self._misheard(found)}

    def _misheard(self, clips: dict[Request, bytes | str]) -> dict[Request, str]:
        """Those of the clips drawn for the recogniser that it hears otherwise."""
        assert self.config.check
        assert self.listener
        share = self.config.check.share
        chosen = [
            (request, clip)
            for request, clip in clips.items()
            if isinstance(clip, bytes) and draw(PARTS, "check", request.seed, request.text) < share * PARTS
        ]
        unheard = [pair for pair in chosen if self.cache.get("heard", self.config.check.model, pair[0]) is None]
        for place, rate in self.listener.errors([(clip, said.text, said.language) for said, clip in unheard]):
            self.cache.put(repr(rate).encode(), "heard", self.config.check.model, unheard[place][0])
        return {
            request: "not understood"
            for request, _ in chosen
            if float(self.cache.get("heard", self.config.check.model, request) or b"0") > self.config.check.worst
        }

    def _made(self, item: Item, plan: dict[int, Request], clips: dict[Request, bytes | str]) -> Found:
        messages = list(item.dialogue.messages)
        for number, request in plan.items():
            clip = clips[request]
            if isinstance(clip, str):
                return Dropped(clip)
            messages[number] = Message(
                messages[number].role, (AudioPart(Media(bytes=clip), text=messages[number].text),)
            )
        return item._replace(dialogue=replace(item.dialogue, messages=tuple(messages), task="speech"))


def _refused(dialogue: Dialogue, config: SpeakConfig) -> str | None:
    """Why a conversation is left out: a question that cannot be said, or an answer that tells nothing."""
    question = ""
    for message in dialogue.messages:
        if message.role == "user":
            question = message.text
            if reason := unspeakable(question, dialogue.language, config.longest):
                return reason
        elif message.role == "assistant" and (reason := uninformative(message.text, question, dialogue.language)):
            return reason
    return None
