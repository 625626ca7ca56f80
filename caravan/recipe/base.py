"""The base of every section of a recipe."""

from __future__ import annotations

from typing import Any, ClassVar

from pydantic import BaseModel, ConfigDict


class Section(BaseModel):
    """Strict: unknown keys are errors, and nothing changes after validation."""

    model_config = ConfigDict(extra="forbid", frozen=True, validate_default=True)

    # Keys that say how the work is done, not what comes of it: they may change while a stage is unfinished.
    ASIDE: ClassVar[frozenset[str]] = frozenset()

    def basis(self) -> dict[str, Any]:
        """What a stage's key is made of."""
        return self.model_dump(mode="json", by_alias=True, exclude=set(self.ASIDE))

    def artifacts(self) -> dict[str, str]:
        """Finished artifacts that a stage's section names, folder by kind; what they hold is part of its key."""
        return {}

    def replaces(self) -> tuple[str, ...]:
        """Kinds of artifact that the section's keys take the place of, so that the stage does not read them."""
        return ()
