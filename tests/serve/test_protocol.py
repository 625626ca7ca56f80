from __future__ import annotations

import base64
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from caravan.records import AudioPart, ImagePart, Message, TextPart
from caravan.serve.errors import RequestError
from caravan.serve.protocol import ChatRequest, to_messages, validation_body

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
    (message,) = to_messages(request)
    image, text, audio = message.content
    assert isinstance(image, ImagePart)
    assert image.image.bytes == b"pixels"
    assert text == TextPart("and")
    assert isinstance(audio, AudioPart)
    assert audio.audio.bytes == b"sound"


def test_developer_is_system() -> None:
    body = {"messages": [{"role": "developer", "content": "be brief"}, *HELLO["messages"]]}
    assert to_messages(ChatRequest.model_validate(body))[0] == Message.of("system", "be brief")


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
        ({"logprobs": True}, "logprobs"),
        ({"presence_penalty": 0.5}, "presence_penalty"),
        ({"tools": [{"type": "function"}]}, "tools"),
        ({"response_format": {"type": "json_object"}}, "response_format.type"),
        ({"max_tokens": 0}, "max_tokens"),
        ({"max_tokens": "5"}, "max_tokens"),
        ({"temperature": -1}, "temperature"),
        ({"temperature": float("nan")}, "temperature"),
        ({"top_p": 1.5}, "top_p"),
        ({"stop": [""]}, "stop[0]"),
        ({"top_k": 5}, "top_k"),
        ({"messages": []}, "messages"),
        ({"messages": None}, "messages"),
        ({"messages": [{"role": "tool", "content": "x"}]}, "messages[0].role"),
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


@pytest.mark.parametrize(
    "url", ["http://127.0.0.1:9/x.png", "https://example.org/x.png", "file:///etc/passwd", "x.png", ""]
)
def test_pictures_are_not_fetched(url: str) -> None:
    request = ChatRequest.model_validate(parts({"type": "image_url", "image_url": {"url": url}}))
    with pytest.raises(RequestError, match="not fetched") as caught:
        to_messages(request)
    assert caught.value.code == "remote_media_refused"
    assert caught.value.where == "messages[0].content[0].image_url.url"


@pytest.mark.parametrize("data", ["?", "abc", "é"])
def test_what_is_not_base64_is_refused(data: str) -> None:
    request = ChatRequest.model_validate(parts({"type": "input_audio", "input_audio": {"data": data, "format": "wav"}}))
    with pytest.raises(RequestError, match="not base64"):
        to_messages(request)


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
        assert validation_body(faults)["error"]["param"].startswith(field)
    else:
        assert to_messages(request)
