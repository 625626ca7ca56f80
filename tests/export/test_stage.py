"""The whole stage on tiny models of the true architecture: exact files pass, wrong ones are refused."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from transformers import AutoConfig, AutoTokenizer

from caravan.core.errors import ExportError, ModelError
from caravan.core.files import write_table
from caravan.core.stage import StageContext
from caravan.export import language, mmproj
from caravan.export.convert import choose_probes
from caravan.export.stage import check, export_folder, run
from caravan.recipe.export import ExportConfig
from caravan.records import Dialogue, Message, dialogues_to_table

QUICK = ExportConfig(types=("f16",), prompts=1, new_tokens=8, threads=1)
Context = Callable[..., StageContext]


def test_a_model_with_both_senses_says_in_the_engine_what_it_says_in_torch(fused: Path, context: Context) -> None:
    ctx = context(fused)
    assert check(QUICK, ctx) == []
    counts = run(QUICK.model_copy(update={"types": ("f16", "q8_0", "q4_k_m")}), ctx)
    exact, eight, four = (counts["parity"][name] for name in ("f16", "q8_0", "q4_k_m"))
    assert list(exact) == ["text", "audio", "image", "both"]
    for kind, figures in exact.items():
        assert figures["prompts"] == 1
        assert figures["logprob_delta"] <= 0.02
        assert figures["tie"] <= 0.02
        assert figures["logprob_delta"] < eight[kind]["logprob_delta"] < 0.2
        assert eight[kind]["logprob_delta"] < four[kind]["logprob_delta"]
    facts = json.loads((ctx.out / "export.json").read_text())
    assert facts["parity"] == counts["parity"]
    assert facts["context"] == 512
    assert facts["media"]["spec"]["audio_tokens_per_window"] == 150
    assert facts["media"]["spec"]["image_tokens"] == 4
    bits = {name: file["bits_per_weight"] for name, file in facts["files"].items()}
    assert bits["model-q4_k_m.gguf"] < 5.1 < bits["model-q8_0.gguf"] < 8.6 < bits["model-f16.gguf"] < 16.1
    assert facts["files"]["model-q4_k_m.gguf"]["types"] == {"Q4_K": 13, "F32": 5, "Q6_K": 3}
    copied = AutoTokenizer.from_pretrained(ctx.out)
    original = AutoTokenizer.from_pretrained(fused)
    assert copied.chat_template == original.chat_template
    assert copied("你好 123")["input_ids"] == original("你好 123")["input_ids"]


def test_tied_embeddings_and_rows_that_are_no_multiple_of_256(plain: Path, context: Context) -> None:
    ctx = context(plain)
    counts = run(QUICK.model_copy(update={"types": ("f16", "q4_0", "q4_k_m")}), ctx)
    assert counts["parity"]["f16"]["text"]["logprob_delta"] <= 0.02
    assert counts["files"]["model-q4_k_m.gguf"]["types"] == {"Q8_0": 3, "F32": 5, "Q5_0": 12}
    assert counts["files"]["model-q4_0.gguf"]["types"] == {"Q8_0": 1, "F32": 5, "Q4_0": 14}
    assert not (ctx.out / "mmproj-f16.gguf").exists()
    assert list(counts["parity"]["f16"]) == ["text"]


def test_finished_files_are_kept_and_compared_again(plain: Path, context: Context) -> None:
    ctx = context(plain)
    first = run(QUICK, ctx)
    written = (ctx.out / "model-f16.gguf").stat()
    assert run(QUICK, ctx) == first
    again = (ctx.out / "model-f16.gguf").stat()
    assert (again.st_ino, again.st_mtime_ns) == (written.st_ino, written.st_mtime_ns)
    assert not list(ctx.out.glob(".*"))


def test_prompts_are_the_run_s_own_where_it_has_any(fused: Path, tmp_path: Path) -> None:
    rows = [Dialogue(str(row), "en", "chat", (Message.of("user", f"number {row}"),)) for row in range(3)]
    write_table(tmp_path / "dialogues" / "test" / "0.parquet", dialogues_to_table(rows))
    config = AutoConfig.from_pretrained(fused)
    probes = choose_probes(ExportConfig(prompts=2), config, tmp_path / "dialogues", seed=0)
    assert [probe.messages[0].text for probe in probes[:2]] == ["number 0", "number 1"]
    # It has no clips and no pictures.
    assert [probe.kind for probe in probes[2:]] == ["audio"] * 2 + ["image"] * 2 + ["both"] * 2


def _unpermuted(weight: np.ndarray, width: int) -> np.ndarray:
    return weight


def test_a_wrong_order_of_rows_is_found(plain: Path, context: Context, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(language, "rotate_pairs", _unpermuted)
    ctx = context(plain)
    with pytest.raises(ExportError, match=r"does not say what torch says[\s\S]*text: log-probabilities differ"):
        run(QUICK, ctx)
    assert not (ctx.out / "export.json").exists()


@pytest.mark.parametrize(
    ("sense", "breaks"),
    [
        ("image", lambda patch: patch.setattr(mmproj, "_vision_blocks", lambda config, encoder: 3)),
        ("audio", lambda patch: patch.setitem(mmproj._SPEECH_BLOCK, "self_attn_layer_norm", "ln2")),
    ],
)
def test_a_wrong_encoder_is_found(
    fused: Path,
    context: Context,
    monkeypatch: pytest.MonkeyPatch,
    sense: str,
    breaks: Callable[[pytest.MonkeyPatch], Any],
) -> None:
    if sense == "audio":
        monkeypatch.setitem(mmproj._SPEECH_BLOCK, "final_layer_norm", "ln1")
    breaks(monkeypatch)
    with pytest.raises(ExportError, match=f"got: {sense}: log-probabilities differ"):
        run(QUICK, context(fused))


def test_a_projector_without_an_exact_form_is_refused_before_anything_is_written(
    fused: Path, context: Context, tmp_path: Path
) -> None:
    folder = tmp_path / "linear"
    folder.mkdir()
    for file in fused.iterdir():
        (folder / file.name).write_bytes(file.read_bytes())
    config = json.loads((folder / "config.json").read_text())
    config["speech_projector"] = {"name": "linear", "stack": 10}
    (folder / "config.json").write_text(json.dumps(config))
    ctx = context(folder)
    with pytest.raises(ExportError, match=r"expected: stack over whisper\n.*got: linear over whisper"):
        run(QUICK, ctx)
    assert list(ctx.out.iterdir()) == []


def test_check_says_what_is_known_to_fail(plain: Path, context: Context, tmp_path: Path) -> None:
    folder = tmp_path / "normalised"
    folder.mkdir()
    tokenizer = json.loads((plain / "tokenizer.json").read_text()) | {"normalizer": {"type": "NFKC"}}
    (folder / "tokenizer.json").write_text(json.dumps(tokenizer))
    (folder / "config.json").write_text((plain / "config.json").read_text())
    (error,) = check(QUICK, context(folder))
    assert "a normalizer" in str(error)


def test_the_door_opens_without_torch() -> None:
    code = "import sys, caravan.export.stage; sys.exit('torch' in sys.modules or 'transformers' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_the_command_exports_any_folder_once(plain: Path, tmp_path: Path) -> None:
    out = tmp_path / "gguf"
    command = [sys.executable, "-m", "caravan", "export", str(plain), "-o", str(out), "--types", "q8_0,q5_k_m"]
    settings = ["prompts=1", "new_tokens=1", "threads=1"]
    done = subprocess.run([*command, *settings], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "model-q5_k_m.gguf" in done.stdout
    manifest = json.loads((out / "manifest.json").read_text())
    assert manifest["kind"] == "gguf"
    assert list(manifest["counts"]["parity"]) == ["q8_0", "q5_k_m"]
    assert {"model-q8_0.gguf", "model-q5_k_m.gguf", "export.json", "tokenizer.json"} <= manifest["files"].keys()
    written = (out / "manifest.json").stat().st_mtime_ns
    export_folder(ExportConfig(types=("q8_0", "q5_k_m"), prompts=1, new_tokens=1, threads=1), plain, out)
    assert (out / "manifest.json").stat().st_mtime_ns == written


def test_a_folder_without_a_model(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="no model to export"):
        export_folder(ExportConfig(), tmp_path, tmp_path / "out")
