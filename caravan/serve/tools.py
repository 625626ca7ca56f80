"""Tools for a model that reads and writes text: how they are told, how calls look, and how they are read.

The form is Hermes': functions as JSON between <tools> tags, calls as JSON between <tool_call> tags, results between
<tool_response> tags. A grammar sees to it that what is called exists and that its arguments follow their schema.
"""

from __future__ import annotations

import json
import secrets
from dataclasses import replace

from caravan.records import Message, Part, TextPart
from caravan.serve.question import Call, Piece, Question, Schema, Turn
from caravan.serve.schema import ANY_OBJECT, check_schema, checked_grammar, json_rule

OPEN, CLOSE = "<tool_call>", "</tool_call>"
TAGS = frozenset({OPEN, CLOSE, "<tool_response>", "</tool_response>", "<tools>", "</tools>"})
_EXPLAINED = """These functions can be called; each is described in JSON:
<tools>
{tools}
</tools>
To call one, write its name and arguments in JSON between tags:
<tool_call>
{{"name": "...", "arguments": {{...}}}}
</tool_call>"""


def plain(question: Question) -> tuple[list[Message], int]:
    """The turns without tools, as text: messages, and the place of the first turn in them (0, or 1 after an added one).

    Calls and results stand in the text of assistant and user; the functions are told in the system message.
    """
    messages = [_message(turn) for turn in question.turns]
    tools = question.tools
    if tools is None or tools.choice == "none":
        return messages, 0
    told = TextPart(_EXPLAINED.format(tools="\n".join(map(_described, tools.functions.values()))))
    if messages[0].role == "system":
        content = (*messages[0].content, TextPart("\n\n"), told)
        return [Message("system", content), *messages[1:]], 0
    return [Message("system", (told,)), *messages], 1


def _described(function: Schema) -> str:
    return json.dumps({"type": "function", "function": function}, ensure_ascii=False)


def _message(turn: Turn) -> Message:
    if turn.role == "tool":
        parts: tuple[Part, ...] = (
            TextPart("<tool_response>\n"), *turn.content, TextPart("\n</tool_response>"),
        )  # fmt: skip
        return Message("user", parts)
    calls = "\n".join(_written(call) for call in turn.calls)
    between = "\n" if turn.content and calls else ""
    return Message(turn.role, (*turn.content, *([TextPart(between + calls)] if calls else [])))


def _written(call: Call) -> str:
    try:
        arguments = json.loads(call.arguments)
    except ValueError:
        arguments = call.arguments
    body = json.dumps({"name": call.name, "arguments": arguments}, ensure_ascii=False)
    return f"{OPEN}\n{body}\n{CLOSE}"


def grammar_of(question: Question) -> str:
    """What the engine is to be held to: calls of known functions, an answer that follows a schema, or nothing ("").

    Raises:
        RequestError: a schema that cannot be followed.
    """
    schema, tools = question.schema, question.tools
    if schema is not None:
        check_schema(schema, "response_format")
    if tools is None or tools.choice == "none":
        return "" if schema is None else checked_grammar(f"start: {json_rule(schema)}\n", "response_format")
    for number, function in enumerate(tools.functions.values()):
        check_schema(function.get("parameters", ANY_OBJECT), f"tools[{number}].function.parameters")
    chosen = [tools.choice] if tools.choice in tools.functions else [*tools.functions]
    body = json_rule({"anyOf": [_call_schema(name, tools.functions[name]) for name in chosen]})
    rules = [
        f'call: "{OPEN}" BREAK? body',
        f'body: {body} BREAK? "{CLOSE}"',
        r"BREAK: /\n{1,2}/",
    ]
    more = " (BREAK? call)*" if tools.parallel else ""
    if tools.choice != "auto":
        start = "call" + more
    elif schema is not None:
        start = f"({json_rule(schema)}) | call{more}"
    else:
        # Text, or text that ends in calls: the first tag ends what is read as text.
        start = f"TEXT? | first{more}"
        rules += ["first: until BREAK? body", f"until[lazy]: /(?s:.*){OPEN}/", f"TEXT: /(?s:.+)/ & ~/(?s:.*{OPEN}.*)/"]
    return checked_grammar("\n".join([f"start: {start}", *rules]) + "\n", "tools")


def _call_schema(name: str, function: Schema) -> Schema:
    return {
        "type": "object",
        "properties": {"name": {"const": name}, "arguments": function.get("parameters", ANY_OBJECT)},
        "required": ["name", "arguments"],
        "additionalProperties": False,
    }


class CallReader:
    """Finds calls in an answer that comes in pieces; what may yet become a tag is held back."""

    def __init__(self) -> None:
        self._held = ""
        self._called = False

    def feed(self, piece: Piece) -> Piece:
        """The same piece with its calls taken out of its text. A call that is cut off stays text."""
        self._held += piece.text
        text, calls = "", []
        while OPEN in self._held:
            before, _, rest = self._held.partition(OPEN)
            body, end, after = rest.partition(CLOSE)
            text += self._between(before)
            self._held = OPEN + rest
            if not end:
                break
            calls.append(_read(body))
            self._called, self._held = True, after
        if piece.finish:
            text, self._held = text + self._between(self._held), ""
        elif not self._held.startswith(OPEN):
            sure = len(self._held) - _beginning_of_tag(self._held)
            if not self._called:
                text, self._held = text + self._held[:sure], self._held[sure:]
        finish = "tool_calls" if piece.finish == "stop" and self._called else piece.finish
        return replace(piece, text=text, calls=tuple(calls), finish=finish)

    def _between(self, text: str) -> str:
        """White space between calls and after them is no text."""
        return text if text.strip() or not self._called else ""


def _beginning_of_tag(text: str) -> int:
    """How many characters at the end may be the beginning of a tag."""
    return next((size for size in range(min(len(OPEN), len(text)), 0, -1) if OPEN.startswith(text[-size:])), 0)


def _read(body: str) -> Call:
    call = json.loads(body)
    return Call(f"call_{secrets.token_hex(12)}", call["name"], json.dumps(call["arguments"], ensure_ascii=False))
