"""`caravan curate calibrate`: how limits of the rule filters follow from trusted text."""

from __future__ import annotations

from pydantic import Field, PositiveInt

from caravan.recipe.base import Section


class Calibration(Section):
    """What share of trusted text the rules may drop together, and how far beyond it they reach."""

    loss: float = Field(0.01, gt=0, le=0.1, description="share of a language's trusted text that all rules may drop")
    most: PositiveInt = Field(20_000, description="most texts of a language, drawn from all of them; copies count once")
    least: PositiveInt = Field(200, description="a language with fewer texts is left out, and told of")
    tail: float = Field(
        0.05, gt=0, le=0.5, description="share of texts with the greatest values of a feature that its tail is fit to"
    )
    prior: float = Field(
        0.1,
        gt=0,
        description="to each tail comes one text that lies so far out, as a share of the way to the general limit",
    )
    folds: int = Field(5, ge=2, description="parts of the sample; each is judged by tails fit to the others")
