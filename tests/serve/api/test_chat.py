from __future__ import annotations

import base64
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from caravan.records import AudioPart, ImagePart, Media, Message, TextPart
from caravan.serve.api.base import Label, validation_body
from caravan.serve.api.chat import ChatRequest, Chunks, completion, to_question
from caravan.serve.api.messages import elsewhere
from caravan.serve.errors import RequestError
from caravan.serve.question import Call, Piece, Sampling, Token, Tools, Turn

HELLO = {"messages": [{"role": "user", "content": "hello"}]}


def parts(*content: Any) -> dict[str, Any]:
    return {"messages": [{"role": "user", "content": list(content)}]}


def refused(body: Any) -> dict[str, Any]:
    with pytest.raises(ValidationError) as caught:
        ChatRequest.model_validate(body)
    faults = [{**fault, "loc": ("body", *fault["loc"])} for fault in caught.value.errors()]
    return validation_body(faults)["error"]


def test_parts_become_records_in_their_order() -> None:
    sound, pixels = base64.b64encode(b"sound").decode(), base64.b64encode(b"pixels").decode()
    request = ChatRequest.model_validate(
        parts(
            {"type": "image_url", "image_url": {"url": f"data:image/jpeg;base64,{pixels}", "detail": "high"}},
            {"type": "text", "text": "and"},
            {"type": "input_audio", "input_audio": {"data": sound[:4] + "\n" + sound[4:], "format": "mp3"}},
        )
    )
    (turn,) = to_question(request).turns
    image, text, audio = turn.content
    assert isinstance(image, ImagePart)
    assert image.image.bytes == b"pixels"
    assert text == TextPart("and")
    assert isinstance(audio, AudioPart)
    assert audio.audio.bytes == b"sound"


def test_developer_is_system() -> None:
    body = {"messages": [{"role": "developer", "content": "be brief"}, *HELLO["messages"]]}
    assert to_question(ChatRequest.model_validate(body)).turns[0] == Turn.of(Message.of("system", "be brief"))


def test_what_clients_send_by_habit_is_taken() -> None:
    habit = {
        "model": "tiny", "n": 1, "user": "me", "logprobs": False, "presence_penalty": 0, "frequency_penalty": 0.0,
        "tools": [], "tool_choice": "auto", "response_format": {"type": "text"}, "stream_options": None,
        "logit_bias": {}, "metadata": {"a": "b"}, "store": True, "parallel_tool_calls": True, "stop": "\n",
        "temperature": 1, "seed": 2**40,
    }  # fmt: skip
    answered = {"role": "assistant", "content": "hi", "refusal": None, "tool_calls": None, "annotations": []}
    request = ChatRequest.model_validate(HELLO | habit | {"messages": [*HELLO["messages"], answered]})
    assert request.stop == ["\n"]


@pytest.mark.parametrize(
    ("change", "param"),
    [
        ({"n": 2}, "n"),
        ({"top_logprobs": 5}, None),
        ({"logprobs": True, "top_logprobs": 21}, "top_logprobs"),
        ({"presence_penalty": 2.5}, "presence_penalty"),
        ({"logit_bias": {"x": 1}}, "logit_bias.x"),
        ({"tools": [{"type": "function"}]}, "tools[0].function"),
        (
            {"tools": [{"type": "function", "function": {"name": "f", "parameters": {"x": float("nan")}}}]},
            "tools[0].function.parameters",
        ),
        ({"tools": [{"type": "function", "function": {"name": "f"}}] * 2}, None),
        ({"tool_choice": "required"}, None),
        ({"tool_choice": {"type": "function", "function": {"name": "f"}}}, None),
        ({"response_format": {"type": "json_schema"}}, "response_format.json_schema"),
        ({"response_format": {"type": "xml"}}, "response_format"),
        ({"max_tokens": 0}, "max_tokens"),
        ({"max_tokens": "5"}, "max_tokens"),
        ({"temperature": -1}, "temperature"),
        ({"temperature": float("nan")}, "temperature"),
        ({"top_p": 1.5}, "top_p"),
        ({"stop": [""]}, "stop[0]"),
        ({"top_k": 5}, "top_k"),
        ({"messages": []}, "messages"),
        ({"messages": None}, "messages"),
        ({"messages": [{"role": "tool", "content": "x"}]}, "messages[0].tool_call_id"),
        ({"messages": [{"role": "function", "content": "x"}]}, "messages[0]"),
        ({"messages": [{"role": "assistant"}]}, "messages[0]"),
        ({"messages": [{"role": "user", "content": None}]}, "messages[0].content"),
        ({"messages": [{"role": "user", "content": "\ud800"}]}, "messages[0].content[0].text"),
        (parts({"type": "video_url"}), "messages[0].content[0]"),
        (parts({"type": "text"}), "messages[0].content[0].text"),
        (parts({"type": "image_url", "image_url": "x"}), "messages[0].content[0].image_url"),
    ],
)
def test_what_is_not_offered_is_refused_by_name(change: dict[str, Any], param: str) -> None:
    error = refused(HELLO | change)
    assert error["param"] == param
    assert error["type"] == "invalid_request_error"
    json.dumps(error, allow_nan=False).encode()


def picture(url: str) -> dict[str, Any]:
    return parts({"type": "text", "text": "see"}, {"type": "image_url", "image_url": {"url": url}})


@pytest.mark.parametrize("url", ["http://127.0.0.1:9/x.png", "https://example.org/x.png", "file:///etc/passwd", ""])
def test_pictures_from_elsewhere_are_named_and_taken_from_what_was_fetched(url: str) -> None:
    request = ChatRequest.model_validate(picture(url))
    assert elsewhere(request.messages) == {url: "messages[0].content[1].image_url.url"}
    part = to_question(request, {url: b"pixels"}).turns[0].content[1]
    assert isinstance(part, ImagePart)
    assert part.image == Media(bytes=b"pixels")


