"""A LoRA adapter on the model that is served: the answers are those of the model that it was merged into."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import httpx
import pytest
import torch
from pydantic import ValidationError

from caravan.core.errors import ServeError
from caravan.engine import ADAPTER, Engine
from caravan.export.stage import export_folder
from caravan.models.adapters import wrap
from caravan.models.load import load_model
from caravan.recipe.export import ExportConfig
from caravan.recipe.serve import ServeConfig
from caravan.serve.model import find_model
from caravan.text.chat import load_tokenizer

peft = pytest.importorskip("peft")
PROMPTS = ("How many months", "一年有", "Сколько")


@pytest.fixture(scope="module")
def tuned(exported: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """An exported adapter of the tiny assistant, and the assistant with it merged in, exported."""
    folder, base = tmp_path_factory.mktemp("tuned"), exported.parents[1] / "sft"
    model, _ = load_model(base)
    torch.manual_seed(0)
    targets = r".*language_model.*\.(q_proj|v_proj|down_proj)"
    wrapped = wrap(model, peft.LoraConfig(r=4, lora_alpha=16, target_modules=targets, init_lora_weights=False))
    wrapped.save_pretrained(folder / "adapter", save_embedding_layers=False)
    wrapped.merge_and_unload().save_pretrained(folder / "merged")
    load_tokenizer(base).save_pretrained(folder / "merged")
    config = ExportConfig(types=("f16",), prompts=0, threads=1)
    export_folder(config.model_copy(update={"base": str(base)}), folder / "adapter", folder / "gguf")
    return folder / "gguf", export_folder(config, folder / "merged", folder / "merged-gguf").path / "model-f16.gguf"


def test_answers_are_those_of_the_merged_model(
    exported: Path, tuned: tuple[Path, Path], start_server: Callable[..., AbstractContextManager[Any]]
) -> None:
    adapter, merged = tuned
    body = {"max_tokens": 8, "temperature": 0, "cache_prompt": False, "logprobs": 1}
    with start_server(exported, "quantisation=f16", "--adapter", str(adapter)) as server:
        replies = [
            httpx.post(f"{server.url}/v1/completions", json=body | {"prompt": prompt}, timeout=240, trust_env=False)
            for prompt in PROMPTS
        ]
    served = [reply.raise_for_status().json()["choices"][0] for reply in replies]
    with Engine(merged, context=64, threads=1) as engine:
        assert [one["text"] for one in served] == [engine.complete(prompt, max_tokens=8).text for prompt in PROMPTS]
        likeliest = max(engine.next_logprobs(PROMPTS[0], top=1).values())
    assert served[0]["logprobs"]["token_logprobs"][0] == pytest.approx(likeliest, abs=0.02)
    with Engine(exported / "model-f16.gguf", context=64, threads=1) as engine:
        assert [one["text"] for one in served] != [engine.complete(prompt, max_tokens=8).text for prompt in PROMPTS]


def test_an_adapter_is_found_by_its_folder_and_stays_an_option_of_the_first_model(
    exported: Path, tmp_path: Path
) -> None:
    (tmp_path / ADAPTER).write_bytes(b"GGUF")
    by_folder, by_file = (find_model(exported, "f16", adapter=str(path)) for path in (tmp_path, tmp_path / ADAPTER))
    assert by_folder == by_file
    assert by_folder.name == f"tiny-{tmp_path.name}"
    assert by_folder.engine_arguments(64, 1, 1)[3:5] == ["--adapter", str(tmp_path / ADAPTER)]
    with pytest.raises(ServeError, match=rf"nowhere[\s\S]*caravan export {tmp_path}/nowhere"):
        find_model(exported, "f16", adapter=str(tmp_path / "nowhere"))
    with pytest.raises(ValidationError, match="load it in the server"):
        ServeConfig(adapter="x", upstream="http://gpu/v1")


def test_an_adapter_of_another_model_is_named(exported: Path, tmp_path: Path) -> None:
    (tmp_path / ADAPTER).write_bytes(b"GGUF" + bytes(100))
    with pytest.raises(ServeError, match=rf"and its adapter {tmp_path / ADAPTER}"):
        Engine(exported / "model-f16.gguf", context=64, threads=1, adapter=tmp_path / ADAPTER)
