from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from transformers import LlamaForCausalLM, PreTrainedTokenizerFast

from caravan.core.errors import ArtifactError
from caravan.core.stage import StageContext
from caravan.evaluate import answers, stage
from caravan.recipe.evaluate import EvaluateConfig


@pytest.fixture
def context(
    tmp_path: Path,
    row: Any,
    save_dialogues: Any,
    make_artifact: Any,
    model: LlamaForCausalLM,
    tokenizer: PreTrainedTokenizerFast,
) -> Any:
    folder = tmp_path / "model"
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    rows = [row(f"{language}{i}", "x", "chat", language, "") for i in range(9) for language in ("en", "de")]
    inputs = {"model": make_artifact(folder, "model"), "dialogues": save_dialogues(rows)}

    def make(out: str) -> StageContext:
        (tmp_path / out).mkdir(exist_ok=True)
        return StageContext(tmp_path / out, inputs, tmp_path, 3, ("en", "de"), "evaluate")

    return make


CONFIG = EvaluateConfig(limit=8, batch=3, max_new_tokens=4)


def test_a_killed_evaluation_goes_on_and_ends_the_same(
    context: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    counts = stage.run(CONFIG, context("whole"))
    assert counts["rows"] == 16
    assert counts["table"][0] == {"name": counts["table"][0]["name"], "value": None, "at_least": 0.85, "count": 0}
    generate, calls = answers.generate, []

    def dying(*arguments: Any) -> Any:
        calls.append(1)
        if len(calls) == 4:
            raise KeyboardInterrupt
        return generate(*arguments)

    monkeypatch.setattr(answers, "generate", dying)
    with pytest.raises(KeyboardInterrupt):
        stage.run(CONFIG, context("out"))
    assert stage.run(CONFIG, context("out")) == counts
    assert len(calls) == 4 + 3, "six batches; the fourth was asked twice"
    for name in ("report.json", "report.md", "report.html", "predictions.jsonl"):
        assert (tmp_path / "out" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()


def test_a_finished_evaluation_loads_no_model_again(context: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    counts = stage.run(CONFIG, context("out"))
    monkeypatch.setattr("caravan.models.load.load_model", None)
    assert stage.run(CONFIG, context("out")) == counts


def test_without_dialogues_it_says_what_is_missing(context: Any) -> None:
    whole = context("out")
    empty = StageContext(whole.out, {"model": whole.inputs["model"]}, whole.base, 3, ("en",), "evaluate")
    with pytest.raises(ArtifactError, match="no dialogues to read"):
        stage.run(CONFIG, empty)
