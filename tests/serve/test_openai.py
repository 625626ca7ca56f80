"""OpenAI's own client against the whole server: every route, every field that is offered."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import openai
import pytest
import torch
from transformers import AutoTokenizer

from caravan.engine import Engine

Make = Callable[..., bytes]
TEXTS = ["How many months?", "一年有几个月？"]


def say(*content: Any, **more: Any) -> dict[str, Any]:
    parts = [{"type": "text", "text": part} if isinstance(part, str) else part for part in content]
    return {"model": "tiny", "messages": [{"role": "user", "content": parts}], "max_tokens": 8, **more}


def answer(client: openai.OpenAI, *content: Any, **more: Any) -> str:
    return client.chat.completions.create(**say(*content, **more)).choices[0].message.content or ""


def test_the_same_answer_whole_and_streamed(client: openai.OpenAI, clip: Any, picture: Any) -> None:
    turn = say("what", picture, clip, picture, "?", cache_prompt=False)
    extra = {"extra_body": {"cache_prompt": turn.pop("cache_prompt")}}
    whole = client.chat.completions.create(**turn, **extra)
    assert whole.usage
    assert whole.usage.completion_tokens == 8
    assert whole.usage.prompt_tokens > 150  # the clip alone
    assert whole.choices[0].finish_reason == "length"
    chunks = list(client.chat.completions.create(stream=True, stream_options={"include_usage": True}, **turn, **extra))
    pieces = [chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices]
    assert "".join(pieces) == whole.choices[0].message.content
    assert len(pieces) > 3
    assert chunks[-1].usage == whole.usage
    assert chunks[-2].choices[0].finish_reason == "length"


def test_sampling_is_passed_on(client: openai.OpenAI) -> None:
    def drawn(seed: int, **more: Any) -> str:
        return answer(client, "hello", temperature=1.5, seed=seed, **more)

    assert drawn(1) == drawn(1)
    assert len({drawn(seed) for seed in range(4)}) > 1
    # Nothing but the likeliest token is left of the distribution: greedy.
    assert drawn(1, top_p=0.0) == drawn(2, top_p=0.0)
    whole = drawn(1)
    assert drawn(1, stop=[whole[2]]) == whole[: whole.index(whole[2])]


def test_a_bias_forbids_and_forces(client: openai.OpenAI, exported: Path) -> None:
    letter = AutoTokenizer.from_pretrained(exported).convert_tokens_to_ids("a")
    assert answer(client, "hello", logit_bias={str(letter): 100}) == "a" * 8
    repeated = answer(
        client, "hello", logit_bias={str(letter): 25}, frequency_penalty=2, presence_penalty=2, max_tokens=32
    )
    assert repeated.startswith("a")
    assert repeated != "a" * 32


def test_media_matter(client: openai.OpenAI, clip: Any, picture: Any) -> None:
    assert len({answer(client, "x"), answer(client, "x", picture), answer(client, "x", clip)}) == 3


def test_logprobs(client: openai.OpenAI, exported: Path) -> None:
    def told(**more: Any) -> list[Any]:
        asked = say("hello", logprobs=True, max_tokens=24, temperature=1, seed=5, **more)
        choice = client.chat.completions.create(**asked).choices[0]
        assert choice.logprobs
        tokens = choice.logprobs.content or []
        text = b"".join(bytes(token.bytes or ()) for token in tokens).decode("utf-8", "replace")
        assert text.rstrip("\ufffd") == choice.message.content
        return tokens

    tokens = told(top_logprobs=20)
    known = [token for token in tokens if token.logprob > -9999]
    assert len(known) > 5
    for token in known:
        likeliest = [other.logprob for other in token.top_logprobs]
        assert len(likeliest) == 20
        assert likeliest == sorted(likeliest, reverse=True)
        # The token that was taken is among them, or less likely than all.
        assert token.logprob in likeliest or token.logprob <= min(likeliest)
    assert [len(token.top_logprobs) for token in told()] == [0] * len(tokens)
    streamed = client.chat.completions.create(
        **say("hello", logprobs=True, max_tokens=24, temperature=1, seed=5), stream=True
    )
    events = [chunk.choices[0] for chunk in streamed]
    again = [token.logprob for event in events if event.logprobs for token in event.logprobs.content or ()]
    assert again == pytest.approx([token.logprob for token in tokens], abs=1e-4)


SCHEMA = {
    "type": "object",
    "properties": {"name": {"type": "string", "maxLength": 4}, "age": {"type": "integer", "minimum": 0, "maximum": 99}},
    "required": ["name", "age"],
    "additionalProperties": False,
}


@pytest.mark.parametrize("seed", range(3))
def test_answers_follow_a_schema(client: openai.OpenAI, seed: int) -> None:
    wanted = {"type": "json_schema", "json_schema": {"name": "person", "schema": SCHEMA, "strict": True}}
    sampling = {"temperature": 1, "seed": seed, "max_tokens": 200}
    person = json.loads(answer(client, "who?", response_format=wanted, **sampling))
    assert person.keys() == {"name", "age"}
    assert len(person["name"]) <= 4
    assert 0 <= person["age"] <= 99
    found = client.chat.completions.create(**say("who?", response_format={"type": "json_object"}, **sampling)).choices[
        0
    ]
    assert found.finish_reason == "length" or isinstance(json.loads(found.message.content or ""), dict)


def function(name: str) -> Any:
    return {"type": "function", "function": {"name": name, "description": "says", "parameters": SCHEMA}}


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])
def test_functions_are_called(client: openai.OpenAI, stream: bool) -> None:
    tools = {"tools": [function("greet"), function("part")]}
    sampling = {"temperature": 1, "seed": 3, "max_tokens": 200, "parallel_tool_calls": False}
    turn = say("hello", tool_choice="required", **tools, **sampling)
    if stream:
        with client.chat.completions.stream(**turn) as events:
            choice = events.get_final_completion().choices[0]
    else:
        choice = client.chat.completions.create(**turn).choices[0]
    assert choice.finish_reason == "tool_calls"
    (call,) = choice.message.tool_calls or ()
    assert call.type == "function"
    assert call.function.name in ("greet", "part")
    assert json.loads(call.function.arguments).keys() == {"name", "age"}
    one = {"type": "function", "function": {"name": "part"}}
    chosen = client.chat.completions.create(**say("hello", tool_choice=one, **tools, **sampling)).choices[0].message
    assert [call.function.name for call in chosen.tool_calls or ()] == ["part"]  # type: ignore[union-attr]
    history = [
        *turn["messages"],
        chosen.model_dump(exclude_none=True),
        {"role": "tool", "tool_call_id": (chosen.tool_calls or [])[0].id, "content": "done"},
    ]
    after = client.chat.completions.create(model="tiny", messages=history, max_tokens=4, **tools)  # type: ignore[call-overload]
    assert after.usage.completion_tokens == 4


def test_completions(client: openai.OpenAI, exported: Path) -> None:
    tokenizer = AutoTokenizer.from_pretrained(exported)
    prompt = "<|user|>hello<|end|><|assistant|>"
    sampling = {"model": "tiny", "max_tokens": 6, "extra_body": {"cache_prompt": False}}
    text = client.completions.create(prompt=prompt, **sampling)
    ids = client.completions.create(prompt=tokenizer(prompt)["input_ids"], **sampling)
    assert (
        text.choices[0].text
        == ids.choices[0].text
        == answer(client, "hello", max_tokens=6, extra_body={"cache_prompt": False})
    )
    several = client.completions.create(prompt=[prompt, "a"], echo=True, logprobs=2, **sampling)
    assert [choice.text.startswith(start) for choice, start in zip(several.choices, (prompt, "a"), strict=True)] == [
        True
    ] * 2
    assert several.usage
    assert several.usage.completion_tokens == 12
    logprobs = several.choices[1].logprobs
    assert logprobs
    assert len(logprobs.tokens or ()) == len(logprobs.token_logprobs or ()) == len(logprobs.text_offset or ())
    streamed = client.completions.create(prompt=prompt, stream=True, **sampling)
    assert "".join(chunk.choices[0].text for chunk in streamed) == text.choices[0].text
    with pytest.raises(openai.BadRequestError, match="placeholders"):
        client.completions.create(prompt="<|audio_pad|>x", **sampling)


def test_embeddings(client: openai.OpenAI, exported: Path) -> None:
    ids = AutoTokenizer.from_pretrained(exported)(TEXTS[1])["input_ids"]
    found = client.embeddings.create(model="tiny", input=TEXTS)  # base64, which is this client's default
    assert [row.index for row in found.data] == [0, 1]
    again = client.embeddings.create(model="tiny", input=[ids], encoding_format="float")
    np.testing.assert_allclose(again.data[0].embedding, found.data[1].embedding, atol=1e-4)
    assert np.linalg.norm(again.data[0].embedding) == pytest.approx(1, abs=1e-3)
    assert again.usage.total_tokens == len(ids)
    with pytest.raises(openai.BadRequestError, match=r"input\[0\].*at most 1024 tokens"):
        client.embeddings.create(model="tiny", input="ab " * 700)


def test_embeddings_are_the_mean_of_the_last_hidden_states(exported: Path) -> None:
    from caravan.models.fused import CaravanForConditionalGeneration

    folder = exported.parent.parent / "sft"
    tokenizer, model = AutoTokenizer.from_pretrained(folder), CaravanForConditionalGeneration.from_pretrained(folder)
    with Engine(exported / "model-f16.gguf") as engine:
        headers = {"Authorization": f"Bearer {engine.key}"}
        reply = httpx.post(f"{engine.address}/v1/embeddings", json={"input": TEXTS}, headers=headers, trust_env=False)
    for text, row in zip(TEXTS, reply.json()["data"], strict=True):
        ids = torch.tensor([tokenizer(text)["input_ids"]])
        with torch.no_grad():
            mean = model.float().eval()(input_ids=ids, output_hidden_states=True).hidden_states[-1][0].mean(0)
        np.testing.assert_allclose(row["embedding"], mean / mean.norm(), atol=2e-3)


def test_transcriptions(client: openai.OpenAI, wav: Make, clip: Any) -> None:
    def asked(**more: Any) -> Any:
        return client.audio.transcriptions.create(model="tiny", file=("a.wav", wav()), **more)

    from caravan.text.instructions import INSTRUCTIONS

    (text,) = {asked(language="de").text, asked(language="de", response_format="verbose_json").text}
    assert text == answer(client, clip, INSTRUCTIONS["transcribe"]["de"][0], max_tokens=None).strip()
    assert asked(language="de", response_format="text") == f"{text}\n"
    verbose = asked(language="de", response_format="verbose_json")
    assert verbose.duration == pytest.approx(1.5)
    assert [(one.start, one.end, one.text) for one in verbose.segments] == [(0, 1.5, text)]
    assert "00:00:00,000 --> 00:00:01,500" in asked(response_format="srt")
    events = list(asked(language="de", stream=True))
    assert [event.type for event in events][-1] == "transcript.text.done"
    assert events[-1].text == text
    assert "".join(event.delta for event in events[:-1]).strip() == text
    with pytest.raises(openai.BadRequestError, match="no instruction in this language"):
        asked(language="xx")
    assert asked(timestamp_granularities=["segment"], response_format="verbose_json").segments
    with pytest.raises(openai.BadRequestError, match=r"timestamp_granularities\[\]\[0\]: Input should be 'segment'"):
        asked(timestamp_granularities=["word"], response_format="verbose_json")
    with pytest.raises(openai.BadRequestError, match=r"include\[\]: there is no such field"):
        asked(include=["logprobs"])
    with pytest.raises(openai.BadRequestError, match="cannot be decoded"):
        client.audio.transcriptions.create(model="tiny", file=("../../a.wav", b"no sound"))


def test_models(client: openai.OpenAI) -> None:
    assert [model.id for model in client.models.list()] == ["tiny"]
    assert client.models.retrieve("tiny").owned_by == "caravan"
    with pytest.raises(openai.NotFoundError, match="no such model"):
        client.chat.completions.create(**say("x") | {"model": "gpt-4o"})


def test_many_clients_at_once_get_what_each_gets_alone(client: openai.OpenAI) -> None:
    words = [f"{number} months" for number in range(12)]
    alone = {word: answer(client, word, max_tokens=4) for word in words}
    with ThreadPoolExecutor(12) as pool:
        together = dict(zip(words, pool.map(lambda word: answer(client, word, max_tokens=4), words), strict=True))
    # Requests that share a batch are rounded differently: a near tie may fall the other way.
    assert sum(alone[word] == together[word] for word in words) >= 10


def test_what_is_known_of_a_conversation_is_not_read_again(client: openai.OpenAI) -> None:
    def read(**more: Any) -> tuple[int, int]:
        usage = client.chat.completions.create(**say("How many months? " * 20), **more).usage
        assert usage
        assert usage.prompt_tokens_details
        return usage.prompt_tokens, usage.prompt_tokens_details.cached_tokens or 0

    whole, none = read()
    assert none == 0
    known = {"extra_body": {"cache_prompt": True}}
    read(**known)
    again, cached = read(**known)
    assert again == whole > cached > whole / 2


def test_the_asynchronous_client(server: Any) -> None:
    async def ask() -> str:
        http = httpx.AsyncClient(trust_env=False)
        async with openai.AsyncOpenAI(base_url=f"{server.url}/v1", api_key="none", http_client=http) as client:
            chunks = await client.chat.completions.create(**say("hello"), stream=True)
            return "".join([chunk.choices[0].delta.content or "" async for chunk in chunks])

    assert asyncio.run(ask())


def test_linlys_clients(http: httpx.Client, client: openai.OpenAI) -> None:
    expected = answer(client, "hello", max_tokens=None)
    for question in ("hello", ["hello"]):
        assert http.post("/chat", json={"question": question}).json() == {"answer": expected, "status": "success"}
    refused = http.post("/chat", json={"question": "<|end|>"})
    assert refused.status_code == 400
    assert refused.json()["status"] == "error"
