"""A tiny fused model of the true architecture, with random weights that make sharp answers."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import (
    CLIPVisionConfig,
    LlamaConfig,
    LlamaForCausalLM,
    PreTrainedConfig,
    PreTrainedTokenizerFast,
    WhisperConfig,
)

from caravan.core.artifact import write_manifest
from caravan.core.stage import StageContext
from caravan.export.convert import Answers, open_source, write_model
from caravan.models.config import CaravanConfig
from caravan.models.fused import CaravanForConditionalGeneration
from caravan.text.tokens import AUDIO_PAD, CHAT_TEMPLATE, END_OF_TEXT, IMAGE_PAD, PAD, SPECIAL_TOKENS

SENTENCES = (
    "the quick brown fox isn't here, it's 1234 o'clock",
    "今天天气很好，我们去公园吧。 三百二十五",
    "быстрая коричневая лиса перепрыгнула через 7 собак",
    "الثعلب البني السريع ١٢٣ يقفز فوق الكلب",
    "สุนัขจิ้งจอกสีน้ำตาลกระโดด ๑๒",
    "いろはにほへと 3つのりんご 빠른 갈색 여우",
    "hôm nay trời đẹp quá, çok güzel, będę, größe, השועל החום",
)


def byte_level_tokenizer(pre_tokenizer: pre_tokenizers.PreTokenizer, size: int = 700) -> PreTrainedTokenizerFast:
    backend = Tokenizer(models.BPE())
    backend.pre_tokenizer = pre_tokenizer
    backend.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=size,
        special_tokens=[AddedToken(name, special=True, normalized=False) for name in SPECIAL_TOKENS],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    backend.train_from_iterator(SENTENCES * 3, trainer)
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=backend, eos_token=END_OF_TEXT, pad_token=PAD)
    tokenizer.chat_template = CHAT_TEMPLATE
    return tokenizer


@pytest.fixture(scope="session")
def make_tokenizer() -> Callable[..., PreTrainedTokenizerFast]:
    return byte_level_tokenizer


@pytest.fixture(scope="session")
def tokenizer() -> PreTrainedTokenizerFast:
    digits = pre_tokenizers.Digits(individual_digits=True)
    return byte_level_tokenizer(
        pre_tokenizers.Sequence([digits, pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True)])
    )


def text_config(tokenizer: PreTrainedTokenizerFast, *, hidden: int = 256, tied: bool = False) -> LlamaConfig:
    return LlamaConfig(
        vocab_size=len(tokenizer) + 4,
        hidden_size=hidden,
        intermediate_size=2 * hidden,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=512,
        tie_word_embeddings=tied,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )


@torch.no_grad()
def sharpen(model: torch.nn.Module, seed: int = 0) -> None:
    """Weights of unit gain: the default's small ones make answers that any fault would leave alike."""
    generator = torch.Generator().manual_seed(seed)
    for name, weight in model.named_parameters():
        if "embed_positions" in name:
            continue
        if "position_embedding" in name or "class_embedding" in name:
            weight.normal_(0, 0.5, generator=generator)
        elif weight.ndim >= 2:
            weight.normal_(0, weight[0].numel() ** -0.5, generator=generator)
        elif "norm" in name and name.endswith("weight"):
            weight.normal_(1, 0.1, generator=generator)
        else:
            weight.normal_(0, 0.1, generator=generator)


def with_senses(text: PreTrainedConfig, tokenizer: PreTrainedTokenizerFast) -> CaravanForConditionalGeneration:
    """A model around such a language model that hears and sees."""
    config = CaravanConfig(
        text_config=text,
        speech_config=WhisperConfig(
            d_model=64, encoder_layers=2, encoder_attention_heads=2, encoder_ffn_dim=128, num_mel_bins=80
        ),
        vision_config=CLIPVisionConfig(
            hidden_size=64,
            intermediate_size=128,
            num_hidden_layers=3,
            num_attention_heads=2,
            image_size=56,
            patch_size=14,
        ),
        speech_projector={"name": "stack", "stack": 10, "hidden": 96, "average": 2},
        vision_projector={"name": "pixel_shuffle", "scale": 2, "hidden": 96},
        audio_token_id=tokenizer.convert_tokens_to_ids(AUDIO_PAD),
        image_token_id=tokenizer.convert_tokens_to_ids(IMAGE_PAD),
        image_mean=[0.48, 0.46, 0.41],
        image_std=[0.27, 0.26, 0.28],
    )
    return CaravanForConditionalGeneration(config)


@pytest.fixture(scope="session")
def fused(tokenizer: PreTrainedTokenizerFast, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a fused model that hears and sees."""
    return save(with_senses(text_config(tokenizer), tokenizer), tokenizer, tmp_path_factory.mktemp("fused"))


@pytest.fixture(scope="session")
def plain(tokenizer: PreTrainedTokenizerFast, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a text model whose embeddings are tied and whose rows are no multiple of 256."""
    model = LlamaForCausalLM(text_config(tokenizer, hidden=96, tied=True))
    return save(model, tokenizer, tmp_path_factory.mktemp("plain"))


def save(model: torch.nn.Module, tokenizer: PreTrainedTokenizerFast, folder: Path) -> Path:
    sharpen(model)
    model.generation_config.eos_token_id = tokenizer.eos_token_id
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def export_text() -> Callable[..., Path]:
    """Writes a tiny text model with a tokenizer, and its f16 file beside it."""

    def export(tokenizer: PreTrainedTokenizerFast, folder: Path) -> Path:
        model = LlamaForCausalLM(text_config(tokenizer, hidden=32))
        source = open_source(save(model, tokenizer, folder))
        file = folder / "model-f16.gguf"
        write_model(source, Answers(stop=[5], template=None, references=[]), "f16", file, threads=1)
        return file

    return export


@pytest.fixture
def context(tmp_path: Path) -> Callable[..., StageContext]:
    """A stage's context with a folder as its finished model."""

    def make(model: Path, **others: Path) -> StageContext:
        folders = {"model": model} | others
        inputs = {
            kind: write_manifest(folder, kind=kind, stage=kind, key="", parents={}, recipe={}, counts={}, seconds=0.0)
            for kind, folder in folders.items()
        }
        out = tmp_path / "gguf"
        out.mkdir()
        return StageContext(out, inputs, tmp_path, seed=0, languages=("en",))

    return make
