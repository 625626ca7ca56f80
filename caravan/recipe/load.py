"""Read a recipe: YAML with line numbers, duplicate keys refused, overrides applied, every fault named."""

from __future__ import annotations

import difflib
import types
import typing
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

import yaml
from pydantic import BaseModel, ValidationError

from caravan.core.errors import RecipeError, UsageError
from caravan.recipe.recipe import Recipe

Location = tuple[str | int, ...]
S = TypeVar("S", bound=BaseModel)


class Source:
    """A parsed YAML file: its value, and the line on which each field stands."""

    def __init__(self, path: Path, text: str) -> None:
        self.path = path
        self.lines: dict[Location, int] = {}
        try:
            node = yaml.compose(text, Loader=yaml.SafeLoader)
        except yaml.YAMLError as error:
            mark = getattr(error, "problem_mark", None)
            raise RecipeError(
                "the recipe is not valid YAML",
                where=f"{path}, line {mark.line + 1}" if mark else str(path),
                expected="YAML",
                got=getattr(error, "problem", None) or error,
                fix="correct the indentation or the quotes on this line",
            ) from error
        self.value = {} if node is None else self._build(node, ())

    def _build(self, node: yaml.Node, location: Location) -> Any:
        self.lines[location] = node.start_mark.line + 1
        if isinstance(node, yaml.MappingNode):
            return self._mapping(node, location)
        if isinstance(node, yaml.SequenceNode):
            return [self._build(item, (*location, index)) for index, item in enumerate(node.value)]
        return yaml.SafeLoader("").construct_object(node)

    def _mapping(self, node: yaml.MappingNode, location: Location) -> dict[str, Any]:
        result: dict[str, Any] = {}
        for key_node, value_node in node.value:
            key = str(key_node.value)
            line = key_node.start_mark.line + 1
            if key in result:
                raise RecipeError(
                    f"the key {key} stands twice",
                    where=f"{self.path}, line {line}, field {dotted((*location, key))}",
                    expected="each key once",
                    got=f"first on line {self.lines[(*location, key)]}, again on line {line}",
                    fix="remove one of them",
                )
            result[key] = self._build(value_node, (*location, key))
            self.lines[(*location, key)] = line
        return result

    def where(self, location: Location) -> str:
        """The file and the line of the nearest field that stands in it."""
        for end in range(len(location), -1, -1):
            if location[:end] in self.lines:
                return f"{self.path}, line {self.lines[location[:end]]}, field {dotted(location)}"
        return f"{self.path}, field {dotted(location)}"


def dotted(location: Sequence[str | int]) -> str:
    """`("sft", "sources", 0)` as `sft.sources.0`."""
    return ".".join(map(str, location)) or "(top)"


def load_recipe(path: Path, overrides: Sequence[str] = ()) -> Recipe:
    """Read and validate a recipe.

    Args:
        path: the YAML file.
        overrides: `key.path=value` each; the value is read as YAML.

    Raises:
        RecipeError: the file cannot be read or does not hold together; every fault is named.
    """
    try:
        text = Path(path).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise RecipeError(
            "the recipe cannot be read", where=str(path), expected="a YAML file", got=error, fix="correct the path"
        ) from error
    source = Source(Path(path), text)
    if not isinstance(source.value, dict):
        raise RecipeError(
            "a recipe is a mapping", where=str(path), expected="key: value", got=type(source.value).__name__
        )
    given: set[Location] = set()
    for override in overrides:
        given.add(apply_override(source.value, override))
    try:
        return Recipe.model_validate(source.value)
    except ValidationError as error:
        raise combine([_fault(item, source, given) for item in error.errors()]) from None


def load_section(kind: type[S], overrides: Sequence[str]) -> S:
    """A section of a recipe from its defaults and `key.path=value` each.

    Raises:
        RecipeError: a key or a value that it cannot have; every fault is named.
    """
    value: dict[str, Any] = {}
    given = {apply_override(value, override) for override in overrides}
    try:
        return kind.model_validate(value)
    except ValidationError as error:
        source = Source(Path("command line"), "")
        raise combine([_fault(item, source, given, kind) for item in error.errors()]) from None


