"""Models go to the hub and come back, with a card that tells what they are: the real client, a server of our own."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import huggingface_hub
import pytest
import yaml
from huggingface_hub import ModelCard, constants
from transformers import AutoModelForCausalLM

from caravan.convert.card import run_manifests
from caravan.convert.run import convert, convert_named
from caravan.core.artifact import write_manifest
from caravan.core.errors import StoreError
from caravan.recipe.convert import ConvertConfig
from tests.convert.conftest import assert_same, llama
from tests.convert.fake_hub import TOKEN, Hub, running

Saved = Callable[..., Path]
RECIPE = {
    "data": "/home/someone/data",
    "languages": ["en", "th"],
    "pretrain": {"from": "owner/base", "steps": 7},
    "sft": {"learning_rate": 2e-5},
}


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    with running() as hub:
        monkeypatch.setenv("HF_ENDPOINT", hub.url)
        monkeypatch.setenv("HF_TOKEN", TOKEN)
        # Read from the environment when the client was imported; its own storage protocol needs its own server.
        monkeypatch.setattr(constants, "HF_HUB_DISABLE_XET", True)
        monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
        monkeypatch.setattr(constants, "HF_HOME", str(tmp_path / "home"))
        monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
        huggingface_hub.close_session()
        yield hub
        huggingface_hub.close_session()


def a_run(saved: Saved, folder: str = "run") -> Path:
    """A run with a trained model, its dialogues and a report."""
    common = {"key": "k", "parents": {}, "seconds": 1.0}
    model = saved(llama(), f"{folder}/sft")
    write_manifest(model, kind="model", stage="sft", recipe=RECIPE, counts={}, **common)
    sources = {"sources": [{"hub": "owner/dialogues"}, {"path": "chats/*.jsonl"}]}
    other = {
        "instruct": ("dialogues", {"instruct": sources}, {}),
        "evaluate": ("report", {}, {"table": [{"name": "spoken digits", "value": 0.875, "count": 40}]}),
    }
    for stage, (kind, recipe, counts) in other.items():
        (model.parent / stage).mkdir()
        write_manifest(model.parent / stage, kind=kind, stage=stage, recipe=recipe, counts=counts, **common)
    return model


@pytest.mark.filterwarnings("ignore:Use 'content=:DeprecationWarning")  # the client's own uploads of large files
def test_pushed_and_loaded_again(hub: Hub, saved: Saved, tmp_path: Path) -> None:
    source = a_run(saved)
    config = ConvertConfig(shard_gb=2e-5, license="apache-2.0")
    where = convert_named(str(source), "hf://someone/tiny", config)
    assert where == f"{hub.url}/someone/tiny"
    assert hub.private == {"someone/tiny": True}
    held = hub.repositories["someone/tiny"]
    assert {"config.json", "README.md", "tokenizer_config.json", "model.safetensors.index.json"} <= held.keys()
    assert not any(name.startswith(".") for name in held)
    assert convert_named("hf://someone/tiny", str(tmp_path / "again"), ConvertConfig()) == str(tmp_path / "again")
    assert_same(tmp_path / "again", source)
    AutoModelForCausalLM.from_pretrained(tmp_path / "again")
    convert_named(str(source), "hf://someone/tiny", config)  # once more changes nothing
    assert hub.repositories["someone/tiny"] == held


def test_the_card_tells_recipe_data_licences_and_results(saved: Saved, tmp_path: Path) -> None:
    source = a_run(saved)
    config = ConvertConfig(license="apache-2.0", licenses={"owner/dialogues": "cc-by-4.0"}, dtype="bfloat16")
    convert(source, tmp_path / "out", config)
    card = ModelCard.load(tmp_path / "out/README.md")
    told = card.data.to_dict()
    assert told["license"] == "apache-2.0"
    assert told["language"] == ["en", "th"]
    assert told["base_model"] == ["owner/base"]
    assert told["datasets"] == ["owner/dialogues"]
    assert told["pipeline_tag"] == "text-generation"
    assert "| owner/dialogues | instruct | cc-by-4.0 |" in card.text
    assert "| chats/*.jsonl | instruct | not told |" in card.text
    assert "| spoken digits | 0.875 | 40 |" in card.text
    assert "parameters in bfloat16" in card.text
    recipe = yaml.safe_load(card.text.partition("```yaml\n")[2].partition("```")[0])
    assert recipe == {key: value for key, value in RECIPE.items() if key != "data"} | recipe
    assert recipe["instruct"]["sources"][0] == {"hub": "owner/dialogues"}
    assert "/home/someone" not in card.content


def test_a_model_from_elsewhere_has_a_card_that_says_what_is_not_known(saved: Saved, tmp_path: Path) -> None:
    convert(saved(llama(), "in"), tmp_path / "out", ConvertConfig())
    text = (tmp_path / "out/README.md").read_text()
    assert "license: other" in text
    assert "Not told." in text
    assert "Not evaluated." in text
    assert run_manifests(tmp_path / "in") == []


def test_a_refusal_says_what_to_do(hub: Hub, saved: Saved, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(StoreError, match="HF_TOKEN") as caught:
        convert_named("hf://someone/nothing", str(tmp_path / "out"), ConvertConfig())
    assert caught.value.where == "hf://someone/nothing"
    monkeypatch.setenv("HF_TOKEN", "hf_wrong")
    with pytest.raises(StoreError, match="401"):
        convert_named(str(saved(llama(), "in")), "hf://someone/tiny", ConvertConfig())
    assert "someone/tiny" not in hub.repositories
