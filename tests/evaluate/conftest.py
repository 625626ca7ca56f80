from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from PIL import Image
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from caravan.core.artifact import Artifact, write_manifest
from caravan.evaluate.rows import Row
from caravan.media.audio import encode_wav
from caravan.records import AudioPart, Dialogue, ImagePart, Media, Message, dialogues_to_table
from caravan.text.tokens import CHAT_TEMPLATE, END, END_OF_TEXT, PAD, SPECIAL_TOKENS


def make_row(
    identity: str,
    reference: str,
    task: str = "picture",
    language: str = "en",
    group: str = "unseen style",
    **media: bytes,
) -> Row:
    parts: list[Any] = ["What is this?"]
    if "audio" in media:
        parts.append(AudioPart(Media(bytes=media["audio"])))
    if "image" in media:
        parts.append(ImagePart(Media(bytes=media["image"])))
    return Row(identity, language, task, group, "test", (Message.of("user", *parts),), reference)


def dialogue_of(row: Row) -> Dialogue:
    messages = (*row.messages, Message.of("assistant", row.reference))
    return Dialogue(row.id, row.language, row.task, messages, "test", row.group)


def artifact(folder: Path, kind: str) -> Artifact:
    empty: dict[str, Any] = {"parents": {}, "recipe": {}, "counts": {}}
    return write_manifest(folder, kind=kind, stage=kind, key=kind, seconds=0.0, **empty)


@pytest.fixture
def row() -> Any:
    return make_row


@pytest.fixture
def save_dialogues(tmp_path: Path) -> Any:
    def save(rows: list[Row], per_file: int = 7) -> Artifact:
        folder = tmp_path / "dialogues"
        (folder / "test").mkdir(parents=True, exist_ok=True)
        for start in range(0, len(rows), per_file):
            table = dialogues_to_table([dialogue_of(row) for row in rows[start : start + per_file]])
            pq.write_table(table, folder / "test" / f"{start:03d}.parquet", row_group_size=3)
        return artifact(folder, "dialogues")

    return save


@pytest.fixture
def png() -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", (4, 4), "red").save(buffer, "PNG")
    return buffer.getvalue()


@pytest.fixture
def wav() -> bytes:
    return encode_wav(np.zeros(800, dtype=np.float32))


@pytest.fixture(scope="session")
def tokenizer() -> PreTrainedTokenizerFast:
    """Bytes as tokens, and the special tokens."""
    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocabulary = {token: index for index, token in enumerate([*SPECIAL_TOKENS, *letters])}
    backend = Tokenizer(models.BPE(vocabulary, []))
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = decoders.ByteLevel()
    backend.add_special_tokens(list(SPECIAL_TOKENS))
    fast = PreTrainedTokenizerFast(tokenizer_object=backend, bos_token=END_OF_TEXT, eos_token=END, pad_token=PAD)
    fast.chat_template = CHAT_TEMPLATE
    return fast


@pytest.fixture(scope="session")
def model(tokenizer: PreTrainedTokenizerFast) -> LlamaForCausalLM:
    torch.manual_seed(0)
    shape = {"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}
    return LlamaForCausalLM(LlamaConfig(vocab_size=len(tokenizer), **shape)).eval()


@pytest.fixture
def make_artifact() -> Any:
    return artifact
