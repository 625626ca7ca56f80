"""A tiny assistant in the true architecture, exported as any other, for the tests that need a served model."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

import pytest

SENTENCES = (
    "How many months are there in a year? Twelve.",
    "一年有几个月？",
    "Сколько месяцев в году?",
    "كم عدد الأشهر؟",
)
CONTEXT = 1024
START_SECONDS = 240


@pytest.fixture(scope="session")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished export of a model with random weights, which hears and sees; its name is `tiny`."""
    from caravan.core.artifact import write_manifest
    from caravan.core.stage import StageContext
    from caravan.export.stage import run
    from caravan.recipe.export import ExportConfig

    folder = tmp_path_factory.mktemp("served")
    facts = {"stage": "sft", "key": "tiny", "parents": {}, "recipe": {}, "counts": {}, "seconds": 0.0}
    _write_model(folder / "sft")
    model = write_manifest(folder / "sft", kind="model", **facts)
    out = folder / "tiny" / "export"
    out.mkdir(parents=True)
    context = StageContext(out=out, inputs={"model": model}, base=folder, seed=7, languages=("en",), name="export")
    # How exactly files agree with torch is what the tests of export are about.
    run(ExportConfig(types=("f16", "q4_k_m"), prompts=1, new_tokens=4, max_logprob_delta=1.0, threads=1), context)
    return write_manifest(out, kind="gguf", **facts | {"stage": "export"}).path


def _write_model(folder: Path) -> None:
    import torch
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import CLIPVisionConfig, LlamaConfig, PreTrainedTokenizerFast, WhisperConfig

    from caravan.models.config import CaravanConfig
    from caravan.models.fused import CaravanForConditionalGeneration
    from caravan.text import tokens

    backend = Tokenizer(models.BPE())
    digits = pre_tokenizers.Digits(individual_digits=True)
    backend.pre_tokenizer = pre_tokenizers.Sequence([digits, pre_tokenizers.ByteLevel(add_prefix_space=False)])
    backend.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=400, special_tokens=[*tokens.SPECIAL_TOKENS], initial_alphabet=alphabet, show_progress=False
    )
    backend.train_from_iterator(SENTENCES, trainer)
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=backend, bos_token=tokens.END_OF_TEXT, eos_token=tokens.END, pad_token=tokens.PAD
    )
    tokenizer.chat_template = tokens.CHAT_TEMPLATE
    text = LlamaConfig(
        vocab_size=len(tokenizer), hidden_size=256, intermediate_size=256, num_hidden_layers=2, num_attention_heads=4,
        num_key_value_heads=2, max_position_embeddings=CONTEXT, tie_word_embeddings=False,
        bos_token_id=tokenizer.bos_token_id, eos_token_id=tokenizer.eos_token_id, pad_token_id=tokenizer.pad_token_id,
    )  # fmt: skip
    config = CaravanConfig(
        text_config=text,
        speech_config=WhisperConfig(
            d_model=64, encoder_layers=1, encoder_attention_heads=2, encoder_ffn_dim=64, num_mel_bins=80
        ),
        vision_config=CLIPVisionConfig(
            hidden_size=64,
            intermediate_size=64,
            num_hidden_layers=2,
            num_attention_heads=2,
            image_size=56,
            patch_size=14,
        ),
        speech_projector={"name": "stack", "stack": 10, "hidden": 64},
        vision_projector={"name": "pixel_shuffle", "scale": 2, "hidden": 64},
        audio_token_id=tokens.SPECIAL_TOKENS.index(tokens.AUDIO_PAD),
        image_token_id=tokens.SPECIAL_TOKENS.index(tokens.IMAGE_PAD),
        image_mean=[0.48, 0.46, 0.41],
        image_std=[0.27, 0.26, 0.28],
    )
    model = CaravanForConditionalGeneration(config)
    generator = torch.Generator().manual_seed(7)
    with torch.no_grad():
        # Of unit gain: with the small weights that training starts from, every answer would be the same.
        for name, weight in model.named_parameters():
            if weight.ndim >= 2 and "embed_positions" not in name:
                weight.normal_(0, weight[0].numel() ** -0.5, generator=generator)
    model.generation_config.eos_token_id = tokenizer.eos_token_id
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)


class Server:
    """A server process of `caravan serve`, and the URL under which it answers."""

    def __init__(self, process: subprocess.Popen[str], url: str) -> None:
        self.process, self.url = process, url

    def engine(self) -> int:
        """The process id of its engine."""
        (engine,) = self.engines()
        return engine

    def engines(self) -> list[int]:
        """The process ids of its engines, in the order in which they were started."""
        children = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children").read_text().split()
        return [int(pid) for pid in children if "caravan.engine" in Path(f"/proc/{pid}/cmdline").read_text()]


@contextmanager
def serve(model: Path, ready: Path, *settings: str) -> Iterator[Server]:
    """Run `caravan serve` on a free port until the block ends."""
    command = [
        sys.executable,
        "-m",
        "caravan",
        "serve",
        str(model),
        "threads=1",  # several would wait for each other at each layer: for ever, where others keep the machine busy
        *settings,
        "--port",
        "0",
        "--ready-file",
        str(ready),
    ]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    try:
        deadline = time.monotonic() + START_SECONDS
        while not ready.exists():
            if process.poll() is not None or time.monotonic() > deadline:
                process.kill()
                pytest.fail(f"the server did not start:\n{process.communicate()[0]}")
            time.sleep(0.1)
        yield Server(process, ready.read_text())
        process.terminate()
        process.communicate(timeout=120)
        assert process.returncode == 0
    finally:
        process.kill()
        process.communicate()


@pytest.fixture(scope="session")
def start_server(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., AbstractContextManager[Server]]:
    """Serve a model, with such settings, for the length of a `with` block."""
    return lambda model, *settings: serve(model, tmp_path_factory.mktemp("ready") / "url", *settings)


@pytest.fixture(scope="session")
def server(exported: Path, start_server: Callable[..., AbstractContextManager[Server]]) -> Iterator[Server]:
    """A server of the tiny assistant, for all tests that leave it running."""
    # What the engine remembers may tip a near tie, and answers of random weights are full of them.
    with start_server(exported, "cache_prompt=false", "max_tokens=48") as running:
        yield running
