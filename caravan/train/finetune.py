"""Fine-tuning on dialogues: align (projectors alone) and sft (projectors and language model)."""

from __future__ import annotations

import hashlib
import shutil
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from caravan.core.errors import DataError, ModelError
from caravan.core.stage import StageContext
from caravan.media.features import MediaSpec
from caravan.models.adapters import whole_in_folder
from caravan.models.compose import compose
from caravan.models.config import media_spec
from caravan.models.load import load_model
from caravan.recipe.methods import FullMethod, PrefixMethod, PromptMethod
from caravan.recipe.train import AlignConfig, FinetuneConfig, SftConfig
from caravan.samples import SHIPPED, sample_encoder
from caravan.text.chat import load_tokenizer
from caravan.train.dialogue_rows import Sense, collate, plan_dialogues, without_positions
from caravan.train.dialogues import Prepared, prepare
from caravan.train.finish import once
from caravan.train.growth import made_to_chat
from caravan.train.learner import keeps_documents_apart, task_of
from caravan.train.loop import fit, pick_precision
from caravan.train.methods import adapted, quantised, save_trained
from caravan.train.parts import learning_rates
from caravan.train.states import Encoder, encoders_of, plain_attention, sense_of
from caravan.train.words import learn_words

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

    def load(work: Path) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
        if config.text is None:
            folder = str(ctx.need("model").path)
            tokenizer = load_tokenizer(folder)
        else:
            folder, tokenizer = made_to_chat(ctx.located(config.text), work)
        model = compose(
            folder,
            tokenizer,
            speech=encoder_path(config.speech, "speech", ctx),
            vision=encoder_path(config.vision, "vision", ctx),
            speech_projector=config.speech_projector.model_dump(),
            vision_projector=config.vision_projector.model_dump(),
            image_size=config.image_size,
        )
        return model, tokenizer

    return once(ctx.out, lambda work: _train("align", config, ctx, partial(load, work)))


def run_sft(config: SftConfig, ctx: StageContext) -> dict[str, Any]:
    """Train the language model, and its projectors if it has some, on dialogues."""

    def load() -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
        folder = ctx.need("model").path
        whole_in_folder(folder)
        return load_model(folder, **quantised(config.method, bf16=pick_precision(config.precision) == "bf16"))

    counts = once(ctx.out, lambda _: _train("sft", config, ctx, load))
    shutil.rmtree(ctx.out.parent / PREPARED, ignore_errors=True)
    return counts


def _train(stage: str, config: FinetuneConfig, ctx: StageContext, load: Any) -> dict[str, Any]:
    torch.manual_seed(ctx.seed)
    model, tokenizer = load()
    if not getattr(model, "is_quantized", False):
        model.to("cuda" if torch.cuda.is_available() else "cpu")
    prepared = _prepared(config, ctx, model, tokenizer)
    method = config.method if isinstance(config, SftConfig) else FullMethod.model_validate({})
    # A prefix or prompt stands before a sequence, not before each of its dialogues.
    alone = isinstance(method, (PrefixMethod, PromptMethod)) or not keeps_documents_apart(model)
    pad = int(tokenizer.pad_token_id or 0)
    rows = plan_dialogues(prepared, config, ctx.seed, pad, alone=alone)
    seen = rows.order[rows.plan.documents]
    words = config.words if isinstance(config, AlignConfig) else None
    senses = _senses(config, ctx, model, prepared, seen, told=words is not None)
    if words:
        trained = learning_rates(model, stage, config)
        taught = [pair for pair in senses if any(f".{pair[0].name}_projector." in name for name in trained)]
        learn_words(model, taught, words, ctx.out, ctx.seed, trained)
    rows = replace(rows, senses=tuple(sense for _, sense in senses))
    tuned = adapted(model, method, base=model.name_or_path)
    task = task_of(tuned, stage, config, config.length)
    together = partial(without_positions if alone else collate, pad=pad)
    with plain_attention(model, config.rates):
        counts = fit(tuned, rows, together, config, task, ctx.out, ctx.seed)
    plain = save_trained(tuned, method, tokenizer, ctx.out)
    return {**counts, **prepared.counts, "dialogues seen": len(seen), "parameters": plain.num_parameters()}


def _prepared(config: FinetuneConfig, ctx: StageContext, model: Any, tokenizer: PreTrainedTokenizerBase) -> Prepared:
    """The dialogues as this model takes them, in a folder that tells by its name from what they were made."""
    dialogues, spec = ctx.need("dialogues"), MediaSpec(**media_spec(model.config))
    files = sorted((dialogues.path / "train").glob("*.parquet"))
    if not files:
        raise DataError("no dialogues to train on", where=str(dialogues.path / "train"), got="no Parquet")
    made_of = (dialogues.manifest.key, files, spec, config.length, tokenizer.chat_template)
    key = hashlib.blake2b(repr(made_of).encode(), digest_size=8)
    key.update(tokenizer.backend_tokenizer.to_str().encode())
    return prepare(files, tokenizer, spec, config.length, ctx.out.parent / PREPARED / f"dialogues-{key.hexdigest()}")


def _senses(
    config: FinetuneConfig, ctx: StageContext, model: Any, prepared: Prepared, seen: NDArray[np.int64], *, told: bool
) -> list[tuple[Encoder, Sense]]:
    """The encoders for which there are media, and how they take part in a run over the dialogues `seen`.

    With `told`, all media are used over and over, whatever they are asked in the end.
    """
    autocast = pick_precision(config.precision) == "bf16"
    senses = []
    with plain_attention(model, config.rates):
        for encoder in encoders_of(model, MediaSpec(**media_spec(model.config)), prepared):
            uses = np.concatenate([encoder.store.of(int(dialogue)) for dialogue in seen])
            if told:
                uses = np.concatenate([uses, *[np.arange(len(encoder.windows))] * 2])
            senses.append((encoder, sense_of(encoder, uses, ctx.out.parent / PREPARED, config, autocast)))
    return senses
