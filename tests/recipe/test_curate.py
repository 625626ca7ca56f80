from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from caravan.recipe.curate import CurateConfig, SampleText, TextSource
from caravan.recipe.pairs import PairSource


def test_the_kind_of_a_source_follows_from_its_keys() -> None:
    sources = [{"path": "a.jsonl"}, {"pairs": "b.parquet"}, {"samples": {"documents": 5}}]
    config = CurateConfig.model_validate({"sources": sources})
    assert [type(source) for source in config.sources] == [TextSource, PairSource, SampleText]


def test_a_resolved_section_gives_the_same_section() -> None:
    config = CurateConfig.model_validate({"overrides": {"zh": {"min_characters": 2}, "de": {"max_word": 90}}})
    assert CurateConfig.model_validate(config.model_dump(mode="json")) == config


def test_limits_of_a_language_add_to_the_built_in_ones_and_win_over_the_general() -> None:
    config = CurateConfig.model_validate({"rules": {"min_characters": 50}, "overrides": {"zh": {"max_digits": 0.9}}})
    assert config.limits("en").min_characters == 50
    assert (config.limits("zh").min_characters, config.limits("zh").max_digits) == (4, 0.9)
    assert config.limits("zh").unit > 1 == config.limits("en").unit


def test_scripts_without_spaces_are_shingled_by_character() -> None:
    config = CurateConfig.model_validate({"duplicates": {"shingle": 3, "shingle_characters": 9}})
    assert [config.shingle(language) for language in ("en", "ko", "zh", "ja", "th")] == [3, 3, 9, 9, 9]


@pytest.mark.parametrize(
    ("section", "said"),
    [
        ({"overrides": {"zh": {"min_chars": 2}}}, "min_chars"),
        ({"overrides": {"zh": {"max_digits": 2}}}, "less than or equal to 1"),
        ({"sources": [{"path": "{language}.txt", "language": "en"}]}, "one of language, columns.language"),
        ({"sources": [{"pairs": "a", "columns": {"en": "en", "xx": "xx"}}]}, "language_column"),
        ({"sources": [{"pairs": "a", "language_column": "lang"}]}, "xx"),
        ({"sources": [{"path": "a", "revision": "main"}]}, "revision together with hub"),
        ({"sources": [{"language": "en"}]}, "a path, or a data set of the hub"),
        ({"sources": [{"hub": "no-owner"}]}, "pattern"),
        ({"sources": [{"path": "a", "columns": {"txt": "b"}}]}, "txt"),
        ({"sources": []}, "at least 1"),
        ({"sources": [{"path": "a", "pth": "b"}]}, "pth"),
    ],
)
def test_a_wrong_section_is_refused(section: dict[str, Any], said: str) -> None:
    with pytest.raises(ValidationError, match=said):
        CurateConfig.model_validate(section)
