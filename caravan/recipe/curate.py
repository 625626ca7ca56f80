"""The curate stage: where text comes from, and what is dropped for which reason."""

from __future__ import annotations

import os
from typing import Annotated, Any, Literal, Self

from pydantic import (
    Discriminator,
    Field,
    NonNegativeInt,
    PositiveInt,
    Tag,
    ValidationInfo,
    field_serializer,
    field_validator,
    model_validator,
)

from caravan.recipe.base import Section
from caravan.recipe.duplicates import DuplicateConfig
from caravan.recipe.files import FileSource
from caravan.recipe.learned import CLASSIFIERS, NGRAM_MODELS, PerplexityFilter, QualityFilter
from caravan.recipe.limits import OTHER, ByLanguage, LimitsFile, RuleLimits, known_limits, over_built_in
from caravan.recipe.pairs import PairLimits, PairSource
from caravan.recipe.privacy import PrivacyConfig
from caravan.recipe.samples import SamplesConfig
from caravan.recipe.toxicity import ToxicityConfig


class SampleText(Section):
    """The sample world: its documents and its parallel pairs."""

    samples: SamplesConfig = Field(description="how much of the sample world")


class TextColumns(Section):
    """Which columns, or JSON fields, hold what; `meta.url` is the field url in meta."""

    text: str | list[str] = Field(
        "text", description="the text; of several columns, the texts with an empty line between"
    )
    id: str | None = Field(None, description="the id; default: file and row")
    language: str | None = Field(None, description="the language, where known; otherwise it is identified")
    source: str | None = Field(None, description="where the row is from; default: the file")

    @property
    def texts(self) -> list[str]:
        return [self.text] if isinstance(self.text, str) else self.text

    @property
    def others(self) -> dict[str, str | None]:
        """Column of what else a document has."""
        return {"id": self.id, "language": self.language, "source": self.source}


class TextSource(FileSource):
    """Monolingual text in Parquet, JSONL, plain files or web archives (WARC, WET)."""

    path: str = Field(
        "",
        description="files, as a path, a glob or a URL that fsspec knows (s3://, https://, ...); `{language}` in it "
        "stands for each language of the run, then known. Default with `hub`: all Parquet files",
    )
    columns: TextColumns = Field(default_factory=TextColumns, description="columns or JSON fields: {text: content}")
    language: str | None = Field(None, description="language of all of it, where known; otherwise it is identified")
    format: Literal["parquet", "jsonl", "text", "warc"] | None = Field(
        None, description="default: by the file's suffix"
    )
    documents: Literal["line", "file"] = Field("line", description="in plain text: what makes one document")

    @property
    def pattern(self) -> str:
        """Where the files lie, as one path, glob or URL."""
        return self.located(self.path or "**/*.parquet")

    @model_validator(mode="after")
    def _one_language(self) -> Self:
        if not (self.path or self.hub):
            raise ValueError("a path, or a data set of the hub")
        named = [self.language is not None, self.columns.language is not None, "{language}" in self.path]
        if sum(named) > 1:
            raise ValueError("one of language, columns.language and {language} in path")
        return self


def _source_kind(value: Any) -> str:
    keys = value if isinstance(value, dict) else value.model_dump()
    return "SampleText" if "samples" in keys else "PairSource" if "pairs" in keys else "TextSource"


Source = Annotated[
    Annotated[SampleText, Tag("SampleText")]
    | Annotated[TextSource, Tag("TextSource")]
    | Annotated[PairSource, Tag("PairSource")],
    Discriminator(_source_kind),
]


class LanguageRule(Section):
    """Language identification: fastText's lid.176; py3langid votes too where the text is short or the answer unsure."""

    min_probability: float = Field(0.5, ge=0, le=1, description="least probability for text of unknown language")
    contradiction: float = Field(
        0.8, ge=0, le=1, description="a known language is doubted where another one is at least this probable"
    )
    contradiction_characters: NonNegativeInt = Field(40, description="... and the text at least this long")
    restrict: bool = Field(False, description="choose among the run's languages only")
    window: PositiveInt = Field(
        400, description="bytes looked at in each of three places of a longer document: its start, middle and end"
    )
    short: NonNegativeInt = Field(100, description="up to this many characters both identifiers vote")
    min_line_share: float = Field(
        0,
        ge=0,
        le=1,
        description="least share of a document's characters in lines of its language; 0: lines are not read",
    )
    line_characters: PositiveInt = Field(40, description="... counting lines of at least this many characters")
    chinese: Literal["any", "simplified", "traditional"] = Field(
        "any", description="the way of writing Chinese that is wanted; each text's own is in the column `variant`"
    )


# What C4 takes for notices rather than prose (arXiv 1910.10683), and its like in some other languages.
BOILERPLATE = [
    "javascript", "terms of use", "privacy policy", "cookie policy", "uses cookies", "use of cookies", "use cookies",
    "all rights reserved", "alle rechte vorbehalten", "tous droits réservés", "todos los derechos reservados",
    "todos os direitos reservados", "tutti i diritti riservati", "alle rechten voorbehouden",
    "wszelkie prawa zastrzeżone", "все права защищены", "tüm hakları saklıdır", "版权所有", "無断転載",
]  # fmt: skip


