from __future__ import annotations

import unicodedata
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from caravan.curate.repairs import RepairStep
from caravan.curate.steps import REPAIRS
from caravan.recipe.curate import CurateConfig

PROSE = "The caravan carries letters from one city to the next."


def mend(*texts: str, language: str = "en", **settings: Any) -> list[tuple[str, str | None, str | None]]:
    """Text, repairs and reason of each."""
    step = RepairStep(CurateConfig.model_validate({"repairs": settings}))
    batch = pa.RecordBatch.from_pydict(
        {"text": pa.array(texts, pa.string()), "language": pa.array([language] * len(texts), pa.string())}
    )
    verdict = step.judge(batch)
    columns = (verdict.columns["text"], verdict.columns[REPAIRS.name], verdict.reason)
    return list(zip(*(column.to_pylist() for column in columns), strict=True))


BROKEN = {
    "mojibake": ("Die GrÃ¶Ã\x9fe der TÃ¼r", "Die Größe der Tür"),
    "line breaks": ("one\r\ntwo\rthree\u2028four", "one\ntwo\nthree\nfour"),
    "invisible characters": ("car\u00ada\u200bvan \ufeffroad\x07", "caravan road"),
    "URL lines": (f"{PROSE}\nhttps://example.com/a www.example.com\n{PROSE}", f"{PROSE}\n{PROSE}"),
    "boilerplate lines": (f"{PROSE}\nAll Rights Reserved 2020\n{PROSE}", f"{PROSE}\n{PROSE}"),
    "long words": (f"before {'x' * 101} after", "before after"),
    "whitespace": ("one  two\tthree \n\n\n\nfour ", "one two three\n\nfour"),
}


@pytest.mark.parametrize("name", BROKEN)
def test_each_repair_mends_its_own_and_says_so(name: str) -> None:
    before, after = BROKEN[name]
    assert mend(before) == [(after, f"{name} {len(before) - len(after)}", None)]


def test_every_repair_can_be_left_out() -> None:
    off = {"mojibake": False, "invisible": False, "whitespace": False, "url_lines": False, "max_word": None,
           "boilerplate": []}  # fmt: skip
    texts = [before for before, _ in BROKEN.values()]
    assert mend(*texts, **off) == [(text, None, None) for text in texts]


def test_several_repairs_of_one_text_are_all_named() -> None:
    assert mend("a\u200bb  c\r\nhttps://example.com") == [
        ("ab c", "line breaks 1, invisible characters 1, URL lines 19, whitespace 2", None)
    ]


@pytest.mark.parametrize("text", [
    PROSE, "Où est le chat\u202f?", "Schön ist „Ünter“ – naïve façade, Ångström", "میخواهم\u200c بروم",
    "👩\u200d👩\u200d👧", "看 https://example.com 这里",
    f"Our privacy policy says what we keep. {PROSE * 5}",
])  # fmt: skip
def test_good_text_stays_as_it_is(text: str) -> None:
    assert mend(text) == [(text, None, None)]


def test_a_paragraph_without_spaces_is_no_long_word() -> None:
    text = "商队把信从一座城市送到另一座城市" * 10
    assert mend(text, language="zh") == [(text, None, None)]
    assert mend("x" * 150, language="en")[0][2] == "nothing left after repairs"


def test_a_text_of_which_nothing_is_left_goes_and_is_shown_as_it_came() -> None:
    text = "https://example.com/a\nwww.example.org"
    assert mend(text, PROSE) == [
        (text, f"URL lines {len(text)}", "nothing left after repairs"), (PROSE, None, None),
    ]  # fmt: skip


@settings(deadline=None, derandomize=True)
@given(st.lists(st.text(max_size=60), min_size=1, max_size=5))
def test_mending_twice_changes_nothing_more(texts: list[str]) -> None:
    usable = [unicodedata.normalize("NFC", text) for text in texts if not any(0xD800 <= ord(c) < 0xE000 for c in text)]
    once = [row for row in mend(*usable, mojibake=False) if row[2] is None] if usable else []
    assert [text for text, *_ in mend(*(text for text, *_ in once), mojibake=False)] == [text for text, *_ in once]
