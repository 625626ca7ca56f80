"""A tiny language model in a GGUF file, its weights random, and the engine with it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from gguf import GGUFWriter
from tokenizers import AddedToken, Tokenizer, models, pre_tokenizers, trainers

from caravan.engine import Engine
from caravan.export.families import FAMILIES
from caravan.export.gguf_file import write_gguf
from caravan.export.language import describe_language, language_tensors
from caravan.export.tokenizer import describe_vocabulary, read_vocabulary
from caravan.text.tokens import SPECIAL_TOKENS


class RandomWeights:
    """Weights of a Llama that were never trained, of the shapes that its config asks for."""

    def __init__(self, config: SimpleNamespace) -> None:
        width, hidden, values = config.hidden_size, config.intermediate_size, config.hidden_size // 2
        self.shapes = {
            "embed_tokens": (config.vocab_size, width), "lm_head": (config.vocab_size, width), "norm": (width,),
            "q_proj": (width, width), "k_proj": (values, width), "v_proj": (values, width), "o_proj": (width, width),
            "gate_proj": (hidden, width), "up_proj": (hidden, width), "down_proj": (width, hidden),
            "input_layernorm": (width,), "post_attention_layernorm": (width,),
        }  # fmt: skip

    def shape(self, name: str) -> tuple[int, ...]:
        return self.shapes[name.split(".")[-2]]

    def __contains__(self, name: str) -> bool:
        return name.endswith(".weight")

    def read(self, name: str, rows: slice) -> np.ndarray:
        shape = self.shape(name)
        random = np.random.default_rng(sum(name.encode()))
        return (random.standard_normal(shape, np.float32) * (3 / shape[-1] ** 0.5 if len(shape) > 1 else 1))[rows]


@pytest.fixture(scope="session")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("engine")
    tokenizer = Tokenizer(models.BPE())
    digits = pre_tokenizers.Digits(individual_digits=True)
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([digits, pre_tokenizers.ByteLevel(add_prefix_space=False)])
    special = [AddedToken(name, special=True, normalized=False) for name in SPECIAL_TOKENS]
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(special_tokens=special, initial_alphabet=alphabet, show_progress=False)
    tokenizer.train_from_iterator(["the end of the line 终点 конец"], trainer)
    tokenizer.save(str(folder / "tokenizer.json"))
    config = SimpleNamespace(
        vocab_size=tokenizer.get_vocab_size(), hidden_size=64, intermediate_size=64, num_hidden_layers=2,
        num_attention_heads=2, num_key_value_heads=1, max_position_embeddings=256, rms_norm_eps=1e-5,
        rope_parameters={"rope_theta": 10000.0}, tie_word_embeddings=False,
    )  # fmt: skip
    vocabulary = read_vocabulary(folder, config.vocab_size)

    def describe(writer: GGUFWriter) -> None:
        describe_language(writer, config, FAMILIES["llama"], "f16")
        describe_vocabulary(writer, vocabulary, [SPECIAL_TOKENS.index("<|end|>")], None)

    path = folder / "model.gguf"
    write_gguf(
        path, "llama", describe, language_tensors(config, FAMILIES["llama"], RandomWeights(config), "model.", "f16")
    )
    return path


@pytest.fixture(scope="session")
def ids(model: Path) -> dict[str, int]:
    return json.loads((model.parent / "tokenizer.json").read_text())["model"]["vocab"]


@pytest.fixture(scope="session")
def engine(model: Path) -> Iterator[Engine]:
    with Engine(model, context=96, threads=1, parallel=2) as engine:
        yield engine
