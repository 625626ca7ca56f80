"""Conversations and captions in other languages: what must survive is kept out of the translator's reach.

A text goes line by line; fenced code never leaves, and code, addresses, formulas, placeholders and names within a line
stand as markers, which must all come back. A translation of an odd length or in another language is left out with its
reason. Translations are kept on disk until the source is finished: a run that was killed asks for nothing twice.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from caravan.core.cache import Cache
from caravan.core.errors import DataError
from caravan.instruct.rows import Dropped, Item
from caravan.instruct.translators import Translator, open_translator
from caravan.recipe.translate import TranslateConfig
from caravan.records import Dialogue, Part, TextPart
from caravan.text.instructions import INSTRUCTIONS
from caravan.text.languages import identify

AT_ONCE = 64
# Characters for one of English: medians over the articles of the Universal Declaration of Human Rights (LOG.md).
CHARACTERS: Mapping[str, float] = {
    "zh": 0.26, "en": 1.0, "ru": 1.11, "es": 1.13, "fr": 1.1, "pt": 1.05, "de": 1.13, "it": 1.13, "nl": 1.2, "pl": 1.06,
    "ar": 0.69, "tr": 0.97, "he": 0.68, "ja": 0.42, "ko": 0.48, "th": 0.88, "vi": 1.23, "id": 1.18,
}  # fmt: skip
_FENCE = re.compile(r"^\s*(?:```|~~~)")
_MARKER = re.compile(r"\[\[\s*(\d+)\s*\]\]")
_KEPT = (
    r"`[^`\n]+`|https?://\S+|www\.\S+|\S+@\S+\.\w+|\$[^$\n]+\$|\\\(.+?\\\)|</?[a-zA-Z][^<>\n]*>|\{\{?\w*\}?\}|%[sd]\b|"
    r"\[\[\s*\d+\s*\]\]|\b\w+\(\)|\b\w+(?:_\w+)+\b|\b[a-z]+[A-Z]\w*\b"
)
# Of look-alikes the identifier may name any.
ALIKE = (frozenset({"id", "ms", "jv"}), frozenset({"pt", "gl"}), frozenset({"es", "gl", "ca"}))
Found = Item | DataError | Dropped


@dataclass(frozen=True)
class Masked:
    """A line whose `kept` stretches stand as markers in `text`; None as text where there is nothing to translate."""

    original: str
    text: str | None
    kept: tuple[str, ...] = ()

    def restored(self, translation: str) -> str | None:
        """The translation with its stretches in place; None where one was lost or came twice."""
        numbers = [int(match[1]) for match in _MARKER.finditer(translation)]
        if sorted(numbers) != list(range(1, len(self.kept) + 1)):
            return None
        return _MARKER.sub(lambda match: self.kept[int(match[1]) - 1], translation)


def masked(text: str, names: Sequence[str] = ()) -> list[Masked]:
    """The lines of a text, with what must survive out of reach."""
    words = sorted(map(re.escape, names), key=len, reverse=True)
    pattern = re.compile("|".join([*(rf"(?<!\w){word}(?!\w)" for word in words), _KEPT]))
    lines, fenced = [], False
    for line in text.split("\n"):
        if _FENCE.match(line):
            fenced = not fenced
            lines.append(Masked(line, None))
            continue
        kept = tuple(match[0] for match in pattern.finditer(line))
        numbers = itertools.count(1)
        bare = pattern.sub(lambda _, numbers=numbers: f"[[{next(numbers)}]]", line)  # type: ignore[misc]
        told = any(map(str.isalpha, _MARKER.sub("", bare)))
        lines.append(Masked(line, bare, kept) if told and not fenced else Masked(line, None))
    return lines


def translated(items: Iterator[Found], config: TranslateConfig, cache: Cache) -> Iterator[Found]:
    """The same items in the same order, each followed by its translations, or by a `Dropped` for one that is refused.

    Raises:
        EndpointError: the service does not answer; what it has translated so far is kept.
    """
    translator = open_translator(config.by)
    while batch := list(itertools.islice(items, AT_ONCE)):
        yield from _batch(batch, config, translator, cache)


def _batch(items: Sequence[Found], config: TranslateConfig, translator: Translator, cache: Cache) -> Iterator[Found]:
    wanted: dict[tuple[str, str], dict[str, None]] = {}
    for item in items:
        if isinstance(item, Item):
            for target in _targets(item.dialogue, config):
                lines = wanted.setdefault((item.dialogue.language, target), {})
                for part in _texts(item.dialogue):
                    cut = masked(part.text, config.names)
                    lines.update(dict.fromkeys(line.text for line in cut if line.text is not None))
    known = {pair: _lines(list(lines), pair, translator, cache) for pair, lines in wanted.items()}
    for item in items:
        if not isinstance(item, Item):
            yield item
            continue
        if config.keep:
            yield item
        for target in _targets(item.dialogue, config):
            made = _dialogue(item.dialogue, target, config, known[item.dialogue.language, target])
            yield Dropped(made) if isinstance(made, str) else Item(item.split, made)


def _targets(dialogue: Dialogue, config: TranslateConfig) -> list[str]:
    """Languages to which a dialogue goes; what is said in a clip stays in its language."""
    return [] if dialogue.audios else [target for target in config.to if target != dialogue.language]


def _texts(dialogue: Dialogue) -> Iterator[TextPart]:
    """Texts to translate. An instruction of the pool has its like in the other language."""
    for message in dialogue.messages:
        yield from (part for part in message.content if isinstance(part, TextPart) and not _pool(part.text, dialogue))


def _pool(text: str, dialogue: Dialogue) -> int | None:
    """Place of an instruction in its pool; None for any other text."""
    pool = INSTRUCTIONS.get(dialogue.task, {}).get(dialogue.language, ())  # type: ignore[call-overload]
    return pool.index(text) if text in pool else None


def _lines(lines: list[str], pair: tuple[str, str], translator: Translator, cache: Cache) -> dict[str, str]:
    """Each line's translation, from the disk where it has been made before."""
    key = (translator.name, *pair)
    found = {line: kept.decode() for line in lines if (kept := cache.get("line", *key, line)) is not None}
    missing = [line for line in lines if line not in found]
    for start in range(0, len(missing), AT_ONCE):
        part = missing[start : start + AT_ONCE]
        for place, text in translator.translate(part, *pair):
            cache.put(text.encode("utf-8", "replace"), "line", *key, part[place])
            found[part[place]] = text
    return found


