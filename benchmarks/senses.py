"""Align and sft against the same model in a plain Hugging Face Trainer: dialogues a second of CPU time.

    python benchmarks/senses.py [--dialogues 150] [--epochs 1 3]

The sample world's dialogues, clips and pictures, a Llama of the quickstart's shape, the sample encoders. The plain loop
has a row for each dialogue, decodes its media in the data set, runs the encoders in every step and pads a batch to its
longest row. Both freeze the same parts, in the same precision, and see every dialogue once an epoch. Each run has a
process of its own, from nothing prepared; loading the model is not counted.
"""

from __future__ import annotations

import argparse
import itertools
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.utils.data import Dataset
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast, Trainer, TrainingArguments

from caravan.core.artifact import Artifact, Manifest
from caravan.core.stage import StageContext
from caravan.instruct import stage as instruct
from caravan.media.features import MediaSpec, audio_features, image_features
from caravan.models.compose import compose
from caravan.models.config import media_spec
from caravan.models.load import load_model
from caravan.recipe.instruct import InstructConfig
from caravan.recipe.train import AlignConfig, FinetuneConfig, SftConfig
from caravan.records import Dialogue
from caravan.samples import SHIPPED, sample_encoder
from caravan.text.chat import complete, load_tokenizer, render
from caravan.train import finetune
from caravan.train.dialogues import dialogues_in
from caravan.train.loop import freeze_the_rest, pick_precision
from caravan.train.parts import learning_rates
from caravan.train.vocabulary import learn_vocabulary

SEED, LANGUAGES = 7, ("en", "de", "es")
LENGTH, ROWS, PLAIN_ROWS = 256, 8, 16
SHAPE = {"hidden_size": 256, "num_hidden_layers": 3, "num_attention_heads": 4, "num_key_value_heads": 2}
PROJECTORS: dict[str, Any] = {
    "speech_projector": {"name": "stack", "stack": 75, "average": 25},
    "vision_projector": {"name": "pixel_shuffle", "scale": 2},
}
ENCODERS = {sense: f"sample-{kind}" for sense, kind in (("speech", "whisper"), ("vision", "clip"))}
CONFIGS: dict[str, type[FinetuneConfig]] = {"align": AlignConfig, "sft": SftConfig}


def config_of(stage: str, epochs: int) -> FinetuneConfig:
    given = {"length": LENGTH, "batch": ROWS, "micro_batch": ROWS, "epochs": epochs, "save_every": 10**6, "tasks": None}
    return CONFIGS[stage].model_validate(given | (ENCODERS | PROJECTORS if stage == "align" else {}))


def artifact(folder: Path, kind: str) -> Artifact:
    nothing: dict[str, Any] = {"files": {}, "parents": {}, "recipe": {}, "counts": {}, "versions": {}}
    return Artifact(folder, Manifest(kind=kind, stage=kind, key="", seconds=0.0, **nothing))


