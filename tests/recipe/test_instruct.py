"""Faults of a source of data, its voices and its translator are named with what was meant."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from caravan.core.errors import RecipeError
from caravan.recipe.load import load_recipe


def fault(tmp_path: Path, source: str) -> str:
    (tmp_path / "r.yaml").write_text(f"name: x\ninstruct:\n  sources:\n    - {source}\n")
    with pytest.raises(RecipeError) as caught:
        load_recipe(tmp_path / "r.yaml")
    return str(caught.value)


@pytest.mark.parametrize(
    ("source", "told"),
    [
        ("{path: a, formt: llava}", "did you mean format?"),
        ("{path: a, format: lava}", "'llava'"),
        ("{path: a, columns: {sound: x}}", "'messages', 'audio', 'image', 'text' or 'translation'"),
        ("{chat: a}", "a source with one of the keys"),
        ("{path: a, speak: {voices: {url: 'http://x', modl: y}}}", "did you mean model?"),
        ("{path: a, speak: {voices: {url: 'ftp://x'}}}", "pattern"),
        ("{path: a, speak: {voices: {name: x}}}", "voices with one of the keys espeak, url, azure"),
        ("{path: a, speak: {speed: [2, 1]}}", "the lower end of a range first"),
        (
            "{path: a, translate: {to: [de], by: {url: 'http://x', model: m, temperatur: 1}}}",
            "did you mean temperature?",
        ),
        ("{path: a, translate: {to: [klingon]}}", "not klingon"),
    ],
)
def test_a_wrong_source_is_named(tmp_path: Path, source: str, told: str) -> None:
    assert told in fault(tmp_path, source)
    assert "r.yaml, line 4" in fault(tmp_path, source)


def test_a_whole_source_loads(tmp_path: Path) -> None:
    source = "{path: a, format: llava, translate: {to: [zh]}, speak: {voices: {azure: westeurope, voices: {zh: [x]}}}}"
    (tmp_path / "r.yaml").write_text(f"name: x\ninstruct:\n  sources:\n    - {source}\n")
    loaded = load_recipe(tmp_path / "r.yaml").instruct
    assert loaded is not None
    assert loaded.model_validate(loaded.model_dump()) == loaded, "a resolved recipe is read as it was"


def test_the_recipes_of_the_docs_load(tmp_path: Path) -> None:
    text = (Path(__file__).parents[2] / "docs/instructions.md").read_text(encoding="utf-8")
    blocks = re.findall(r"```yaml\n(.*?)```", text, re.DOTALL)
    assert len(blocks) == 2
    for block in blocks:
        (tmp_path / "r.yaml").write_text(f"name: x\n{block}", encoding="utf-8")
        assert load_recipe(tmp_path / "r.yaml").instruct