def _dialogue(dialogue: Dialogue, target: str, config: TranslateConfig, known: Mapping[str, str]) -> Dialogue | str:
    """The dialogue in another language, or why there is none."""
    messages = []
    for message in dialogue.messages:
        parts: list[Part] = []
        for part in message.content:
            if not isinstance(part, TextPart):
                parts.append(part)
                continue
            place = _pool(part.text, dialogue)
            if place is not None:
                parts.append(TextPart(INSTRUCTIONS[dialogue.task][target][place]))  # type: ignore[index]
                continue
            lines = [known[line.text] if line.text is not None else "" for line in masked(part.text, config.names)]
            text = restored(part.text, lines, config.names)
            if text is None:
                return "translation: a placeholder, code or name was lost"
            if reason := doubtful(part.text, text, dialogue.language, target, config):
                return f"translation: {reason}"
            parts.append(TextPart(text))
        messages.append(replace(message, content=tuple(parts)))
    return replace(dialogue, id=f"{dialogue.id}:{target}", language=target, messages=tuple(messages))


def restored(text: str, translations: Sequence[str], names: Sequence[str] = ()) -> str | None:
    """A text from the translations of its lines; None where a stretch that must survive has not."""
    lines = []
    for line, translation in zip(masked(text, names), translations, strict=True):
        whole = line.original if line.text is None else line.restored(translation)
        if whole is None:
            return None
        lines.append(whole)
    return "\n".join(lines)


def doubtful(text: str, translation: str, source: str, target: str, config: TranslateConfig) -> str | None:
    """What speaks against a translation; None if nothing does."""
    if not translation.strip():
        return "empty"
    if len(text) < config.checked_characters:
        return None
    ratio = len(translation) / len(text) * CHARACTERS[source] / CHARACTERS[target]
    if not config.min_ratio <= ratio <= config.max_ratio:
        return "too short" if ratio < config.min_ratio else "too long"
    if translation == text:
        return "not translated"
    # Code and addresses are in no language.
    words = " ".join(_MARKER.sub(" ", line.text) for line in masked(translation, config.names) if line.text is not None)
    named = identify(words) if len(words) >= config.checked_characters * CHARACTERS[target] else target
    if named != target and not any({named, target} <= alike for alike in ALIKE):
        return "in another language"
    return None
