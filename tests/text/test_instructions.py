from __future__ import annotations

from collections import Counter

import pytest

from caravan.records import LANGUAGES
from caravan.text.instructions import INSTRUCTIONS, draw, instruction
from caravan.text.tokens import SPECIAL_TOKENS


@pytest.mark.parametrize("wish", INSTRUCTIONS)
def test_every_language_has_four_distinct_phrasings(wish: str) -> None:
    pool = INSTRUCTIONS[wish]  # type: ignore[index]
    assert set(pool) == set(LANGUAGES)
    assert all(len(set(phrases)) >= 4 for phrases in pool.values())
    assert not any(token in phrase for phrases in pool.values() for phrase in phrases for token in SPECIAL_TOKENS)


def test_no_phrase_serves_two_wishes_of_a_language() -> None:
    """Else the model could not know what is asked."""
    for language in LANGUAGES:
        phrases = [phrase for pool in INSTRUCTIONS.values() for phrase in pool[language]]
        assert len(set(phrases)) == len(phrases), language


def test_choice_depends_on_seed_and_row_alone_and_reaches_everything() -> None:
    assert instruction("caption", "th", 7, "row 3") == instruction("caption", "th", 7, "row 3")
    drawn = Counter(instruction("transcribe", "en", 7, f"row {i}") for i in range(400))
    assert len(drawn) == 2 * len(INSTRUCTIONS["transcribe"]["en"])
    assert min(drawn.values()) > 400 / len(drawn) / 2


def test_draw_tells_its_key_parts_apart() -> None:
    assert draw(1 << 60, "ab", "c") != draw(1 << 60, "a", "bc")
