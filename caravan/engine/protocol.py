"""What the engine is asked and what it answers: bodies of llama.cpp's `/completion`, its events and its errors."""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from caravan.core.errors import PlaceholderError, ServeError

CUT = "\ufffd"  # what an answer that stops inside a character ends with; it is left out, streamed or not
# One of these stands in a prompt for each medium: the pad tokens of the chat template.
PLACEHOLDER = re.compile(r"<\|(?:audio|image)_pad\|>")
PENALTY_TOKENS = 1 << 16
RANDOM_SEED = 2**32 - 1  # llama.cpp reads this value as "draw one"


class EngineRequestError(ServeError):
    """The engine is well, but this request cannot be answered: too long, or media that it cannot decode."""


@dataclass(frozen=True, slots=True)
class Completion:
    """An answer.

    Attributes:
        text: what was written, special tokens left out.
        tokens: its ids, the end token included where there is one.
        finish_reason: "stop" (end token or stop string) or "length" (max_tokens or a full context).
        prompt_tokens: length of the prompt, media included.
        completion_tokens: how many tokens were generated.
    """

    text: str
    tokens: tuple[int, ...]
    finish_reason: str
    prompt_tokens: int
    completion_tokens: int


def completion_request(
    prompt: str | Sequence[int],
    media: Sequence[bytes],
    marker: str,
    *,
    max_tokens: int,
    temperature: float = 0.0,
    top_p: float = 1.0,
    presence_penalty: float = 0.0,
    frequency_penalty: float = 0.0,
    logit_bias: Mapping[int, float] | None = None,
    stop: Sequence[str] = (),
    seed: int | None = None,
    grammar: str = "",
    logprobs: int | None = None,
    stream: bool = False,
    cache_prompt: bool = False,
) -> dict[str, Any]:
    """The body of a request to llama.cpp's `/completion`.

    Args:
        prompt: rendered text with one pad token for each medium, or ids.
        media: WAV (16 kHz mono) and PNG bytes, in the order of their pad tokens.
        marker: what this engine reads as "a medium goes here" (`Engine.marker`).
        grammar: what answers are held to. One that llama.cpp cannot compile is ignored by it: check it before.
        logprobs: how many of the likeliest tokens to tell of at each step, besides the one that was taken.
        cache_prompt: start from what the slot still knows of an earlier prompt. Faster in a conversation; rounding, and
            so a greedy answer at a near tie, then depends on what came before.

    Raises:
        PlaceholderError: more or fewer pad tokens than media, or nothing after the last.
    """
    return {
        "prompt": _prompt(prompt, media, marker) if isinstance(prompt, str) else list(prompt),
        "n_predict": max_tokens,
        "temperature": temperature,
        "top_p": top_p,
        "presence_penalty": presence_penalty,
        "frequency_penalty": frequency_penalty,
        "repeat_last_n": min(max_tokens, PENALTY_TOKENS),  # penalties look at the whole answer
        "logit_bias": [[token, bias] for token, bias in (logit_bias or {}).items()],
        # llama.cpp's further cuts are on by default: off, so that temperature and top_p mean what OpenAI's mean.
        "top_k": 0,
        "min_p": 0.0,
        "seed": RANDOM_SEED if seed is None else seed % RANDOM_SEED,
        "stop": [text for text in stop if text],
        "grammar": grammar,
        "n_probs": 0 if logprobs is None else max(logprobs, 1),
        "stream": stream,
        "cache_prompt": cache_prompt,
        "return_tokens": True,
    }


def _prompt(prompt: str, media: Sequence[bytes], marker: str) -> str | dict[str, Any]:
    found = PLACEHOLDER.findall(prompt)
    if len(found) != len(media):
        raise PlaceholderError(
            "placeholders and media do not match",
            expected=f"{len(found)} media for {len(found)} placeholders in the prompt",
            got=f"{len(media)} media",
            fix="give one clip or picture for each placeholder",
        )
    if not found:
        return prompt
    if prompt.endswith(found[-1]):
        # llama.cpp aborts the whole process: it starts to generate from a text token.
        raise PlaceholderError(
            "the prompt ends with a medium", expected="text after it, such as the assistant's turn", got=found[-1]
        )
    encoded = [base64.b64encode(item).decode("ascii") for item in media]
    return {"prompt_string": PLACEHOLDER.sub(lambda _: marker, prompt), "multimodal_data": encoded}


def read_completion(reply: dict[str, Any]) -> Completion:
    """The answer in a reply of `/completion`, or in the last event of a streamed one (whose text is then empty)."""
    return Completion(
        text=reply["content"].rstrip(CUT),
        tokens=tuple(reply["tokens"]),
        finish_reason="length" if reply["stop_type"] == "limit" else "stop",
        prompt_tokens=reply["tokens_evaluated"],
        completion_tokens=reply["tokens_predicted"],
    )


def engine_error(status: int, body: bytes) -> ServeError:
    """The error in a reply whose status is not 200: EngineRequestError if the request is at fault."""
    try:
        error = json.loads(body)["error"]
    except (ValueError, KeyError, TypeError):
        error = {"message": body[:200].decode("utf-8", "replace")}
    if error.get("type") == "exceed_context_size_error":
        return EngineRequestError(
            "the prompt does not fit into the context",
            expected=f"at most {error['n_ctx']} tokens",
            got=f"{error['n_prompt_tokens']} tokens",
            fix="shorten the conversation, or serve with a larger context",
        )
    kind = EngineRequestError if 400 <= status < 500 else ServeError
    return kind("the engine refused a request", got=f"{status}: {error['message']}", fix="correct the request")


class EventReader:
    """Server-sent events from chunks of bytes that may end anywhere; split at newline bytes, never at U+2028."""

    def __init__(self) -> None:
        self._rest = b""
        self._held = ""

    def feed(self, chunk: bytes) -> list[dict[str, Any]]:
        """Events completed by this chunk.

        Raises:
            ServeError: an event says that generation failed.
        """
        *lines, self._rest = (self._rest + chunk).split(b"\n")
        events = []
        for line in lines:
            field, _, value = line.partition(b":")
            if field == b"error":
                raise engine_error(500, b'{"error":' + value + b"}")
            if field == b"data" and value.strip() != b"[DONE]":
                event = json.loads(value)
                if "error" in event:
                    raise engine_error(int(event["error"].get("code", 500)), value)
                if "content" in event:
                    text = self._held + event["content"]
                    event["content"] = text.rstrip(CUT)
                    self._held = text[len(event["content"]) :]
                events.append(event)
        return events
