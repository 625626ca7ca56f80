"""The words of one language: our own tables in `languages/*.yaml`, CLDR's names through Babel, number words."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import yaml

from caravan.core.errors import MissingDependencyError
from caravan.records import LANGUAGES
from caravan.samples.world import COLOURS, COUNTRIES, SHAPES, Scene

TABLES = Path(__file__).parent / "languages"
_ZH_DIGITS = "零一二三四五六七八九"


@dataclass(frozen=True)
class Words:
    """One language's words; every method returns a phrase ready for a sentence, without a final stop."""

    code: str
    numbers: tuple[str, ...]
    months: tuple[str, ...]
    days: tuple[str, ...]
    languages: Mapping[str, str]
    countries: Mapping[str, str]
    positions: Mapping[str, str]
    counts: tuple[str, ...]
    shapes: Mapping[str, str]
    colours: Mapping[str, str]
    objects: Mapping[tuple[str, str], str]
    in_language: Mapping[str, str]
    questions: Mapping[str, tuple[str, ...]]
    repeat: tuple[str, ...]
    statements: Mapping[str, tuple[str, ...]]
    greetings: tuple[tuple[str, str], ...]
    prose: tuple[str, ...]
    digit_form: str
    caption_form: str

    def concept(self, key: str) -> str:
        """The word for a colour or a shape that the world names by `key`."""
        return self.colours[key] if key in self.colours else self.shapes[key]

    def digit(self, n: int) -> str:
        return self.digit_form.format(n=self.numbers[n])

    def caption(self, scene: Scene) -> str:
        """What a picture shows, in one phrase: the object with its place or its number, or the digit.

        A colour without a name is left out.
        """
        if scene.kind == "digit":
            return self.digit(scene.digit)
        name = self.objects[scene.colour, scene.shape] if scene.colour else self.shapes[scene.shape]
        detail = self.positions[scene.position] if scene.kind == "one" else self.counts[scene.count - 1]
        return self.caption_form.format(o=name, d=detail)

    def sentence(self, text: str) -> str:
        """With a capital first letter, as the language writes it."""
        first = "İ" if self.code == "tr" and text[0] == "i" else text[0].upper()
        return first + text[1:]


def _forms(entry: Any) -> list[str]:
    return [entry] if isinstance(entry, str) else list(entry)


def _objects(table: Mapping[str, Any]) -> dict[tuple[str, str], str]:
    """Every colour with every noun, agreeing: a colour's forms are its citation form, then one for each gender."""
    genders = table.get("genders", [])
    phrases = {}
    for colour in COLOURS:
        forms = _forms(table["colours"][colour])
        for key, entry in (table["shapes"] | table["things"]).items():
            noun, *gender = _forms(entry)
            adjective = forms[1 + genders.index(gender[0])] if len(forms) > 1 and gender else forms[0]
            phrases[colour, key] = table["object"].format(colour=adjective, shape=noun)
    return phrases


def _in_language(table: Mapping[str, Any], names: Mapping[str, str]) -> dict[str, str]:
    """ "In German", as an adverb; Russian and Polish change the ending of the adjective."""
    old, new = table.get("in_ending", ["", ""])
    exceptions = table.get("in_exceptions", {})
    forms = {}
    for code, name in names.items():
        stem = name[: len(name) - len(old)] + new
        forms[code] = exceptions.get(code) or table["in"].format(L=stem)
    return forms


def _number_words(code: str) -> tuple[str, ...]:
    """0 to 99. num2words lacks Chinese, writes Turkish as one word and sets the Arabic conjunction apart."""
    if code == "zh":
        tens = ["", "十", *(f"{d}十" for d in _ZH_DIGITS[2:])]
        return tuple(tens[n // 10] + (_ZH_DIGITS[n % 10] if n % 10 or not n else "") for n in range(100))
    from num2words import num2words

    words = [str(num2words(n, lang=code)) for n in range(100)]
    if code == "tr":
        words[11:] = [words[n] if n % 10 == 0 else f"{words[n - n % 10]} {words[n % 10]}" for n in range(11, 100)]
    if code == "ar":
        words = [word.replace(" و ", " و") for word in words]
    return tuple(words)


def _cldr(code: str) -> tuple[list[str], list[str], dict[str, str], dict[str, str]]:
    """Months, days (Monday first), names of languages and of countries."""
    from babel import Locale

    locale = Locale.parse(code)
    # Babel hands out another locale's stand-alone months where a locale inherits them, so it is asked for them
    # only in the two languages whose ordinary month names are genitives.
    form = "stand-alone" if code in ("ru", "pl") else "format"
    months = [locale.months[form]["wide"][i] for i in range(1, 13)]
    days = [locale.days["format"]["wide"][i] for i in range(7)]
    languages = {target: locale.languages[target] for target in LANGUAGES}
    if code == "vi":  # CLDR capitalises them as list items
        languages = {target: name[0].lower() + name[1:] for target, name in languages.items()}
    return months, days, languages, {country: locale.territories[country] for country in COUNTRIES}


@cache
def words(code: str) -> Words:
    """The words of a language of `LANGUAGES`.

    Raises:
        MissingDependencyError: Babel or num2words is not installed.
    """
    # Every scalar stays a string: YAML would read Turkish "on" as true.
    table = yaml.load((TABLES / f"{code}.yaml").read_text(encoding="utf-8"), Loader=yaml.BaseLoader)
    try:
        months, days, names, countries = _cldr(code)
        numbers = _number_words(code)
    except ImportError as error:
        raise MissingDependencyError("Babel and num2words", "data", needed_for="the sample world") from error
    names |= table.get("languages", {})
    return Words(
        code=code,
        numbers=numbers,
        months=tuple(months),
        days=tuple(table.get("days", days)),
        languages={key: table.get("language", "{L}").format(L=name) for key, name in names.items()},
        countries=countries,
        positions=table["positions"],
        counts=tuple(table["counts"]),
        shapes={key: _forms(table["shapes"][key])[0] for key in SHAPES},
        colours={key: _forms(table["colours"][key])[0] for key in COLOURS},
        objects=_objects(table),
        in_language=_in_language(table, names),
        questions={kind: tuple(forms) for kind, forms in table["questions"].items()},
        repeat=tuple(table.get("repeat", ())),
        statements={kind: tuple(forms) for kind, forms in table["statements"].items()},
        greetings=tuple((says, reply) for says, reply in table["greetings"]),
        prose=tuple(table["prose"]),
        digit_form=table["digit"],
        caption_form=table.get("caption", "{o}, {d}"),
    )
