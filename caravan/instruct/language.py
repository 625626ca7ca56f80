"""In which language a row is: by a column, by the recipe, or by its text."""

from __future__ import annotations

import re
from typing import Any

from caravan.instruct.rows import Row
from caravan.records import LANGUAGES
from caravan.text.languages import identify

DETECT = "detect"
COLUMNS = ("lang", "language", "locale")
# ISO 639-3 and other codes of the eighteen, as data sets use them; longer tags give way to their first part.
CODES = {
    "cmn": "zh", "zho": "zh", "chi": "zh", "eng": "en", "rus": "ru", "spa": "es", "fra": "fr", "fre": "fr",
    "por": "pt", "deu": "de", "ger": "de", "ita": "it", "nld": "nl", "dut": "nl", "pol": "pl", "ara": "ar", "arb": "ar",
    "tur": "tr", "heb": "he", "iw": "he", "jpn": "ja", "kor": "ko", "tha": "th", "vie": "vi", "ind": "id", "in": "id",
}  # fmt: skip
_TAG = re.compile(r"([a-z]{2,3})([-_][a-z0-9]+)*", re.IGNORECASE)


def code_of(tag: Any) -> str:
    """The language of a tag such as `zh-CN`, `en_US` or `deu`; empty if it is none."""
    match = _TAG.fullmatch(tag) if isinstance(tag, str) else None
    first = match[1].lower() if match else ""
    return CODES.get(first, first)


class Languages:
    """Tells the language of rows.

    Args:
        said: the recipe's word: a code, a column, `detect`, or None for one of the usual columns.
    """

    def __init__(self, said: str | None) -> None:
        self.said = said

    def of(self, row: Row, text: str) -> str:
        """The row's language; empty with the fault noted where nothing tells it."""
        if self.said in LANGUAGES:
            return str(self.said)
        if self.said == DETECT:
            return identify(text) if text.strip() else ""
        names = [self.said] if self.said else [name for name in COLUMNS if name in row.values]
        field = names[0] if names else COLUMNS[0]
        language = code_of(row.values.get(field))
        if not language:
            row.fault(
                "language unknown",
                field,
                expected=f"a code such as {', '.join(LANGUAGES[:3])}",
                got=row.values.get(field),
                fix="give `language`: a code for all rows, the name of a column, or `detect`",
            )
        return language