def make(folder: Path, dialogues: int) -> None:
    """Dialogues, a text model at random with a tokenizer of their words, and the fused model that sft begins with."""
    source = {"dialogues": dialogues * 2 // 3, "clips": dialogues // 6, "pictures": dialogues // 6, "test": 0}
    data = StageContext(folder / "dialogues", {}, folder, SEED, LANGUAGES, "instruct")
    data.out.mkdir()
    instruct.run(InstructConfig.model_validate({"sources": [{"samples": source}]}), data)
    texts = (message.text for dialogue in read(folder) for message in dialogue.messages)
    tokenizer: Any = PreTrainedTokenizerFast(tokenizer_object=learn_vocabulary(texts, 2048).backend_tokenizer)
    complete(tokenizer)
    torch.manual_seed(SEED)
    shape = LlamaConfig(**SHAPE, vocab_size=len(tokenizer), intermediate_size=1024, tie_word_embeddings=False)
    LlamaForCausalLM(shape).save_pretrained(folder / "text")
    tokenizer.save_pretrained(folder / "text")
    fused(folder).save_pretrained(folder / "fused")
    tokenizer.save_pretrained(folder / "fused")


def fused(folder: Path) -> Any:
    encoders: dict[str, Any] = {sense: sample_encoder(SHIPPED[name]) for sense, name in ENCODERS.items()}
    return compose(folder / "text", load_tokenizer(folder / "text"), **encoders, **PROJECTORS)


def read(folder: Path) -> list[Dialogue]:
    return [dialogue for _, dialogue in dialogues_in(sorted((folder / "dialogues" / "train").glob("*.parquet")))]


class Plain(Dataset[Any]):
    """A dialogue a row, its media decoded when it is asked for."""

    def __init__(self, dialogues: Sequence[Dialogue], tokenizer: Any, spec: MediaSpec) -> None:
        self.dialogues, self.tokenizer, self.spec = dialogues, tokenizer, spec

    def __len__(self) -> int:
        return len(self.dialogues)

    def __getitem__(self, row: int) -> dict[str, Any]:
        dialogue, spec = self.dialogues[row], self.spec
        clips = [audio_features(media.read(), spec) for media in dialogue.audios]
        pictures = [image_features(media.read(), spec) for media in dialogue.images]
        counts = [len(clip) * spec.audio_tokens_per_window for clip in clips]
        rendered = render(self.tokenizer, dialogue, counts, [spec.image_tokens] * len(pictures))
        return {"rendered": rendered, "clips": clips, "pictures": pictures}


def padded(rows: Sequence[dict[str, Any]]) -> dict[str, torch.Tensor]:
    longest = max(len(row["rendered"].ids) for row in rows)
    ids, mask = torch.ones(len(rows), longest, dtype=torch.long), torch.zeros(len(rows), longest, dtype=torch.long)
    labels = torch.full_like(ids, -100)
    for place, row in enumerate(rows):
        own, learnt = torch.tensor(row["rendered"].ids), torch.tensor(row["rendered"].loss_mask)
        ids[place, : len(own)], mask[place, : len(own)] = own, 1
        labels[place, : len(own)] = torch.where(learnt, own, -100)
    batch = {"input_ids": ids, "attention_mask": mask, "labels": labels}
    for name, arrays in (("input_features", "clips"), ("pixel_values", "pictures")):
        if found := [array for row in rows for array in row[arrays]]:
            stacked = np.concatenate(found) if arrays == "clips" else np.stack(found)
            batch[name] = torch.from_numpy(stacked)
    return batch


def plain(stage: str, folder: Path, epochs: int) -> tuple[int, float]:
    model = fused(folder) if stage == "align" else load_model(folder / "fused")[0]
    config = config_of(stage, epochs)
    freeze_the_rest(model, learning_rates(model, stage, config))
    rows = Plain(read(folder), load_tokenizer(folder / "text"), MediaSpec(**media_spec(model.config)))
    options = TrainingArguments(
        output_dir=str(folder / f"plain-{stage}"), per_device_train_batch_size=PLAIN_ROWS, num_train_epochs=epochs,
        learning_rate=config.learning_rate, bf16=pick_precision("auto") == "bf16", use_cpu=True, save_strategy="no",
        report_to="none", remove_unused_columns=False, disable_tqdm=True, logging_strategy="no",
    )  # fmt: skip
    trainer = Trainer(model=model, args=options, train_dataset=rows, data_collator=padded)
    started = time.process_time()
    trainer.train()
    return len(rows) * epochs, time.process_time() - started


def ours(stage: str, folder: Path, epochs: int) -> tuple[int, float]:
    out = folder / f"caravan-{stage}-{epochs}" / stage
    out.mkdir(parents=True)
    base = folder / ("text" if stage == "align" else "fused")
    inputs = {"model": artifact(base, "model"), "dialogues": artifact(folder / "dialogues", "dialogues")}
    context = StageContext(out, inputs, folder, SEED, LANGUAGES, stage)
    started = time.process_time()
    fused(folder) if stage == "align" else load_model(base)
    loading, started = time.process_time() - started, time.process_time()
    run: Any = finetune.run_align if stage == "align" else finetune.run_sft
    counts = run(config_of(stage, epochs), context)
    return counts["dialogues seen"], time.process_time() - started - loading


LOOPS = {"plain": plain, "caravan": ours}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--dialogues", type=int, default=150)
    parser.add_argument("--epochs", type=int, nargs="+", default=[1, 3])
    parser.add_argument("--measure", nargs=4, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    if arguments.measure:
        loop, stage, epochs, folder = arguments.measure
        print(json.dumps(LOOPS[loop](stage, Path(folder), int(epochs))))
        return
    print("stage  epochs", *(f"{loop:>8}" for loop in LOOPS), "  ratio")
    with tempfile.TemporaryDirectory() as made:
        make(Path(made), arguments.dialogues)
        for stage, epochs in itertools.product(CONFIGS, arguments.epochs):
            speeds = []
            for loop in LOOPS:
                command = [sys.executable, __file__, "--measure", loop, stage, str(epochs), made]
                done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
                count, seconds = json.loads(done.stdout.splitlines()[-1])
                speeds.append(count / seconds)
            told = (f"{speed:8.1f}" for speed in speeds)
            print(f"{stage:<6} {epochs:>6}", *told, f"{speeds[1] / speeds[0]:7.2f}", flush=True)


if __name__ == "__main__":
    main()