@pytest.mark.parametrize("url", ["data:text/html;base64,QQ==", "data:image/png,QQ==", "data:"])
def test_data_that_are_no_picture(url: str) -> None:
    request = ChatRequest.model_validate(picture(url))
    assert elsewhere(request.messages) == {}
    with pytest.raises(RequestError, match="no picture") as caught:
        to_question(request)
    assert caught.value.where == "messages[0].content[1].image_url.url"


@pytest.mark.parametrize("data", ["?", "abc", "é"])
def test_what_is_not_base64_is_refused(data: str) -> None:
    request = ChatRequest.model_validate(parts({"type": "input_audio", "input_audio": {"data": data, "format": "wav"}}))
    with pytest.raises(RequestError, match="not base64"):
        to_question(request)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from(["role", "content", "type", "text", "image_url", "x"]), inner, max_size=3)
    ),
    max_leaves=8,
)


@given(JSON, st.sampled_from(["messages", "stop", "temperature", "stream", "tools", "logit_bias"]))
def test_any_value_in_any_field_is_taken_or_refused_in_words(value: Any, field: str) -> None:
    try:
        request = ChatRequest.model_validate(HELLO | {field: value})
    except ValidationError as error:
        faults = [{**fault, "loc": ("body", *fault["loc"])} for fault in error.errors()]
        assert (validation_body(faults)["error"]["param"] or field).startswith(field)
    else:
        assert to_question(request)


FUNCTION = {"name": "f", "description": "does", "parameters": {"type": "object"}}


def test_tools_and_schemas_are_taken_over() -> None:
    tools = [
        {"type": "function", "function": FUNCTION | {"strict": True}},
        {"type": "function", "function": {"name": "g"}},
    ]
    schema = {"type": "object", "properties": {"a": {"type": "integer"}}}
    more = {
        "tools": tools, "tool_choice": {"type": "function", "function": {"name": "g"}}, "parallel_tool_calls": False,
        "response_format": {"type": "json_schema", "json_schema": {"name": "x", "schema": schema, "strict": True}},
    }  # fmt: skip
    question = to_question(ChatRequest.model_validate(HELLO | more))
    assert question.tools == Tools({"f": FUNCTION | {"strict": True}, "g": {"name": "g"}}, "g", parallel=False)
    assert question.schema == schema
    assert to_question(ChatRequest.model_validate(HELLO | {"tools": tools})).tools.choice == "auto"  # type: ignore[union-attr]


def test_calls_and_results_in_a_conversation() -> None:
    call = {"id": "1", "type": "function", "function": {"name": "f", "arguments": "{}"}}
    said = {"role": "assistant", "content": None, "tool_calls": [call]}
    result = {"role": "tool", "content": "42", "tool_call_id": "1"}
    turns = to_question(ChatRequest.model_validate({"messages": [*HELLO["messages"], said, result]})).turns
    assert turns[1:] == (
        Turn("assistant", (), calls=(Call("1", "f", "{}"),)),
        Turn("tool", (TextPart("42"),), call_id="1"),
    )


def test_sampling_is_taken_over() -> None:
    more = {
        "max_tokens": 5, "temperature": 0.5, "top_p": 0.9, "presence_penalty": 1, "frequency_penalty": -1.5,
        "logit_bias": {"7": -100}, "stop": ["a", "b"], "seed": 3, "logprobs": True, "top_logprobs": 4,
        "cache_prompt": False,
    }  # fmt: skip
    assert to_question(ChatRequest.model_validate(HELLO | more)).sampling == Sampling(
        5, 0.5, 0.9, 1, -1.5, {7: -100}, ("a", "b"), 3, 4, False
    )
    assert to_question(ChatRequest.model_validate(HELLO)).sampling == Sampling()


LABEL = Label("id", "tiny", 0)
CALLS = (Call("1", "f", "{}"), Call("2", "g", '{"a": 1}'))


def test_calls_in_an_answer_whole_and_streamed() -> None:
    pieces = [Piece("so "), Piece("", calls=CALLS[:1]), Piece("", "tool_calls", 5, 7, calls=CALLS[1:])]
    message = completion(LABEL, pieces)["choices"][0]["message"]
    assert message["content"] == "so "
    assert [call["function"]["name"] for call in message["tool_calls"]] == ["f", "g"]
    assert completion(LABEL, pieces[1:])["choices"][0]["message"]["content"] is None
    chunks = Chunks(LABEL, wants_usage=True)
    told = [event for piece in pieces for event in chunks(piece)]
    deltas = [event["choices"][0]["delta"] for event in told[:-1]]
    assert deltas[0] == {"role": "assistant", "content": "so "}
    assert [call["index"] for delta in deltas[1:] for call in delta["tool_calls"]] == [0, 1]
    assert told[-1]["usage"]["total_tokens"] == 12


def test_what_is_not_known_of_a_token_is_said_as_openai_says_it() -> None:
    tokens = (Token("\ufffd", (200, 201), None), Token("a", (97,), -0.5, (Token("b", (98,), float("-inf")),)))
    told = completion(LABEL, [Piece("..", "stop", tokens=tokens)], logprobs=True)["choices"][0]["logprobs"]["content"]
    assert [one["logprob"] for one in told] == [-9999.0, -0.5]
    assert told[1]["top_logprobs"] == [{"token": "b", "logprob": -9999.0, "bytes": [98]}]
    json.dumps(told, allow_nan=False)
