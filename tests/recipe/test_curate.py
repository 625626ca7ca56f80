from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from caravan.recipe.curate import CurateConfig, SampleText, TextSource
from caravan.recipe.limits import OTHER, RuleLimits
from caravan.recipe.pairs import PairSource


def test_the_kind_of_a_source_follows_from_its_keys() -> None:
    sources = [{"path": "a.jsonl"}, {"pairs": "b.parquet"}, {"samples": {"documents": 5}}]
    config = CurateConfig.model_validate({"sources": sources})
    assert [type(source) for source in config.sources] == [TextSource, PairSource, SampleText]


def test_a_resolved_section_gives_the_same_section() -> None:
    config = CurateConfig.model_validate({"overrides": {"zh": {"min_characters": 2}, "de": {"max_word": 90}}})
    assert CurateConfig.model_validate(config.model_dump(mode="json")) == config


def test_limits_are_built_in_then_the_files_then_the_rules_then_the_overrides() -> None:
    config = CurateConfig.model_validate({
        "limits": {"zh": {"max_digits": 0.9, "max_urls": 0.8}, "xx": {"max_word": 7}, OTHER: {"max_word": 9}},
        "rules": {"min_characters": 50, "max_urls": 0.7},
        "overrides": {"zh": {"max_urls": 0.6}},
    })  # fmt: skip
    zh, en = config.limits_of("zh"), config.limits_of("en")
    assert (zh.min_characters, zh.max_digits, zh.max_urls, en.max_urls) == (50, 0.9, 0.6, 0.7)
    assert zh.unit > 1 == en.unit
    assert (config.limits_of("xx").max_word, config.limits_of("yy").max_word) == (7, 9)


def test_a_file_of_limits_is_read_when_the_recipe_is_and_its_content_counts(tmp_path: Path) -> None:
    file = tmp_path / "limits.yaml"
    file.write_text("en: {max_digits: 0.25}\n")
    config = CurateConfig.model_validate({"limits": str(file)})
    assert config.limits_of("en").max_digits == 0.25
    first = config.model_dump(mode="json")
    file.write_text("en: {max_digits: 0.5}\n")
    assert CurateConfig.model_validate(first) == config
    assert CurateConfig.model_validate({"limits": str(file)}).model_dump(mode="json") != first


def test_every_limit_stands_in_the_resolved_section() -> None:
    section = CurateConfig().model_dump(mode="json")
    assert section["limits"][OTHER] == RuleLimits().model_dump()
    assert section["rules"] == {}


def test_a_broken_file_of_limits_is_named(tmp_path: Path) -> None:
    file = tmp_path / "limits.yaml"
    file.write_text("- 1\n")
    with pytest.raises(ValidationError, match="a mapping of languages to limits in .*limits.yaml"):
        CurateConfig.model_validate({"limits": str(file)})
    with pytest.raises(ValidationError, match="No such file"):
        CurateConfig.model_validate({"limits": str(tmp_path / "none.yaml")})


def test_scripts_without_spaces_are_shingled_by_character() -> None:
    config = CurateConfig.model_validate({"duplicates": {"shingle": 3, "shingle_characters": 9}})
    assert [config.shingle(language) for language in ("en", "ko", "zh", "ja", "th")] == [3, 3, 9, 9, 9]


@pytest.mark.parametrize(
    ("section", "said"),
    [
        ({"overrides": {"zh": {"min_chars": 2}}}, "did you mean min_characters"),
        ({"limits": {"zh": {"min_chars": 2}}}, "for zh names of limits, not min_chars"),
        ({"limits": {"zh": {"max_digits": 2}}}, "less than or equal to 1"),
        ({"limits": {"zh": {"max_digits": "many"}}}, "valid number"),
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
