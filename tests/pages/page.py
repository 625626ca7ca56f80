"""A page of a report as a test sees it."""

from __future__ import annotations

import re
from html.parser import HTMLParser


class Page(HTMLParser):
    """Tags and the addresses in them."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.text = text
        self.tags: list[str] = []
        self.addresses: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.addresses += [value or "" for name, value in attributes if name in ("src", "href", "xlink:href", "srcset")]

    @property
    def loads_nothing(self) -> bool:
        """Whether styles, scripts, plots and media are all within it."""
        own = all(address.startswith(("data:", "#")) for address in self.addresses)
        return own and "link" not in self.tags and not re.search(r"url\(['\"]?(?!#)", self.text)
