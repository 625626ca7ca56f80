"""What counts as a copy, and which of several copies stays."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, PositiveInt

from caravan.recipe.base import Section

Share = Annotated[float, Field(ge=0, le=1)]


class RepeatedParts(Section):
    """Lines, or paragraphs, that stand in many documents of a language go; the documents stay."""

    max_documents: PositiveInt = Field(1, description="a part that stands in more documents goes")
    min_characters: PositiveInt = Field(30, description="visible characters; shorter parts stay")
    keep: Literal["first", "none"] = Field("first", description="it stays in the first document, or in none")


class DuplicateConfig(Section):
    """Exact copies by hash of the normalised text, near copies by MinHash-LSH, each within a language."""

    exact: bool = Field(True, description="drop copies that differ in case, spacing or invisible characters only")
    near: bool = Field(True, description="drop near copies")
    bands: PositiveInt = Field(14, description="LSH bands")
    rows: PositiveInt = Field(6, description="MinHash rows a band")
    shingle: PositiveInt = Field(5, description="words in a shingle")
    shingle_characters: PositiveInt = Field(
        8, description="characters in a shingle, for languages written without spaces (those with a `unit` above 1)"
    )
    verify: Share = Field(
        0.7, description="least true Jaccard similarity of the shingles of what shares a band; 0: all of it is near"
    )
    keep: Literal["first", "longest", "best"] = Field(
        "first",
        description="which of a group of copies is kept; best: of the highest quality, then the lowest perplexity (as "
        "far as those filters are asked), then with the fewest repairs, then the longest; then the first",
    )
    lines: RepeatedParts | None = Field(None, description="lines of many documents; null: they stay")
    paragraphs: RepeatedParts | None = Field(
        None, description="paragraphs, which empty lines part, of many documents; null: they stay"
    )
    index: bool = Field(
        False, description="write an index into the corpus, with which later runs compare their text (`against`)"
    )
    against: list[str] = Field(
        [], description="corpora with an index (`curate.duplicates.index=true`), or their folders `index`, as paths "
        "or globs: what is a copy of a document in one of them goes"
    )  # fmt: skip
    memory: str = Field("1GB", pattern=r"^\d+(\.\d+)?(MB|GB)$", description="memory of grouping; more goes to disk")

    @property
    def parts(self) -> dict[str, RepeatedParts]:
        """Which parts of documents are compared, by unit."""
        wanted = {"line": self.lines, "paragraph": self.paragraphs}
        return {unit: limits for unit, limits in wanted.items() if limits}
