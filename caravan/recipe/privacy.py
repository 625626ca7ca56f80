"""Personal data in text: what is masked, and by what."""

from __future__ import annotations

from pydantic import Field, field_validator

from caravan.recipe.base import Section

# Countries whose telephone numbers are looked for in text of a language, as ISO 3166 codes.
COUNTRIES = {
    "zh": ["CN", "TW", "HK"], "en": ["US", "GB", "AU", "IN"], "ru": ["RU"], "es": ["ES", "MX", "AR", "CO"],
    "fr": ["FR", "BE", "CH"], "pt": ["BR", "PT"], "de": ["DE", "AT", "CH"], "it": ["IT", "CH"], "nl": ["NL", "BE"],
    "pl": ["PL"], "ar": ["EG", "SA", "AE"], "tr": ["TR"], "he": ["IL"], "ja": ["JP"], "ko": ["KR"], "th": ["TH"],
    "vi": ["VN"], "id": ["ID"],
}  # fmt: skip


class PrivacyConfig(Section):
    """Placeholders for personal data in documents and pairs, a kind each; null leaves a kind as it is.

    On by default: what a corpus tells of people, a model can tell on. A column counts what was masked in each text.
    """

    email: str | None = Field("<EMAIL>", description="for email addresses; those of example domains stay")
    phone: str | None = Field(
        "<PHONE>", description="for valid telephone numbers, written as such or after a word such as `Tel.`"
    )
    ip: str | None = Field("<IP>", description="for public IP addresses, of version 4 and 6")
    private_ips: bool = Field(False, description="addresses of private networks, loopback and the like too")
    id: str | None = Field(
        "<ID>", description="for national ids of people, by their check digits and their written form or name"
    )
    countries: dict[str, list[str]] = Field(
        COUNTRIES, description="by language: countries whose telephone numbers are known without a leading +"
    )

    @field_validator("countries", mode="after")
    @classmethod
    def _with_built_in(cls, value: dict[str, list[str]]) -> dict[str, list[str]]:
        return {**COUNTRIES, **value}

    @property
    def placeholders(self) -> dict[str, str]:
        """Placeholder of each kind that is masked."""
        kinds = {"email": self.email, "phone": self.phone, "ip": self.ip, "id": self.id}
        return {kind: placeholder for kind, placeholder in kinds.items() if placeholder is not None}
