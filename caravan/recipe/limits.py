"""Limits of the rule filters: the general ones, and how a file or a mapping gives those of each language."""

from __future__ import annotations

import difflib
import functools
from pathlib import Path
from typing import Annotated, Any

import yaml
from pydantic import BeforeValidator, Field, NonNegativeFloat, NonNegativeInt, PositiveInt

from caravan.recipe.base import Section

OTHER = "other"
Share = Annotated[float, Field(ge=0, le=1)]
ByLanguage = dict[str, dict[str, int | float]]


class RuleLimits(Section):
    """Limits of the rule filters, for text of languages without limits of their own.

    Shares are of all characters unless said otherwise. Words are runs of letters and digits; in scripts without spaces
    `unit` characters are one. The filters are Gopher's (arXiv 2112.11446), C4's (arXiv 1910.10683) and PolyLM's
    (arXiv 2307.06018).
    """

    unit: PositiveInt = Field(1, description="characters that count as one word in scripts without spaces")
    short_line: NonNegativeInt = Field(30, description="visible characters up to which a line counts as short")

    min_characters: NonNegativeInt = Field(8, description="fewest characters")
    max_characters: PositiveInt = Field(1_000_000, description="most characters")
    min_words: NonNegativeFloat = Field(0, description="fewest words")
    max_words: PositiveInt = Field(200_000, description="most words")
    min_sentences: NonNegativeInt = Field(0, description="fewest ends of sentences")
    max_small_starts: Share = Field(
        1,
        description="share of ends of sentences before a letter with case that are before a small one, from five on",
    )
    min_fragment: NonNegativeFloat = Field(0, description="fewest words of a text in which no sentence ends")

    max_broken: Share = Field(0.02, description="replacement characters and mojibake")
    max_invisible: Share = Field(0.1, description="invisible and control characters")
    min_letters: Share = Field(0.35, description="least share of letters among the characters that are not blanks")
    max_digits: Share = Field(0.3, description="digits")
    max_dates: Share = Field(0.3, description="characters of dates and times")
    max_urls: Share = Field(0.3, description="characters that belong to URLs")
    max_symbols: Share = Field(0.25, description="symbols such as # * | < > $")
    max_punctuation: Share = Field(0.4, description="punctuation")
    max_blanks: Share = Field(0.9, description="blanks and line breaks")
    max_brackets: Share = Field(0.1, description="curly brackets")
    max_placeholders: NonNegativeInt = Field(0, description="how often it says lorem ipsum")

    max_word: PositiveInt = Field(2000, description="longest run of characters between blanks that is not a URL")
    min_mean_word: NonNegativeFloat = Field(1.5, description="least mean length of words, from ten words on")
    max_mean_word: NonNegativeFloat = Field(14.0, description="greatest mean length of words, from ten words on")
    min_alphabetic_words: Share = Field(
        0.1, description="least share with a letter in it of what stands between blanks, from ten on"
    )
    min_stop_words: Share = Field(
        0, description="least share of words that are among the most frequent of the language"
    )
    max_hashes: NonNegativeFloat = Field(1.0, description="# signs for each word, from ten words on")
    max_ellipses: NonNegativeFloat = Field(0.2, description="ellipses for each word, from ten words on")
    max_commas: NonNegativeFloat = Field(0.7, description="commas for each word, from ten words on")

    min_line_characters: NonNegativeFloat = Field(0, description="least mean of visible characters in a line")
    max_line_characters: PositiveInt = Field(1_000_000, description="greatest mean of visible characters in a line")
    max_short_lines: Share = Field(1, description="share of lines that are short, from three lines on, as those below")
    max_bullet_lines: Share = Field(1, description="share of lines that begin with a bullet or a hyphen")
    max_ellipsis_lines: Share = Field(0.3, description="share of lines that end in an ellipsis")
    min_ended_lines: Share = Field(0, description="least share of lines that end as sentences do")
    max_javascript_lines: Share = Field(0.6, description="share of lines with the word javascript")

    max_repeated_lines: Share = Field(0.8, description="share of lines that came before")
    max_repeated_line_characters: Share = Field(0.55, description="characters of lines that came before")
    max_repeated_paragraphs: Share = Field(0.8, description="share of paragraphs that came before")
    max_repeated_paragraph_characters: Share = Field(0.55, description="characters of paragraphs that came before")
    max_top_2gram: Share = Field(0.5, description="characters of the most frequent 2-gram, if it comes three times")
    max_top_3gram: Share = Field(0.6, description="characters of the most frequent 3-gram, likewise")
    max_top_4gram: Share = Field(0.65, description="characters of the most frequent 4-gram, likewise")
    max_repeated_5gram: Share = Field(0.8, description="characters covered by 5-grams that came before")
    max_repeated_6gram: Share = Field(0.8, description="characters covered by 6-grams that came before")
    max_repeated_7gram: Share = Field(0.8, description="characters covered by 7-grams that came before")
    max_repeated_8gram: Share = Field(0.8, description="characters covered by 8-grams that came before")
    max_repeated_9gram: Share = Field(0.8, description="characters covered by 9-grams that came before")
    max_repeated_10gram: Share = Field(0.8, description="characters covered by 10-grams that came before")


def known_limits(value: ByLanguage) -> ByLanguage:
    """The limits of each language, checked.

    Raises:
        ValueError: a name that is no limit, or a value out of its range.
    """
    known = list(RuleLimits.model_fields)
    for language, limits in value.items():
        for name in limits:
            if name not in known:
                near = difflib.get_close_matches(name, known, n=1)
                meant = f"; did you mean {near[0]}?" if near else f": {' | '.join(known)}"
                raise ValueError(f"for {language} names of limits, not {name}{meant}")
        RuleLimits.model_validate(limits)
    return value


def read_limits(value: Any) -> Any:
    """A path to a YAML file of limits by language as what is in it; anything else as it is.

    Raises:
        ValueError: the file cannot be read or is no mapping.
    """
    if not isinstance(value, str):
        return value
    try:
        found = yaml.safe_load(Path(value).expanduser().read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise ValueError(f"a YAML file of limits by language; {value}: {error}") from None
    if not isinstance(found, dict) or not all(isinstance(limits, dict) for limits in found.values()):
        raise ValueError(f"a mapping of languages to limits in {value}, as `caravan curate calibrate` writes it")
    return found


def over_built_in(value: ByLanguage) -> ByLanguage:
    """All limits of all languages: those given, and the built-in ones for what was not."""
    built_in = {OTHER: RuleLimits().model_dump(), **built_in_limits()}
    return {
        language: {**built_in.get(language, {}), **value.get(language, {})} for language in sorted({*built_in, *value})
    }


@functools.cache
def built_in_limits() -> ByLanguage:
    """What `limits.yaml` says: units of scripts without spaces, and the limits that depend on them."""
    found: ByLanguage = yaml.safe_load(Path(__file__).with_name("limits.yaml").read_text(encoding="utf-8"))
    return found


LimitsFile = Annotated[ByLanguage, BeforeValidator(read_limits)]
