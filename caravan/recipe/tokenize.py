"""The tokenize stage: the vocabulary, and how text is packed."""

from __future__ import annotations

from pydantic import Field, PositiveInt

from caravan.recipe.base import Section


class TokenizeConfig(Section):
    """Corpus to a byte-level BPE tokenizer and packed tokens."""

    existing: str | None = Field(
        None, description="folder or hub name of a tokenizer to use in place of a new one; special tokens are added"
    )
    vocab_size: int = Field(4096, ge=512, description="size of the vocabulary, bytes and special tokens included")
    alpha: float = Field(
        0.3, ge=0, le=1, description="languages are sampled in proportion to share ** alpha: 1 as they are, 0 all alike"
    )
    train_bytes: PositiveInt = Field(50_000_000, description="most bytes of text to learn the vocabulary from")
    min_frequency: PositiveInt = Field(2, description="least number of times a merged pair must occur")
    heldout: float = Field(0.01, gt=0, lt=1, description="share of documents kept out of training, for bits per byte")
    compare: list[str] = Field([], description="folders or hub names of tokenizers to compare the fertility with")
