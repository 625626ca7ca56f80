"""The doors."""

from __future__ import annotations

import subprocess
import sys

import pytest

from caravan.recipe.train import AlignConfig, EncodersConfig, PretrainConfig, SftConfig
from caravan.train import stage


def test_doors_open_without_torch():
    code = "import sys, caravan.train.stage; sys.exit('torch' in sys.modules or 'transformers' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0


def test_paths_without_a_model_are_found_before_anything_runs(context, tmp_path):
    ctx = context()
    assert stage.check_pretrain(PretrainConfig(), ctx) == []
    assert stage.check_sft(SftConfig(), ctx) == []
    assert stage.check_align(AlignConfig(speech="openai/whisper-tiny", vision=None), ctx) == []
    (error,) = stage.check_align(AlignConfig(vision=str(tmp_path)), ctx)
    assert "align.vision: no model in this folder" in str(error)
    assert len(stage.check_pretrain(PretrainConfig(**{"from": "./nowhere"}), ctx)) == 1
    assert len(stage.check_encoders(EncodersConfig(speech={"from": "/nowhere"}, vision=None), ctx)) == 1


@pytest.mark.parametrize(
    "wrong",
    [
        {"batch": 10, "micro_batch": 4},
        {"model": {"hidden_size": 30, "heads": 4}},
        {"model": {"heads": 5, "kv_heads": 2, "hidden_size": 160}},
        {"length": 4096},
        {"change_from": 0.6, "change_to": 0.4},
        {"stepz": 3},
    ],
)
def test_a_recipe_that_cannot_hold_is_refused(wrong):
    with pytest.raises(ValueError, match=r"."):
        PretrainConfig(**wrong)


def test_encoders_of_nothing_are_refused():
    with pytest.raises(ValueError, match="speech, vision or both"):
        EncodersConfig(speech=None, vision=None)
