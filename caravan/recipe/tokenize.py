"""The tokenize stage: the vocabulary, and how text is packed."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, NonNegativeInt, PositiveInt, model_validator

from caravan.recipe.base import Section


class ChineseConfig(Section):
    """Chinese by characters and words: text is cut into words first, so that no token joins parts of two words."""

    words: NonNegativeInt = Field(
        20_000,
        description="most frequent words of jieba's dictionary that become a token each, whatever else is learnt",
    )
    both_scripts: bool = Field(
        True, description="learn from lines in Simplified and in Traditional characters by turns (OpenCC)"
    )


class TokenizeConfig(Section):
    """Corpus to a tokenizer and packed tokens."""

    existing: str | None = Field(
        None, description="folder or hub name of a tokenizer to use in place of a new one; special tokens are added"
    )
    extend: str | None = Field(
        None,
        description="folder or hub name of a BPE tokenizer to which pieces learnt on the corpus are added;"
        " `pretrain.from` with the same name gives its model rows for them",
    )
    new_pieces: PositiveInt = Field(8192, description="how many pieces `extend` adds, special tokens not counted")
    style: Literal["byte_level", "sentencepiece"] = Field(
        "byte_level",
        description="a new tokenizer's kind: BPE over bytes as GPT-2's, or over characters as Llama 2's and Gemma's,"
        " spaces as ▁, the rest as bytes",
    )
    normalization: Literal["none", "nfkc"] = Field("none", description="of text, in a new tokenizer")
    character_coverage: float = Field(
        0.9995, gt=0, le=1, description="sentencepiece: share of the characters of text that get a token of their own"
    )
    vocab_size: int = Field(4096, ge=512, description="size of a new vocabulary, bytes and special tokens included")
    alpha: float = Field(
        0.3, ge=0, le=1, description="languages are sampled in proportion to share ** alpha: 1 as they are, 0 all alike"
    )
    train_bytes: PositiveInt = Field(50_000_000, description="most bytes of text to learn the vocabulary from")
    min_frequency: PositiveInt = Field(2, description="least number of times a merged pair must occur")
    chinese: ChineseConfig | None = Field(
        None, description="learn Chinese by characters and words; null: like any other language"
    )
    heldout: float = Field(0.01, gt=0, lt=1, description="share of documents kept out of training, for bits per byte")
    compare: list[str] = Field([], description="folders or hub names of tokenizers to compare the fertility with")
    baseline: str | None = Field(
        None, description="one of `compare`, or `characters`: what the report's relative numbers of tokens are to"
    )

    @model_validator(mode="after")
    def _one_origin(self) -> TokenizeConfig:
        if self.existing and self.extend:
            raise ValueError("`existing` or `extend`, not both")
        known = ["bytes", "characters", *self.compare]
        if self.baseline is not None and self.baseline not in known:
            raise ValueError(f"a baseline that is measured: {' | '.join(known)}")
        return self
