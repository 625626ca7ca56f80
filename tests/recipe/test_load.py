from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from caravan.core.errors import RecipeError, UsageError
from caravan.recipe.calibration import Calibration
from caravan.recipe.learned import NgramTraining
from caravan.recipe.load import apply_override, from_options, load_recipe
from caravan.recipe.recipe import Recipe
from caravan.recipe.train import StackConfig
from caravan.road import ROAD, resolved

RECIPES = sorted((Path(__file__).parents[2] / "recipes").rglob("*.yaml"))


def write(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "recipe.yaml"
    path.write_text(text, encoding="utf-8")
    return path


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.stem)
def test_every_recipe_loads_and_its_resolved_form_is_the_same_recipe(path: Path, tmp_path: Path) -> None:
    loaded = load_recipe(path)
    assert load_recipe(write(tmp_path, resolved(loaded))) == loaded


def test_a_bare_stage_runs_on_its_defaults_and_an_absent_one_does_not(tmp_path: Path) -> None:
    recipe = load_recipe(write(tmp_path, "name: x\nsft:\nexport: false\n"))
    assert recipe.sft is not None
    assert recipe.export is None
    assert recipe.align is None


def test_every_stage_of_the_road_has_its_key() -> None:
    assert {stage.name for stage in ROAD} <= set(Recipe.model_fields)


def test_an_unknown_key_gets_line_field_and_a_suggestion(tmp_path: Path) -> None:
    path = write(tmp_path, "name: x\nsft:\n  learning_rat: 1.0\n")
    with pytest.raises(RecipeError) as caught:
        load_recipe(path)
    assert caught.value.where == f"{path}, line 3, field sft.learning_rat"
    assert caught.value.got == "learning_rat"
    assert caught.value.fix == "did you mean learning_rate?"
    assert caught.value.exit_code == 2


def test_every_fault_is_named_at_once(tmp_path: Path) -> None:
    path = write(tmp_path, "name: x\nseed: minus\nsft:\n  learning_rate: fast\n")
    with pytest.raises(RecipeError, match="2 faults") as caught:
        load_recipe(path)
    assert "line 2, field seed" in str(caught.value)
    assert "line 4, field sft.learning_rate" in str(caught.value)
    assert "got: 'fast'" in str(caught.value)


def test_a_key_twice_is_refused_with_both_lines(tmp_path: Path) -> None:
    path = write(tmp_path, "name: x\nseed: 1\nseed: 2\n")
    with pytest.raises(RecipeError, match="stands twice") as caught:
        load_recipe(path)
    assert caught.value.got == "first on line 2, again on line 3"


@pytest.mark.parametrize("text", ["name: [x\n", "- a\n- b\n", "\tname: x\n"])
def test_what_is_no_mapping_is_refused(tmp_path: Path, text: str) -> None:
    with pytest.raises(RecipeError) as caught:
        load_recipe(write(tmp_path, text))
    assert str(tmp_path) in str(caught.value)


def test_a_missing_or_binary_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match="cannot be read"):
        load_recipe(tmp_path / "none.yaml")
    (tmp_path / "binary.yaml").write_bytes(b"\xff\xfe\x00\x80")
    with pytest.raises(RecipeError, match="cannot be read"):
        load_recipe(tmp_path / "binary.yaml")


def test_overrides_win_and_their_faults_point_to_the_command_line(tmp_path: Path) -> None:
    path = write(tmp_path, "name: x\nseed: 1\nsft:\n")
    assert load_recipe(path, ["seed=3", "sft.learning_rate=0.5"]).seed == 3
    with pytest.raises(RecipeError) as caught:
        load_recipe(path, ["sft.learning_rate=fast"])
    assert caught.value.where == "command line, field sft.learning_rate"


@pytest.mark.parametrize("override", ["seed", "=3", "name.deep.path=1", "languages.99=xx"])
def test_an_override_that_leads_nowhere_is_refused(override: str) -> None:
    with pytest.raises(RecipeError, match="wrong override"):
        apply_override({"name": "x", "languages": ["en"]}, override)


def test_an_override_reaches_into_lists() -> None:
    value = {"sources": [{"path": "a"}, {"path": "b"}]}
    apply_override(value, "sources.1.path=c")
    assert value["sources"][1]["path"] == "c"


@given(
    st.dictionaries(
        st.sampled_from("abc"), st.integers() | st.text("ab1:- é中", max_size=5) | st.booleans(), min_size=1
    )
)
def test_overrides_read_values_as_yaml(wanted: dict[str, object]) -> None:
    value: dict[str, object] = {}
    for key, item in wanted.items():
        apply_override(value, f"{key}={json.dumps(item, ensure_ascii=False)}")
    assert value == wanted


def test_an_average_that_does_not_divide_the_stack_is_refused() -> None:
    with pytest.raises(ValidationError, match="average that divides the stack: 25 is no multiple of 4"):
        StackConfig(stack=25, average=4)
    assert StackConfig(stack=25, average=5).average == 5


def test_options_that_were_not_given_keep_their_defaults() -> None:
    assert from_options(Calibration, {"loss": None, "most": 9}) == Calibration(most=9)


def test_a_wrong_option_is_named_as_it_was_typed() -> None:
    with pytest.raises(UsageError, match="less than or equal to 0.1") as caught:
        from_options(Calibration, {"loss": 2.0})
    assert caught.value.where == "command line, --loss"
    assert caught.value.exit_code == 2


def test_pruning_must_not_keep_long_ngrams_without_their_ends() -> None:
    with pytest.raises(ValidationError, match="do not fall"):
        NgramTraining(prune=(1, 0))
    assert NgramTraining(order=5, prune=(0, 1)).pruned() == [0, 1, 1, 1]
