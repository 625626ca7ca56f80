"""Filters that learn from trusted text: how their models are trained, and what of text they let pass."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, NonNegativeInt, PositiveFloat, PositiveInt, field_validator

from caravan.recipe.base import Section

NGRAM_MODELS, CLASSIFIERS = "ngram-models", "classifiers"
Probability = Annotated[float, Field(ge=0, le=1)]
Quantile = Annotated[float, Field(ge=0, le=1)]


class TrustedText(Section):
    """What of the trusted text is taken: one pass over it, texts that come twice once."""

    megabytes: PositiveFloat = Field(100, description="most text of a language, in MB of UTF-8")
    held_out: float = Field(0.1, gt=0, le=0.5, description="share of texts that is not learnt, for thresholds")
    most_held_out: PositiveInt = Field(5000, description="... and the most texts of a language")
    min_documents: PositiveInt = Field(50, description="a language with fewer texts is left out, and told of")
    window: NonNegativeInt = Field(
        1000, description="bytes looked at in each of three places of a longer text: start, middle, end; 0: all of it"
    )


class NgramTraining(TrustedText):
    """`caravan curate train-lm`: an interpolated modified Kneser-Ney model a language."""

    order: int = Field(3, ge=2, le=6, description="words in the longest n-grams")
    vocabulary: int = Field(200_000, ge=1, le=16_000_000, description="most words; others are `<unk>`")
    arpa: str | None = Field(
        None,
        description="ARPA files of models that there are, as of KenLM's lmplz, with `{language}` in the path: taken in "
        "place of trained ones; the text gives their thresholds",
    )
    min_count: PositiveInt = Field(1, description="a word that comes less often is `<unk>`")
    prune: tuple[NonNegativeInt, ...] = Field(
        (0, 1),
        min_length=1,
        description="by length from 2 words on, the last for all longer ones: n-grams that come so often or less go",
    )

    @field_validator("prune", mode="after")
    @classmethod
    def _not_falling(cls, value: tuple[int, ...]) -> tuple[int, ...]:
        if list(value) != sorted(value):
            raise ValueError("numbers that do not fall: a shorter n-gram is needed by the longer ones")
        return value

    def pruned(self) -> list[int]:
        """Of each length from 2 on, the most frequent n-grams that go."""
        return [*self.prune, *[self.prune[-1]] * self.order][: self.order - 1]


class ClassifierTraining(TrustedText):
    """`caravan curate train-classifier`: logistic regression on hashed n-grams, a classifier a language.

    What is said of trusted text holds for the junk, too.
    """

    words: int = Field(2, ge=1, le=5, description="words in the longest n-grams of words")
    characters: tuple[PositiveInt, PositiveInt] = Field(
        (1, 3), description="characters in the shortest and the longest n-grams of characters"
    )
    bits: int = Field(20, ge=5, le=30, description="2 to this power are the places that n-grams share by their hash")
    epochs: PositiveInt = Field(10, description="passes over the text")
    rate: PositiveFloat = Field(4, description="learning rate at the start, which falls to 0")

    @field_validator("characters", mode="after")
    @classmethod
    def _some(cls, value: tuple[int, int]) -> tuple[int, int]:
        if value[0] > value[1]:
            raise ValueError("the shorter length first")
        return value


class PerplexityFilter(Section):
    """How likely text is by n-gram models of trusted text; limits are quantiles of the text held out from them."""

    models: str = Field(description="folder that `caravan curate train-lm` wrote")
    perplexity_quantile: Quantile | None = Field(
        0.995, description="text of a higher perplexity than this share of the trusted text goes; null: none"
    )
    coherence_quantile: Quantile | None = Field(
        0.005,
        description="text whose words gain less from the words before them (mean log10 of the ratio to the word alone) "
        "than in all but this share of the trusted text goes; null: none",
    )
    buckets: tuple[Quantile, Quantile] = Field(
        (1 / 3, 2 / 3), description="perplexity quantiles at which the bucket turns from head to middle to tail (CCNet)"
    )
    drop: list[Literal["head", "middle", "tail"]] = Field([], description="buckets that go")

    @field_validator("buckets", mode="after")
    @classmethod
    def _rising(cls, value: tuple[float, float]) -> tuple[float, float]:
        if value[0] > value[1]:
            raise ValueError("the lower quantile first")
        return value


class QualityFilter(Section):
    """How much text looks like trusted text rather than junk, by n-gram classifiers."""

    models: str = Field(description="folder that `caravan curate train-classifier` wrote")
    quantile: Quantile | None = Field(
        0.005, description="text of a lower probability than all but this share of the trusted text goes; null: none"
    )
    threshold: Probability | dict[str, Probability] | None = Field(
        None, description="least probability, for all languages or by language; it takes the place of the quantile"
    )
    pareto: PositiveFloat | None = Field(
        None,
        description="text below the limit stays all the same where a draw from a Pareto distribution of this shape is "
        "above 1 less its probability (GPT-3, arXiv 2005.14165, took 9 and threshold 1)",
    )
