"""Tiny random models in the true architectures, in folders as the hub has them."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers
from transformers import (
    CLIPConfig,
    CLIPModel,
    CLIPVisionConfig,
    CLIPVisionModel,
    LlamaConfig,
    LlamaForCausalLM,
    PreTrainedModel,
    PreTrainedTokenizerFast,
    SiglipVisionConfig,
    SiglipVisionModel,
    WhisperConfig,
    WhisperForConditionalGeneration,
    WhisperModel,
)
from transformers.utils import logging

from caravan.models.compose import compose
from caravan.models.fused import CaravanForConditionalGeneration
from caravan.text.tokens import CHAT_TEMPLATE, END_OF_TEXT, PAD, SPECIAL_TOKENS

logging.disable_progress_bar()
torch.set_num_threads(1)

STACK = 50  # 30 tokens a window
VISION = {
    "hidden_size": 16,
    "intermediate_size": 32,
    "num_hidden_layers": 3,
    "num_attention_heads": 2,
    "image_size": 28,
    "patch_size": 7,
}
WHISPER = {
    "d_model": 16,
    "encoder_layers": 2,
    "decoder_layers": 1,
    "encoder_attention_heads": 2,
    "decoder_attention_heads": 2,
    "encoder_ffn_dim": 32,
    "decoder_ffn_dim": 32,
    "vocab_size": 64,
    "pad_token_id": 0,
    "bos_token_id": 0,
    "eos_token_id": 0,
    "decoder_start_token_id": 0,
}


def llama(tied: bool, **changes: int) -> LlamaForCausalLM:
    config = {
        "vocab_size": 320,
        "hidden_size": 32,
        "intermediate_size": 64,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "bos_token_id": 0,
        "eos_token_id": 0,
        "pad_token_id": 1,
        "initializer_range": 0.3,
    }
    return LlamaForCausalLM(LlamaConfig(**(config | changes), tie_word_embeddings=tied))


def scatter(model: PreTrainedModel) -> PreTrainedModel:
    """Weights far enough from their start that every part of a model matters to what it gives."""
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "embed_positions" not in name:
                parameter.add_(
                    torch.randn_like(parameter) * (0.3 if parameter.ndim < 2 else parameter[0].numel() ** -0.5)
                )
    return model


@pytest.fixture(scope="session")
def tokenizer() -> PreTrainedTokenizerFast:
    alphabet = [*SPECIAL_TOKENS, *sorted(pre_tokenizers.ByteLevel.alphabet())]
    bpe = Tokenizer(models.BPE(vocab={token: id_ for id_, token in enumerate(alphabet)}, merges=[]))
    bpe.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    bpe.decoder = decoders.ByteLevel()
    bpe.add_special_tokens([AddedToken(token, special=True, normalized=False) for token in SPECIAL_TOKENS])
    fast = PreTrainedTokenizerFast(tokenizer_object=bpe, eos_token=END_OF_TEXT, pad_token=PAD)
    fast.chat_template = CHAT_TEMPLATE
    return fast


@pytest.fixture(scope="session")
def folders(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """text (tied), untied, speech (float16, with its decoder), whisper (without head), clip_vision, clip, siglip."""
    root = tmp_path_factory.mktemp("models")
    torch.manual_seed(0)
    clip = CLIPConfig(
        text_config={"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2,
                     "vocab_size": 64, "bos_token_id": 1, "eos_token_id": 2, "pad_token_id": 0},
        vision_config=VISION,
    )  # fmt: skip
    parts = {
        "text": llama(tied=True),
        "untied": llama(tied=False),
        "speech": scatter(WhisperForConditionalGeneration(WhisperConfig(**WHISPER))).half(),
        "whisper": WhisperModel(WhisperConfig(**WHISPER)),
        "clip_vision": scatter(CLIPVisionModel(CLIPVisionConfig(**VISION))),
        "clip": CLIPModel(clip),
        "siglip": scatter(SiglipVisionModel(SiglipVisionConfig(**VISION))),
    }
    for name, model in parts.items():
        model.save_pretrained(root / name)
    return root


def fuse(folders: Path, tokenizer: PreTrainedTokenizerFast, text: str = "text") -> CaravanForConditionalGeneration:
    torch.manual_seed(1)
    return compose(
        folders / text,
        tokenizer,
        speech=folders / "speech",
        vision=folders / "clip_vision",
        speech_projector={"name": "stack", "stack": STACK, "hidden": 24},
        vision_projector={"name": "pixel_shuffle", "scale": 2, "hidden": 24},
    )


@pytest.fixture(scope="session")
def fused(folders: Path, tokenizer: PreTrainedTokenizerFast) -> CaravanForConditionalGeneration:
    """A model with both senses, shared: tests that change it make their own with `fuse`."""
    return fuse(folders, tokenizer)
