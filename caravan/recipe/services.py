"""What every service that is asked over HTTP has."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field, PositiveFloat, PositiveInt

from caravan.recipe.base import Section

KeyName = Annotated[str | None, Field(pattern=r"^[A-Za-z_][A-Za-z0-9_]*$")]


class Service(Section):
    """A service that is asked over HTTP."""

    key: KeyName = Field(None, description="environment variable with the key; none: the service has no key")
    at_once: PositiveInt = Field(4, description="requests at a time")
    seconds: PositiveFloat = Field(120, description="time limit of a request")
    tries: PositiveInt = Field(6, description="how often it is asked while it is busy or out of reach")
