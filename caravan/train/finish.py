"""How a training stage ends: the model is written, then what only a resume needs goes."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

from transformers import GenerationConfig, PreTrainedModel, PreTrainedTokenizerBase

from caravan.core.files import read_json, write_json
from caravan.models.config import CaravanConfig
from caravan.models.processor import CaravanProcessor
from caravan.text.tokens import END, END_OF_TEXT, PAD
from caravan.train.loop import full_disk_while_saving, remove_checkpoints

SUMMARY = "train.json"
WORK = "work"


def once(out: Path, train: Callable[[Path], dict[str, Any]]) -> dict[str, Any]:
    """Do a stage's training unless it ended before a kill; its counts are kept in `train.json`.

    `train` gets a folder for what it may leave half done; that and the checkpoints are removed at the end.
    """
    if not (out / SUMMARY).exists():
        work = out / WORK
        work.mkdir(parents=True, exist_ok=True)
        write_json(out / SUMMARY, train(work))
    shutil.rmtree(out / WORK, ignore_errors=True)
    remove_checkpoints(out)
    counts: dict[str, Any] = read_json(out / SUMMARY)
    return counts


def save_model(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, out: Path) -> None:
    """Write a Hugging Face folder: model, tokenizer, how to generate, and the processor of a model with senses.

    Raises:
        DiskFullError: there is no room.
    """
    vocabulary = tokenizer.get_vocab()
    stops = [vocabulary[token] for token in (END, END_OF_TEXT) if token in vocabulary]
    if stops:
        model.generation_config = GenerationConfig.from_dict(
            {"bos_token_id": vocabulary.get(END_OF_TEXT), "eos_token_id": stops, "pad_token_id": vocabulary.get(PAD)}
        )
    model.config.use_cache = True
    with full_disk_while_saving(out):
        model.save_pretrained(out)
        tokenizer.save_pretrained(out)
        if isinstance(model.config, CaravanConfig):
            CaravanProcessor.of(model.config, tokenizer).save_pretrained(out)
