"""Fine-tuning on dialogues: align (projectors alone) and sft (projectors and language model)."""

from __future__ import annotations

import hashlib
import shutil
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from caravan.core.errors import DataError, ModelError
from caravan.core.stage import StageContext
from caravan.media.features import MediaSpec
from caravan.models.compose import compose
from caravan.models.config import media_spec
from caravan.models.load import load_model
from caravan.recipe.train import AlignConfig, FinetuneConfig, SftConfig
from caravan.samples import sample_encoder
from caravan.text.chat import load_tokenizer
from caravan.train.dialogue_rows import Sense, collate, plan_dialogues
from caravan.train.dialogues import prepare
from caravan.train.finish import once, save_model
from caravan.train.learner import task_of
from caravan.train.loop import fit, pick_precision
from caravan.train.states import encoders_of, plain_attention, sense_of
from caravan.train.words import learn_words

SHIPPED = {"sample-whisper": "speech", "sample-clip": "vision"}
OF_THE_RUN = "encoders"
# In the run's folder: dialogues as ids and what frozen encoders say, made in align and read in sft.
PREPARED = "prepared"


def encoder_path(name: str | None, sense: str, ctx: StageContext) -> str | None:
    """The folder or hub name of an encoder that the recipe names.

    Raises:
        ModelError: the run's encoders have none for this sense.
    """
    if name in SHIPPED:
        return str(sample_encoder(SHIPPED[name]))
    if name != OF_THE_RUN:
        return name
    folder = ctx.need("encoders").path / sense
    if not folder.is_dir():
        raise ModelError(
            f"the run's encoders have no {sense}",
            where=str(folder.parent),
            expected=f"a folder {sense}",
            got="none",
            fix=f"train one (encoders.{sense}), name another (align.{sense}), or do without (align.{sense}=null)",
        )
    return str(folder)


def run_align(config: AlignConfig, ctx: StageContext) -> dict[str, Any]:
    """Attach encoders to a text model and train the projectors between them."""

    def load() -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
        folder = ctx.need("model").path
        tokenizer = load_tokenizer(folder)
        model = compose(
            folder,
            tokenizer,
            speech=encoder_path(config.speech, "speech", ctx),
            vision=encoder_path(config.vision, "vision", ctx),
            speech_projector=config.speech_projector.model_dump(),
            vision_projector=config.vision_projector.model_dump(),
        )
        return model, tokenizer

    return once(ctx.out, lambda _: _train("align", config, ctx, load))


def run_sft(config: SftConfig, ctx: StageContext) -> dict[str, Any]:
    """Train the language model, and its projectors if it has some, on dialogues."""
    counts = once(ctx.out, lambda _: _train("sft", config, ctx, lambda: load_model(ctx.need("model").path)))
    shutil.rmtree(ctx.out.parent / PREPARED, ignore_errors=True)
    return counts


def _train(stage: str, config: FinetuneConfig, ctx: StageContext, load: Any) -> dict[str, Any]:
    torch.manual_seed(ctx.seed)
    model, tokenizer = load()
    model.to("cuda" if torch.cuda.is_available() else "cpu")
    spec = MediaSpec(**media_spec(model.config))
    files = sorted((ctx.need("dialogues").path / "train").glob("*.parquet"))
    if not files:
        raise DataError("no dialogues to train on", where=str(ctx.need("dialogues").path / "train"), got="no Parquet")
    shared = ctx.out.parent / PREPARED
    key = hashlib.blake2b(
        repr((ctx.need("dialogues").manifest.key, files, spec, config.length)).encode(), digest_size=8
    )
    key.update(tokenizer.backend_tokenizer.to_str().encode() + str(tokenizer.chat_template).encode())
    prepared = prepare(files, tokenizer, spec, config.length, shared / f"dialogues-{key.hexdigest()}")
    rows = plan_dialogues(prepared, config, ctx.seed, int(tokenizer.pad_token_id or 0))
    seen = rows.order[rows.plan.documents]
    autocast = pick_precision(config.precision) == "bf16"
    words = config.words if isinstance(config, AlignConfig) else None
    senses: list[Sense] = []
    if encoders := encoders_of(model, spec, prepared):
        with plain_attention(model):
            for encoder in encoders:
                uses = np.concatenate([encoder.store.of(int(dialogue)) for dialogue in seen])
                if words:  # they are told by all media, over and over, whatever these are asked in the end
                    uses = np.concatenate([uses, *[np.arange(len(encoder.windows))] * 2])
                senses.append(sense_of(encoder, uses, shared, config, autocast))
    if words:
        learn_words(model, list(zip(encoders, senses, strict=True)), words, ctx.out, ctx.seed)
    task = task_of(model, stage, config, config.length)
    counts = fit(model, replace(rows, senses=tuple(senses)), collate, config, task, ctx.out, ctx.seed)
    save_model(model, tokenizer, ctx.out)
    return {**counts, **prepared.counts, "dialogues seen": len(seen), "parameters": model.num_parameters()}
