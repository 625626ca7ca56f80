"""Translation Memory eXchange (TMX 1.4b): units with a variant a language."""

from __future__ import annotations

from collections.abc import Iterator
from xml.etree import ElementTree

import pyarrow as pa

from caravan.curate.lines import first_line
from caravan.curate.rows import BrokenFileError
from caravan.curate.shards import Shard
from caravan.curate.stores import open_unpacked

XML_LANGUAGE = "{http://www.w3.org/XML/1998/namespace}lang"
# Markup of the translated file, not text: what stands within goes, what follows stays.
CODES = frozenset({"bpt", "ept", "it", "ph", "ut"})
WITHDRAWN = {"iw": "he", "in": "id", "ji": "yi"}


def tmx_sides(shard: Shard) -> Iterator[tuple[int, dict[str, str]]]:
    """Number of each unit from 1, and its text by language; of two variants in a language the first counts.

    Raises:
        BrokenFileError: no TMX, or the rest of it cannot be read.
    """
    number = 0
    try:
        with open_unpacked(shard.path, shard.options) as stream:
            events = ElementTree.iterparse(stream, events=("start", "end"))
            _, root = next(events)
            if root.tag != "tmx":
                raise BrokenFileError(f"no TMX: the outermost element is {root.tag}")
            body = root
            for event, element in events:
                if event == "start":
                    body = element if element.tag == "body" else body
                elif element.tag == "tu":
                    number += 1
                    yield number, _variants(element)
                    body.clear()  # what was read leaves memory
    except (ElementTree.ParseError, pa.ArrowException, OSError) as error:
        raise BrokenFileError(f"after unit {number}: {first_line(error)}" if number else first_line(error)) from error


def _variants(unit: ElementTree.Element) -> dict[str, str]:
    sides: dict[str, str] = {}
    for variant in unit.iter("tuv"):
        segment = variant.find("seg")
        if segment is not None:
            sides.setdefault(_language(variant.get(XML_LANGUAGE) or variant.get("lang") or ""), _text(segment).strip())
    return sides


def _text(element: ElementTree.Element) -> str:
    inner = "" if element.tag in CODES else (element.text or "") + "".join(map(_text, element))
    return inner + ("" if element.tag == "seg" else element.tail or "")


def _language(tag: str) -> str:
    """ISO 639-1 code of a tag such as EN-US or pt_BR."""
    code = tag.replace("_", "-").split("-")[0].lower()
    return WITHDRAWN.get(code, code)
