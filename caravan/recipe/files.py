"""What every source of files has, wherever the files lie."""

from __future__ import annotations

from typing import Any, Self
from urllib.parse import quote

from pydantic import Field, PositiveInt, model_validator

from caravan.recipe.base import Section


class FileSource(Section):
    """What all sources of files have in common: where the files lie."""

    hub: str | None = Field(
        None, pattern=r"^[^/\s]+/[^/\s]+$", description="data set on the Hugging Face hub, owner/name; paths are in it"
    )
    revision: str | None = Field(
        None, description="its branch, tag or commit; `refs/convert/parquet`: the hub's own Parquet of any data set"
    )
    storage_options: dict[str, Any] = Field(
        {}, description="what fsspec is to know of the store, {anon: true} say; secrets belong in the environment"
    )
    max_row_mb: PositiveInt = Field(16, description="a longer line, record or cell is set aside as a broken row")

    @property
    def longest(self) -> int:
        """Bytes of the longest row that is read."""
        return self.max_row_mb << 20

    def located(self, path: str) -> str:
        """A path of this source as one path or URL."""
        if self.hub is None:
            return path
        revision = f"@{quote(self.revision, safe='')}" if self.revision else ""
        return f"hf://datasets/{self.hub}{revision}/{path}"

    @model_validator(mode="after")
    def _revision_of_hub(self) -> Self:
        if self.revision and not self.hub:
            raise ValueError("revision together with hub")
        return self
