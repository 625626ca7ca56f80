"""Parallel text: where pairs come from, and which of them are refused."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import Field, NonNegativeInt, PositiveFloat, PositiveInt, field_validator, model_validator

from caravan.recipe.base import Section
from caravan.recipe.files import FileSource

ROW_LANGUAGE = "xx"
LANGUAGE_MARK = "{language}"


class PairSource(FileSource):
    """Parallel text: tables with a column a language, files of one language each (Moses), or TMX."""

    pairs: str = Field(
        description="files, as a path, a glob or a URL that fsspec knows; `{language}` in it stands for each language: "
        "files that differ in it alone are aligned line by line (Moses)"
    )
    format: Literal["parquet", "jsonl", "tsv", "tmx"] | None = Field(None, description="default: by the file's suffix")
    columns: dict[str, str | PositiveInt] | None = Field(
        None,
        description="column of each language, by its name, `a.b` for one within another, or in TSV without a head by "
        "its place from 1; the key `xx` stands for the language in language_column. "
        "Default: the columns that are named after a language of the run, also within `translation`",
    )
    language_column: str | PositiveInt | None = Field(None, description="column that names the language `xx` of a row")
    languages: list[str] | None = Field(None, description="only these languages; default: the run's")
    pivot: str = Field("en", description="language that every other is paired with")
    others: int = Field(
        1, ge=0, le=255, description="pairs a row, drawn at random, between languages other than the pivot"
    )

    @property
    def pattern(self) -> str:
        """Where the files lie, as one path, glob or URL."""
        return self.located(self.pairs)

    @model_validator(mode="after")
    def _row_language(self) -> Self:
        named = self.columns is not None and ROW_LANGUAGE in self.columns
        if named != (self.language_column is not None):
            raise ValueError("`xx` in columns together with language_column, or neither")
        if LANGUAGE_MARK in self.pairs and (self.columns or self.format):
            raise ValueError("files of one language each, by {language} in the path, have no columns and no format")
        return self


Share = Annotated[float, Field(ge=0, le=1)]


class PairLimits(Section):
    """Limits of parallel pairs; after Bicleaner's hard rules and OpusFilter (github.com/Helsinki-NLP/OpusFilter)."""

    min_letters: Share = Field(
        0.25, description="least share of letters among a side's characters that are not spaces, on the poorer side"
    )
    max_similarity: Share = Field(
        0.9, description="greatest similarity of the sides, 1 less their edit distance over the longer one's length"
    )
    similar_characters: NonNegativeInt = Field(20, description="... from this many characters on: names stay")
    max_shared_words: Share = Field(
        0.7, description="greatest share of one side's different words that stand in the other side too"
    )
    shared_words_from: PositiveInt = Field(
        10, description="... from this many different words on; in scripts without spaces, characters"
    )
    min_numbers: Share = Field(
        0.25, description="least agreement of the digits 1 to 9 on both sides, whatever their order and script"
    )
    number_digits: PositiveInt = Field(
        5, description="... where one side has at least this many: fewer are often written out as words"
    )
    contradiction: Share = Field(0.8, description="probability at which another language than stated is believed")
    language_characters: NonNegativeInt = Field(
        60, description="a side's language is identified from this many characters on"
    )
    max_ratio: float = Field(
        3.0, gt=1, description="greatest ratio of the sides' lengths, by what is usual between the two languages"
    )
    ratio_characters: NonNegativeInt = Field(20, description="... where the longer side is at least this long")
    usual_ratio: dict[str, PositiveFloat] = Field(
        {},
        description="by pair of languages, such as `de-en`: characters of the second for one of the first. "
        "Default: the median of the pairs themselves, where there are enough",
    )
    ratio_from: PositiveInt = Field(
        200, description="pairs that a median needs; below, what is usual between the scripts"
    )
    max_repeats: PositiveInt | None = Field(
        10, description="pairs of two languages that may share one side, each with another text beside it; null: any"
    )

    @field_validator("usual_ratio", mode="after")
    @classmethod
    def _alphabetical(cls, value: dict[str, float]) -> dict[str, float]:
        if wrong := [pair for pair in value if len(pair.split("-")) != 2 or pair != "-".join(sorted(pair.split("-")))]:
            raise ValueError(f"two languages in alphabetical order, such as de-en, not {', '.join(wrong)}")
        return value
