"""JSON schemas that answers must follow: what they may hold, and the grammar that holds the engine to them.

llama.cpp takes a schema in llguidance's form and ignores, without a word, one that it cannot compile; a huge count in
one takes all memory. So both are checked here, before the engine sees it.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

from caravan.serve.errors import RequestError
from caravan.serve.question import Schema

MAX_BYTES = 65_536
MAX_DEPTH = 32
MAX_COUNT = 4096
MAX_PATTERN = 512
_COUNTS = frozenset(
    {"minItems", "maxItems", "minLength", "maxLength", "minProperties", "maxProperties", "minContains", "maxContains"}
)
ANY_OBJECT: Schema = {"type": "object"}
# Without it a small model may go on with white space between two values for ever.
_COMPACT = {"x-guidance": {"whitespace_flexible": False, "item_separator": ", ", "key_separator": ": "}}
HEAD = "%llguidance {}\n"


def json_rule(schema: Schema) -> str:
    """A schema as an expression of a Lark grammar."""
    return "%json " + json.dumps({**schema, **_COMPACT})


def checked_grammar(rules: str, param: str) -> str:
    """A grammar of these rules.

    Raises:
        RequestError: it cannot be compiled; what the compiler says is in the error.
    """
    import llguidance

    if fault := llguidance.LLMatcher.validate_grammar(HEAD + rules):
        # The compiler's own words, without the place in a grammar that no client wrote, and the listing of it.
        words = fault.partition("\n   1 | ")[0].partition("failed to compile JSON schema: ")
        raise _refusal(param, "a JSON schema that llguidance knows", " ".join((words[2] or words[0]).split())[:300])
    return HEAD + rules


def check_schema(schema: Schema, param: str) -> None:
    """See that a schema is of bounded size.

    Raises:
        RequestError: it is too long, too deep, or counts too far.
    """
    if (size := len(json.dumps(schema))) > MAX_BYTES:
        raise _refusal(param, f"at most {MAX_BYTES:,} bytes", f"{size:,} bytes")
    for name, value, depth in _fields(schema, 0):
        if depth > MAX_DEPTH:
            raise _refusal(param, f"at most {MAX_DEPTH} levels", "more")
        if name in _COUNTS and isinstance(value, int | float) and value > MAX_COUNT:
            raise _refusal(param, f"{name} of at most {MAX_COUNT:,}", value)
        if name == "pattern" and isinstance(value, str) and len(value) > MAX_PATTERN:
            raise _refusal(param, f"a pattern of at most {MAX_PATTERN} characters", f"{len(value)} characters")
        if name == "$ref" and isinstance(value, str) and not value.startswith("#"):
            raise _refusal(param, "references within the schema: #/$defs/...", value[:80])


def _fields(value: Any, depth: int) -> Iterator[tuple[str, Any, int]]:
    """Every name and value in a schema, and how deep it stands; no deeper than one level too deep."""
    if depth > MAX_DEPTH + 1:
        return
    items = value.items() if isinstance(value, dict) else (("", item) for item in value)
    for name, item in items:
        yield name, item, depth
        if isinstance(item, dict | list):
            yield from _fields(item, depth + 1)


def _refusal(param: str, expected: object, got: object) -> RequestError:
    return RequestError(
        "the schema cannot be followed",
        param=param,
        code="invalid_json_schema",
        expected=expected,
        got=got,
        fix="simplify the schema",
    )
