"""A saved folder is whole: transformers alone loads it, and says the same."""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from transformers import PreTrainedTokenizerFast

from caravan.core.errors import MissingDependencyError
from caravan.models.bundle import FILES, write_code
from caravan.models.fused import CaravanForConditionalGeneration
from caravan.models.processor import CaravanProcessor
from tests.models.test_processor import picture, wave

CONVERSATION = [
    {"role": "user", "content": [{"type": "audio", "path": "a.wav"}, {"type": "text", "text": "or"},
                                 {"type": "image", "path": "p.png"}, {"type": "audio", "path": "b.wav"}]}
]  # fmt: skip
HOW = {"do_sample": False, "max_new_tokens": 6, "min_new_tokens": 6}
# What stands in a model card: nothing of Caravan can be imported.
ELSEWHERE = f"""
import sys
from pathlib import Path
sys.path = [place for place in sys.path if not Path(place, "caravan").exists()]
sys.meta_path = [finder for finder in sys.meta_path if "editable" not in str(finder)]
import importlib.util
assert importlib.util.find_spec("caravan") is None

import torch
from transformers import AutoModelForCausalLM, AutoProcessor

torch.set_num_threads(1)
model = AutoModelForCausalLM.from_pretrained("saved", trust_remote_code=True)
processor = AutoProcessor.from_pretrained("saved", trust_remote_code=True)
conversation = {CONVERSATION!r}
batch = processor.apply_chat_template(
    conversation, tokenize=True, return_dict=True, return_tensors="pt", add_generation_prompt=True
)
with torch.no_grad():
    torch.save(model(**batch).logits, "logits.pt")
answer = model.generate(**batch, **{HOW!r})
Path("answer.txt").write_text(processor.batch_decode(answer)[0])
model.save_pretrained("again")
processor.save_pretrained("again")
assert not any(name.split(".")[0] == "caravan" for name in sys.modules)
"""


@pytest.fixture
def saved(fused: CaravanForConditionalGeneration, tokenizer: PreTrainedTokenizerFast, tmp_path: Path) -> Path:
    from caravan.media.audio import encode_wav

    fused.save_pretrained(tmp_path / "saved")
    CaravanProcessor.of(fused.config, tokenizer).save_pretrained(tmp_path / "saved")
    (tmp_path / "a.wav").write_bytes(encode_wav(wave(31.0)))
    (tmp_path / "b.wav").write_bytes(encode_wav(wave(pitch=500.0)))
    picture().save(tmp_path / "p.png")
    return tmp_path


def test_without_caravan_the_folder_says_the_same(
    saved: Path, fused: CaravanForConditionalGeneration, monkeypatch: pytest.MonkeyPatch
) -> None:
    environment = os.environ | {"HF_MODULES_CACHE": str(saved / "modules"), "HF_HUB_OFFLINE": "1", "PYTHONPATH": ""}
    done = subprocess.run(
        [sys.executable, "-c", ELSEWHERE], cwd=saved, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    monkeypatch.chdir(saved)
    processor = CaravanProcessor.from_pretrained("saved")
    batch = processor.apply_chat_template(
        CONVERSATION, tokenize=True, return_dict=True, return_tensors="pt", add_generation_prompt=True
    )
    with torch.no_grad():
        expected = fused(**batch).logits
    torch.testing.assert_close(torch.load("logits.pt"), expected)
    assert Path("answer.txt").read_text() == processor.batch_decode(fused.generate(**batch, **HOW))[0]
    for file in [*(f"{name}.py" for name in FILES.values()), "model.safetensors"]:
        assert (saved / "again" / file).read_bytes() == (saved / "saved" / file).read_bytes(), file
    for file in ("config.json", "processor_config.json"):
        maps = [json.loads((saved / folder / file).read_text())["auto_map"] for folder in ("saved", "again")]
        assert maps[0] == maps[1]


def test_what_is_missing_elsewhere_is_named_itself(tmp_path: Path) -> None:
    write_code(tmp_path)
    spec = importlib.util.spec_from_file_location("errors", tmp_path / "errors.py")
    assert spec
    assert spec.loader
    copied = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(copied)
    assert copied.MissingDependencyError("soxr", "speech", needed_for="hearing").fix == "pip install soxr"
    assert MissingDependencyError("soxr", "speech", needed_for="hearing").fix == 'pip install "caravan[speech]"'
