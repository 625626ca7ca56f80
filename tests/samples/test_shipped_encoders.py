"""The encoders that ship with the package are those that their manifest describes."""

from __future__ import annotations

import pytest
from transformers import AutoConfig, WhisperModel
from transformers.models.clip import CLIPVisionModel

from caravan.core.files import read_json, sha256_file
from caravan.models.load import load_whole
from caravan.samples import sample_encoder

MANIFEST = read_json(sample_encoder("speech").parent / "manifest.json")


def test_every_file_is_the_one_of_the_manifest() -> None:
    root = sample_encoder("speech").parent
    found = {
        str(f.relative_to(root)): sha256_file(f) for f in root.rglob("*") if f.is_file() and f.name != "manifest.json"
    }
    assert found == MANIFEST["files"]
    assert MANIFEST["rebuild"]


@pytest.mark.parametrize(("sense", "kind"), [("speech", "whisper"), ("vision", "clip")])
def test_they_are_of_the_true_architecture(sense: str, kind: str) -> None:
    assert AutoConfig.from_pretrained(sample_encoder(sense)).model_type == kind


def test_they_load_whole() -> None:
    assert load_whole(WhisperModel.from_pretrained, str(sample_encoder("speech"))).config.num_mel_bins == 80
    assert load_whole(CLIPVisionModel.from_pretrained, str(sample_encoder("vision"))).config.image_size == 64
