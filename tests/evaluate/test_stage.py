from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import LlamaForCausalLM, PreTrainedTokenizerFast

from caravan.core.errors import ArtifactError
from caravan.core.files import read_json
from caravan.core.stage import StageContext
from caravan.evaluate import answers, cascade, stage
from caravan.evaluate.rows import Row
from caravan.recipe.evaluate import CascadeConfig, EvaluateConfig, ProbesConfig
from caravan.text.indexed import IndexedWriter


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
    written = [row(f"{language}{i}", "x", "chat", language, "") for i in range(9) for language in ("en", "de")]
    model_artifact = make_artifact(folder, "model")

    def make(out: str, rows: list[Row] = written) -> StageContext:
        (tmp_path / out).mkdir(exist_ok=True)
        inputs = {"model": model_artifact, "dialogues": save_dialogues(rows)}
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

    def dying(*arguments: Any, **options: Any) -> Any:
        calls.append(1)
        if len(calls) == 4:
            raise KeyboardInterrupt
        return generate(*arguments, **options)

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


def test_probes_are_asked_once_and_stand_in_the_report(
    context: Any, row: Any, wav: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    spoken = [row(f"{language}{i}", "x", "speech", language, audio=wav) for i in range(2) for language in ("en", "de")]
    whole = context("out", spoken)
    config = CONFIG.model_copy(update={"probes": ProbesConfig(limit=1, kinds=["silence", "blank picture"])})
    monkeypatch.setattr(answers, "torch_answers", scripted)
    counts = stage.run(config, whole)
    report = read_json(whole.out / "report.json")
    assert {(line["probe"], line["rows"]) for line in report["probes"]["means"]} == {("as asked", 4), ("silence", 2)}
    assert report["probes"]["guard"]["running_away"] == report["probes"]["guard"]["ended"] == 2
    page = (whole.out / "report.html").read_text()
    assert 'id="probes"' in page
    assert "| silence | 2 |" in (whole.out / "report.md").read_text()
    assert page.count("<audio") >= 2
    monkeypatch.setattr("caravan.models.load.load_model", None)
    assert stage.run(config, whole) == counts


def test_a_cascade_by_the_model_itself_is_compared(
    context: Any, row: Any, wav: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    spoken = [row(f"{language}{i}", "x", "speech", language, audio=wav) for i in range(2) for language in ("en", "de")]
    whole = context("out", spoken)
    config = CONFIG.model_copy(update={"cascade": CascadeConfig(timed=2)})
    asked: list[tuple[str, int]] = []

    def listening(model: Any, tokenizer: Any, longest: int) -> Any:
        def answer(rows: list[Row]) -> list[str]:
            asked.extend((row.messages[0].content[0].type, longest) for row in rows)
            return [{"text": "y", "audio": "what is x"}[row.messages[0].content[0].type] for row in rows]

        return answer

    for module in (answers, cascade):
        monkeypatch.setattr(module, "torch_answers", listening)
    counts = stage.run(config, whole)
    report = read_json(whole.out / "report.json")["cascade"]
    assert (report["rows"], report["fused"], report["cascade"]) == (4, 0, 0)
    assert {name: line["clips"] for name, line in report["latency"].items()} == {"fused": 2, "cascade": 2}
    assert 'id="cascade"' in (whole.out / "report.html").read_text()
    assert "| speech | de | 2 | 0.0 % | 0.0 % |" in (whole.out / "report.md").read_text()
    monkeypatch.setattr("caravan.models.load.load_model", None)
    assert stage.run(config, whole) == counts


def scripted(model: Any, tokenizer: Any, longest: int, *, guard: bool = False) -> Any:
    """Answers rightly where there is a clip of the test; to silence it says the same thing over and over."""
    return lambda rows: [
        ("no" if guard else "no " * 20) if row.id.endswith("silence") else row.reference for row in rows
    ]


def test_what_was_forgotten_stands_beside_what_is_known(
    context: Any, tmp_path: Path, make_artifact: Any, model: LlamaForCausalLM, tokenizer: PreTrainedTokenizerFast
) -> None:
    heldout = tmp_path / "tokenizer"
    (heldout / "packed/heldout").mkdir(parents=True)
    tokenizer.save_pretrained(heldout)
    for language, text in (("en", "one thing"), ("de", "ein Ding")):
        with IndexedWriter(heldout / "packed/heldout" / language, "uint16") as writer:
            writer.add(tokenizer(text)["input_ids"])
    certain = LlamaForCausalLM(model.config)
    torch.nn.init.zeros_(certain.lm_head.weight)  # as likely one token as another
    certain.save_pretrained(tmp_path / "old")
    tokenizer.save_pretrained(tmp_path / "old")
    ctx = context("out")
    ctx = replace(ctx, inputs={**ctx.inputs, "tokenizer": make_artifact(heldout, "tokenizer")})
    stage.run(EvaluateConfig(limit=1, max_new_tokens=1, before="old"), ctx)
    report = read_json(ctx.out / "report.json")
    before, after = report["bits_per_byte_before"], report["bits_per_byte"]
    for language, text in (("en", "one thing"), ("de", "ein Ding")):
        tokens = len(tokenizer(text)["input_ids"])
        assert before[language] == pytest.approx(tokens * math.log2(model.config.vocab_size) / len(text))
        change = f"{after[language]:.3f} | {before[language]:.3f} | {after[language] - before[language]:+.3f} |"
        assert f"| {language} | {change}" in (ctx.out / "report.md").read_text().splitlines()
    assert 'id="forgotten"' in (ctx.out / "report.html").read_text()
