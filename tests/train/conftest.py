"""Tiny tokenizer, models and artifacts: seconds in all."""

from __future__ import annotations

import os

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

import numpy as np
import pytest
import torch
from PIL import Image
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import (
    CLIPVisionConfig,
    CLIPVisionModel,
    LlamaConfig,
    LlamaForCausalLM,
    PreTrainedTokenizerFast,
    WhisperConfig,
    WhisperModel,
)

from caravan.core.artifact import Artifact, Manifest
from caravan.core.files import write_table
from caravan.core.stage import StageContext
from caravan.media.audio import SAMPLE_RATE, encode_wav
from caravan.media.image import encode_png
from caravan.records import AudioPart, Dialogue, ImagePart, Media, Message, dialogues_to_table
from caravan.text.indexed import IndexedWriter
from caravan.text.tokens import CHAT_TEMPLATE, END_OF_TEXT, PAD, SPECIAL_TOKENS

SENTENCES = {
    "en": "the red circle is left of the blue square number {}",
    "de": "der rote Kreis ist links vom blauen Quadrat Nummer {}",
    "zh": "红色圆形在蓝色正方形的左边 {}",
}


@pytest.fixture(autouse=True)
def _one_thread():
    torch.set_num_threads(1)


@pytest.fixture(scope="session")
def tokenizer():
    raw = Tokenizer(models.BPE())
    raw.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    raw.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=400,
        special_tokens=list(SPECIAL_TOKENS),
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    raw.train_from_iterator([text.format(n) for text in SENTENCES.values() for n in range(20)], trainer)
    return PreTrainedTokenizerFast(
        tokenizer_object=raw,
        eos_token=END_OF_TEXT,
        bos_token=END_OF_TEXT,
        pad_token=PAD,
        additional_special_tokens=list(SPECIAL_TOKENS[2:]),
        chat_template=CHAT_TEMPLATE,
    )


@pytest.fixture
def llama(tokenizer):
    torch.manual_seed(0)
    return LlamaForCausalLM(
        LlamaConfig(
            vocab_size=len(tokenizer),
            hidden_size=32,
            num_hidden_layers=2,
            num_attention_heads=2,
            num_key_value_heads=2,
            intermediate_size=64,
        )
    ).eval()


def artifact(path, kind: str) -> Artifact:
    manifest = Manifest(
        kind=kind, stage=kind, key="", files={}, parents={}, recipe={}, counts={}, seconds=0.0, versions={}
    )
    return Artifact(path, manifest)


@pytest.fixture
def make_artifact():
    return artifact


@pytest.fixture
def tokenizer_artifact(tmp_path_factory, tokenizer):
    """A tokenizer folder with packed English, German and Chinese, and English-German pairs."""
    folder = tmp_path_factory.mktemp("tokenizer")
    tokenizer.save_pretrained(folder)
    (folder / "packed").mkdir()
    end = tokenizer.eos_token_id
    ids = {
        name: [tokenizer(text.format(n))["input_ids"] for n in range(count)]
        for (name, text), count in zip(SENTENCES.items(), (120, 40, 40), strict=True)
    }
    for name, documents in ids.items():
        with IndexedWriter(folder / "packed" / name, np.uint16) as writer:
            for document in documents:
                writer.add([*document, end])
    with IndexedWriter(folder / "packed" / "pair-en-de", np.uint16) as writer:
        for english, german in zip(ids["en"], ids["de"], strict=False):
            writer.add(english)
            writer.add(german)
    return artifact(folder, "tokenizer")


@pytest.fixture
def context(tmp_path):
    def make(name: str = "out", **inputs: Artifact) -> StageContext:
        out = tmp_path / name
        out.mkdir(exist_ok=True)
        return StageContext(out=out, inputs=inputs, base=tmp_path, seed=7, languages=("en", "de", "zh"), name=name)

    return make


@pytest.fixture(scope="session")
def encoder_folders(tmp_path_factory):
    """The smallest Whisper and CLIP that the stages take."""
    torch.manual_seed(1)
    folder = tmp_path_factory.mktemp("encoders")
    whisper = WhisperConfig(
        vocab_size=20, d_model=8, encoder_layers=1, decoder_layers=1, encoder_attention_heads=1,
        decoder_attention_heads=1, encoder_ffn_dim=8, decoder_ffn_dim=8, max_target_positions=8,
        pad_token_id=0, bos_token_id=1, eos_token_id=2, decoder_start_token_id=1,
        suppress_tokens=None, begin_suppress_tokens=None,
    )  # fmt: skip
    vision = CLIPVisionConfig(
        hidden_size=8, intermediate_size=8, num_hidden_layers=2, num_attention_heads=1, image_size=16, patch_size=4
    )
    WhisperModel(whisper).save_pretrained(folder / "speech")
    CLIPVisionModel(vision).save_pretrained(folder / "vision")
    return artifact(folder, "encoders")


def clip_bytes(seconds: float = 0.4, pitch: float = 300.0) -> bytes:
    time = np.arange(int(seconds * SAMPLE_RATE)) / SAMPLE_RATE
    return encode_wav(0.5 * np.sin(2 * np.pi * pitch * time).astype(np.float32))


def picture_bytes(colour: tuple[int, int, int] = (200, 10, 10)) -> bytes:
    return encode_png(Image.new("RGB", (20, 20), colour))


def some_dialogues() -> list[Dialogue]:
    """Text, speech, pictures and both; one clip is used twice."""
    clips = [Media(bytes=clip_bytes(pitch=200.0 + 50 * n)) for n in range(3)]
    pictures = [Media(bytes=picture_bytes((60 * n, 10, 10))) for n in range(4)]
    made = [("chat", [f"hello number {n}"], f"answer {n}") for n in range(6)]
    made += [("speech", [AudioPart(clips[n % 3], text=f"number {n % 3}")], f"heard {n}") for n in range(4)]
    made += [("picture", [ImagePart(pictures[n]), "what is it"], f"seen {n}") for n in range(4)]
    made += [("both", [AudioPart(clips[n]), ImagePart(pictures[n])], f"both {n}") for n in range(2)]
    return [
        Dialogue(f"{task}-{n}", "en", task, (Message.of("user", *content), Message.of("assistant", answer)))
        for n, (task, content, answer) in enumerate(made)
    ]


@pytest.fixture
def dialogues_artifact(tmp_path_factory):
    folder = tmp_path_factory.mktemp("dialogues")
    rows = some_dialogues()
    write_table(folder / "train" / "a.parquet", dialogues_to_table(rows[:9]))
    write_table(folder / "train" / "b.parquet", dialogues_to_table(rows[9:]))
    return artifact(folder, "dialogues")


@pytest.fixture
def model_artifact(tmp_path_factory, llama, tokenizer, make_artifact):
    folder = tmp_path_factory.mktemp("model")
    llama.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return make_artifact(folder, "model")