def from_options(kind: type[S], given: Mapping[str, Any]) -> S:
    """A section from options of the command line, None where one was not given.

    Raises:
        UsageError: a value that the section refuses.
    """
    try:
        return kind.model_validate({name: value for name, value in given.items() if value is not None})
    except ValidationError as error:
        first = error.errors()[0]
        raise UsageError(
            "a wrong value",
            where=f"command line, --{str(first['loc'][0]).replace('_', '-')}",
            expected=first["msg"].removeprefix("Input should be ").removeprefix("Value error, "),
            got=first["input"],
            fix="`--help` tells the meaning of every option",
        ) from None


def apply_override(value: dict[str, Any], override: str) -> Location:
    """Set `key.path=value` in a nested value; a number in the path is an index of a list.

    Raises:
        RecipeError: no `=`, or the path leads into something that is neither a mapping nor a list.
    """
    key, equals, text = override.partition("=")
    if not equals or not key:
        raise RecipeError("wrong override", where="command line", expected="key.path=value", got=override)
    location: Location = tuple(int(part) if part.isdigit() else part for part in key.split("."))
    target: Any = value
    try:
        for part in location[:-1]:
            if isinstance(target, dict):
                part = str(part)
                target[part] = {} if target.get(part) is None else target[part]
            target = target[part]
        target[str(location[-1]) if isinstance(target, dict) else location[-1]] = yaml.safe_load(text)
    except (KeyError, IndexError, TypeError, yaml.YAMLError) as error:
        raise RecipeError(
            "wrong override",
            where=f"command line, field {key}",
            expected="a path that leads through mappings and lists of the recipe",
            got=error,
            fix="`caravan schema` lists every key",
        ) from error
    return location


def combine(faults: list[RecipeError]) -> RecipeError:
    """One error out of several, so that all faults are seen at once."""
    if len(faults) == 1:
        return faults[0]
    return RecipeError(f"{len(faults)} faults in the recipe\n\n" + "\n\n".join(map(str, faults)))


def _fault(item: Any, source: Source, given: set[Location], model: type[BaseModel] = Recipe) -> RecipeError:
    """One pydantic error in our words."""
    location = tuple(part for part in item["loc"] if not str(part).startswith(("function-", "tagged-union")))
    overridden = any(location[: len(key)] == key or key[: len(location)] == location for key in given)
    where = f"command line, field {dotted(location)}" if overridden else source.where(location)
    if item["type"] == "extra_forbidden":
        return _unknown_key(location, where, model)
    if item["type"] == "missing":
        return RecipeError("a key is missing", where=where, expected=location[-1], got="nothing", fix="add it")
    return RecipeError(
        "a wrong value",
        where=where,
        expected=item["msg"].removeprefix("Input should be ").removeprefix("Value error, "),
        got=repr(item["input"])[:120],
        fix="`caravan schema` tells type, default and meaning of every key",
    )


def _unknown_key(location: Location, where: str, model: type[BaseModel]) -> RecipeError:
    known = sorted(_keys_at(model, location[:-1]))
    near = difflib.get_close_matches(str(location[-1]), known, n=1, cutoff=0.5)
    fix = f"did you mean {near[0]}?" if near else "remove it"
    return RecipeError("unknown key", where=where, expected=" | ".join(known), got=location[-1], fix=fix)


def _keys_at(model: Any, location: Location) -> set[str]:
    """Names of the fields that may stand at a location, over all members of a union."""
    models = [member for member in _members(model) if isinstance(member, type) and issubclass(member, BaseModel)]
    if not location:
        return {field.alias or name for each in models for name, field in each.model_fields.items()}
    head, rest = location[0], location[1:]
    if isinstance(head, int):
        return {key for item in _items(model) for key in _keys_at(item, rest)}
    named = [m for m in models if m.__name__ == head]
    if named:
        return _keys_at(named[0], rest)
    fields = {field.alias or name: field for each in models for name, field in each.model_fields.items()}
    return _keys_at(fields[head].annotation, rest) if head in fields else set()


def _members(annotation: Any) -> list[Any]:
    """The members of a union, unwrapped; anything else is its own only member."""
    origin = typing.get_origin(annotation)
    if origin is typing.Annotated:
        return _members(typing.get_args(annotation)[0])
    if origin in (typing.Union, types.UnionType):
        return [member for argument in typing.get_args(annotation) for member in _members(argument)]
    return [annotation]


def _items(annotation: Any) -> list[Any]:
    """What a list or a mapping of the annotation holds."""
    return [typing.get_args(member)[-1] for member in _members(annotation) if typing.get_args(member)]
