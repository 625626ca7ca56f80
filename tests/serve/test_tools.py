from __future__ import annotations

import json
from typing import Any

import llguidance
import pytest
from hypothesis import given
from hypothesis import strategies as st

from caravan.records import Message, TextPart
from caravan.serve.errors import RequestError
from caravan.serve.question import Call, Piece, Question, Tools, Turn
from caravan.serve.tools import CallReader, grammar_of, plain

WEATHER = {
    "name": "weather",
    "description": "weather of a place",
    "parameters": {
        "type": "object",
        "properties": {"place": {"type": "string"}, "days": {"type": "integer"}},
        "required": ["place"],
        "additionalProperties": False,
    },
}
CLOCK = {"name": "clock"}
FUNCTIONS = {"weather": WEATHER, "clock": CLOCK}
USER = Turn.of(Message.of("user", "hello"))
BYTES = llguidance.LLTokenizer("byte")


def asked(choice: str = "auto", parallel: bool = True, schema: Any = None) -> Question:
    return Question((USER,), tools=Tools(FUNCTIONS, choice, parallel), schema=schema)


def call(name: str = "clock", arguments: str = "{}") -> str:
    return f'<tool_call>\n{{"name": "{name}", "arguments": {arguments}}}\n</tool_call>'


def accepts(grammar: str, text: str) -> bool:
    """Whether the grammar lets the engine write this, and end there."""
    matcher = llguidance.LLMatcher(BYTES, grammar)
    data = [*text.encode()]
    return matcher.try_consume_tokens(data) == len(data) and matcher.is_accepting()


@pytest.mark.parametrize(
    ("choice", "text", "accepted"),
    [
        ("auto", "", True),
        ("auto", "1 < 2 <tool_call", True),
        ("auto", call(), True),
        ("auto", "so:\n" + call() + "\n" + call("weather", '{"place": "Rome"}'), True),
        ("auto", call("other"), False),
        ("auto", call("weather"), False),
        ("auto", call("weather", '{"place": 1}'), False),
        ("auto", call() + "and", False),
        ("required", "text", False),
        ("required", call() + "\n" + call(), True),
        ("clock", call(), True),
        ("clock", call("weather", '{"place": "Rome"}'), False),
    ],
)
def test_only_calls_that_can_be_made_can_be_written(choice: str, text: str, accepted: bool) -> None:
    assert accepts(grammar_of(asked(choice)), text) is accepted


def test_one_call_where_several_are_not_wanted() -> None:
    grammar = grammar_of(asked("required", parallel=False))
    assert accepts(grammar, call())
    assert not accepts(grammar, call() + "\n" + call())


def test_an_answer_follows_its_schema_unless_a_function_is_called() -> None:
    schema = {"type": "object", "properties": {"a": {"type": "integer"}}, "required": ["a"]}
    grammar = grammar_of(asked(schema=schema))
    assert accepts(grammar, '{"a": 1}')
    assert accepts(grammar, call())
    assert not accepts(grammar, "text")
    assert accepts(grammar_of(Question((USER,), schema=schema)), '{"a": 1}')
    assert not accepts(grammar_of(Question((USER,), schema=schema)), '{"a": "1"}')


def test_no_tools_no_grammar() -> None:
    assert grammar_of(Question((USER,))) == grammar_of(asked("none")) == ""


def deep(levels: int) -> Any:
    return {"items": deep(levels - 1)} if levels else {}


@pytest.mark.parametrize(
    ("schema", "words"),
    [
        ({"type": "nonsense"}, "nonsense"),
        ({"not": {}}, "not"),
        ({"$ref": "http://127.0.0.1/x.json"}, "within the schema"),
        ({"$ref": "#/$defs/none"}, "none"),
        ({"type": "array", "minItems": 10**9}, "minItems of at most 4,096"),
        ({"type": "string", "pattern": "(?=x)"}, "look-around"),
        ({"type": "string", "pattern": "x" * 600}, "at most 512"),
        (deep(40), "at most 32 levels"),
        ({"enum": ["x" * 70_000]}, "at most 65,536 bytes"),
    ],
    ids=["type", "not", "ref", "lost ref", "count", "regex", "long regex", "deep", "long"],
)
def test_schemas_that_the_engine_could_not_follow_are_refused(schema: Any, words: str) -> None:
    with pytest.raises(RequestError, match=words) as caught:
        grammar_of(Question((USER,), schema=schema))
    assert caught.value.code == "invalid_json_schema"
    with pytest.raises(RequestError, match=words):
        grammar_of(Question((USER,), tools=Tools({"f": {"name": "f", "parameters": schema}})))


def test_tools_are_told_in_the_system_message() -> None:
    (system, user), first = plain(asked())
    assert (system.role, user, first) == ("system", Message.of("user", "hello"), 1)
    assert '"weather of a place"' in system.text
    turns = (Turn.of(Message.of("system", "be brief")), USER)
    (system, _), first = plain(Question(turns, tools=Tools(FUNCTIONS)))
    assert first == 0
    assert system.text.startswith("be brief\n\n")
    assert plain(asked("none")) == ([Message.of("user", "hello")], 0)


def test_calls_and_results_become_text() -> None:
    turns = (
        USER,
        Turn("assistant", (TextPart("let me see"),), calls=(Call("1", "weather", '{"place": "東京"}'),)),
        Turn("tool", (TextPart("sunny"),), call_id="1"),
    )
    (_, said, result), _ = plain(Question(turns))
    assert said.text == "let me see\n" + call("weather", '{"place": "東京"}')
    assert result == Message.of("user", "<tool_response>\n", "sunny", "\n</tool_response>")


def read(text: str, sizes: list[int], finish: str = "stop") -> tuple[str, list[tuple[str, Any]], str | None]:
    reader, pieces, start = CallReader(), [], 0
    for size in sizes:
        pieces.append(reader.feed(Piece(text[start : start + size])))
        start += size
    pieces += [reader.feed(Piece(text[start:])), reader.feed(Piece("", finish))]
    calls = [(one.name, json.loads(one.arguments)) for piece in pieces for one in piece.calls]
    return "".join(piece.text for piece in pieces), calls, pieces[-1].finish


SIZES = st.lists(st.integers(0, 30), max_size=12)


@given(SIZES)
def test_calls_are_read_whatever_the_pieces(sizes: list[int]) -> None:
    text = "so <b>:\n" + call() + "\n" + call("weather", '{"place": "</tool", "days": 2}')
    calls = [("clock", {}), ("weather", {"place": "</tool", "days": 2})]
    assert read(text, sizes) == ("so <b>:\n", calls, "tool_calls")


@given(st.text(st.sampled_from("<tool_call> \n"), max_size=40), SIZES)
def test_text_without_calls_stays_as_it_is(text: str, sizes: list[int]) -> None:
    assert read(text, sizes) == (text, [], "stop")


def test_a_call_that_is_cut_off_stays_text() -> None:
    cut = call()[:-5]
    assert read("a" + cut, [3, 9], "length") == ("a" + cut, [], "length")
    assert read(call() + cut, [3, 9], "length") == (cut, [("clock", {})], "length")
