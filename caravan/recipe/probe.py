"""What `caravan lr-probe` is told."""

from __future__ import annotations

from pydantic import Field, PositiveFloat, PositiveInt, ValidationInfo, field_validator

from caravan.recipe.base import Section


class ProbeConfig(Section):
    """A learning rate that rises until the gradient norm spikes."""

    lowest: PositiveFloat = Field(1e-6, description="rate of the first step")
    highest: PositiveFloat = Field(1.0, description="rate of the last step")
    steps: PositiveInt = Field(200, description="steps from one to the other, each by the same factor")

    @field_validator("highest")
    @classmethod
    def _rises(cls, highest: float, info: ValidationInfo) -> float:
        if info.data.get("lowest", 0.0) >= highest:
            raise ValueError(f"more than lowest, which is {info.data['lowest']}")
        return highest