class RepairConfig(Section):
    """Line repairs of documents that the rules let pass; a column says what each of them took from a text."""

    mojibake: bool = Field(True, description="UTF-8 that was read as another encoding is read again (ftfy)")
    invisible: bool = Field(True, description="control and invisible characters go, joiners of letters and emoji stay")
    whitespace: bool = Field(True, description="one kind of line break, single blanks, at most one empty line in a row")
    url_lines: bool = Field(True, description="lines of nothing but URLs go")
    max_word: int | None = Field(100, ge=1, le=999, description="longer words go, in languages with spaces; null: none")
    boilerplate: list[str] = Field(
        BOILERPLATE, description="lines that hold one of these go, in any case, up to 200 characters around it"
    )


class DecontaminationConfig(Section):
    """Text that shares n-grams of words with an item of an evaluation set goes (GPT-3, arXiv 2005.14165, appendix C).

    Case, punctuation and blanks do not count.
    """

    sets: list[TextSource] = Field(
        min_length=1, description="the evaluation sets, as other sources of text; `columns.text` names what of an item"
    )
    n: PositiveInt = Field(13, description="words in an n-gram")
    n_characters: PositiveInt = Field(30, description="characters in an n-gram of a script without spaces")
    shortest: PositiveInt = Field(
        8, description="an item of fewer than `n` words, but so many, is looked for as a whole; shorter ones are not"
    )
    shortest_characters: PositiveInt = Field(13, description="the same in a script without spaces")
    threshold: Annotated[float, Field(ge=0, le=1)] = Field(
        0, description="share of an item's n-grams from which on a text goes; 0: one n-gram is enough"
    )

    @model_validator(mode="after")
    def _short_ones_shorter(self) -> Self:
        if self.shortest > self.n or self.shortest_characters > self.n_characters:
            raise ValueError("shortest up to n, and shortest_characters up to n_characters")
        return self


class CurateConfig(Section):
    """Raw text to a corpus: clean text by language, and a reject stream with reasons."""

    sources: list[Source] = Field(
        [SampleText(samples=SamplesConfig.model_validate({}))],
        min_length=1,
        description="where text and parallel pairs come from",
    )
    language: LanguageRule = Field(default_factory=LanguageRule, description="language identification")
    limits: LimitsFile = Field(
        {},
        description="by language: limits of the rule filters, or a YAML file of them as `caravan curate calibrate` "
        f"writes it; what it leaves out is as built in, `{OTHER}` is for languages that are not in it",
        validate_default=True,
    )
    rules: RuleLimits = Field(
        default_factory=RuleLimits, description="limits that hold for every language, whatever `limits` says"
    )
    overrides: ByLanguage = Field({}, description="by language: limits that hold whatever `limits` and `rules` say")
    repairs: RepairConfig = Field(default_factory=RepairConfig, description="line repairs of what the rules let pass")
    toxicity: ToxicityConfig | None = Field(None, description="lists of words that text should not be full of")
    perplexity: PerplexityFilter | None = Field(
        None, description="n-gram models of trusted text (`caravan curate train-lm`); null: not asked"
    )
    quality: QualityFilter | None = Field(
        None, description="classifiers of trusted text and junk (`caravan curate train-classifier`); null: not asked"
    )
    decontamination: DecontaminationConfig | None = Field(None, description="evaluation sets that text must not hold")
    privacy: PrivacyConfig = Field(default_factory=PrivacyConfig, description="masking of personal data")
    duplicates: DuplicateConfig = Field(default_factory=DuplicateConfig, description="deduplication")
    pairs: PairLimits = Field(default_factory=PairLimits, description="checks of parallel pairs")
    broken: Literal["fail", "skip"] = Field(
        "fail", description="a file that cannot be read: stop, or list it and go on; broken rows are always set aside"
    )
    engine: Literal["local", "ray"] = Field(
        "local",
        description="where text is read and judged: on this machine, or on the nodes of a Ray cluster through Daft",
    )
    workers: NonNegativeInt = Field(0, description="processes, with `ray` on each node; 0: one a core")
    shard_mb: PositiveInt = Field(64, description="compressed size of the pieces into which Parquet files are cut")

    @field_validator("limits", "overrides", mode="after")
    @classmethod
    def _known_limits(cls, value: ByLanguage, info: ValidationInfo) -> ByLanguage:
        return over_built_in(known_limits(value)) if info.field_name == "limits" else known_limits(value)

    @field_serializer("rules")
    def _given_rules(self, rules: RuleLimits) -> dict[str, Any]:
        """Only what the recipe names: written out, the rest would hold for every language."""
        return rules.model_dump(exclude_unset=True)

    def artifacts(self) -> dict[str, str]:
        named = {NGRAM_MODELS: self.perplexity, CLASSIFIERS: self.quality}
        return {kind: section.models for kind, section in named.items() if section}

    def limits_of(self, language: str) -> RuleLimits:
        """The limits for one language."""
        named = self.limits.get(language, self.limits[OTHER])
        given = self.rules.model_dump(exclude_unset=True)
        return RuleLimits.model_validate({**named, **given, **self.overrides.get(language, {})})

    @property
    def evaluation_sets(self) -> list[TextSource]:
        """What text must not hold."""
        return self.decontamination.sets if self.decontamination else []

    def processes(self) -> int:
        """How many processes or threads are at work."""
        return self.workers or len(os.sched_getaffinity(0))

    def shingle(self, language: str) -> int:
        """Words in a shingle of text in one language."""
        return self.duplicates.shingle_characters if self.limits_of(language).unit > 1 else self.duplicates.shingle
