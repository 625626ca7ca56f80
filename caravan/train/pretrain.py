"""Pretraining: a Llama from scratch, or a model continued on new languages."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    LlamaConfig,
    LlamaForCausalLM,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)

from caravan.core.errors import TokenizerMismatchError
from caravan.core.files import read_json, write_json
from caravan.core.stage import StageContext
from caravan.models.adapters import whole_in_folder
from caravan.models.grow import CONFIG, NewRows
from caravan.models.load import check_tokenizer, load_whole
from caravan.models.positions import stretch, to_rotary
from caravan.recipe.train import LlamaShape, PositionsConfig, PretrainConfig
from caravan.text.chat import load_tokenizer
from caravan.text.tokens import END_OF_TEXT, PAD
from caravan.train.dialogue_rows import collate, without_positions
from caravan.train.finish import WORK, once
from caravan.train.growth import grown, pieces_of
from caravan.train.learner import keeps_documents_apart, task_of
from caravan.train.loop import Collate, Task, fit, freeze_the_rest, last_weights, pick_precision
from caravan.train.methods import adapted, quantised, save_trained
from caravan.train.positions import FACTS, long_texts, loss_by_position, write_report
from caravan.train.processes import as_first, is_main, main_first, together
from caravan.train.sharding import SHARDED, engine, hollow, on_no_device
from caravan.train.text_rows import Source, TextRows, open_sources, plan_text

PACKED = "packed"


def new_llama(shape: LlamaShape, tokenizer: PreTrainedTokenizerBase) -> LlamaForCausalLM:
    """A Llama from scratch; weights start normal with deviation sqrt(2 / 5 d) (Nguyen and Salazar 2019)."""
    vocabulary = tokenizer.get_vocab()
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=shape.hidden_size,
        num_hidden_layers=shape.layers,
        num_attention_heads=shape.heads,
        num_key_value_heads=shape.kv_heads or shape.heads,
        intermediate_size=shape.intermediate_size or -(-shape.hidden_size * 8 // 3 // 32) * 32,
        max_position_embeddings=shape.max_position,
        rope_parameters={"rope_type": "default", "rope_theta": shape.rope_theta},
        tie_word_embeddings=shape.tie_embeddings,
        initializer_range=(2 / (5 * shape.hidden_size)) ** 0.5,
        bos_token_id=vocabulary.get(END_OF_TEXT),
        eos_token_id=vocabulary.get(END_OF_TEXT),
        pad_token_id=vocabulary.get(PAD),
    )
    return LlamaForCausalLM(config)


def source_of(config: PretrainConfig, ctx: StageContext, tokenizer: PreTrainedTokenizerBase) -> tuple[str, list[int]]:
    """The model to continue, with rows for the tokens that the run's tokenizer has added to its own, and their ids.

    Raises:
        TokenizerMismatchError: the tokenizer does not keep the ids of the model's own.
    """
    name = ctx.located(str(config.from_))
    whole_in_folder(name)
    own = load_tokenizer(name)
    ids, own_ids = tokenizer.get_vocab(), own.get_vocab()
    moved = [token for token, index in own_ids.items() if ids.get(token) != index]
    if moved:
        raise TokenizerMismatchError(
            "the model's tokenizer and the run's differ",
            where=name,
            expected="the run's tokenizer to be the model's own, with tokens added at the end",
            got=f"{len(moved)} of {len(own_ids)} tokens have another id or none, such as {moved[0]!r}",
            fix=f"set `tokenize.extend: {config.from_}` (or `tokenize.existing`, without new pieces)",
        )
    pieces = pieces_of(tokenizer, own) if len(ids) > len(own_ids) else {}
    if pieces:
        new = NewRows(pieces, max(own_ids.values()) + 1, config.new_rows, config.new_rows_noise, ctx.seed)
        name = grown(name, ctx.out / WORK, max(ids.values()) + 1, new)
    return name, sorted(pieces)


def opened(name: str, config: PretrainConfig, ctx: StageContext, tokenizer: PreTrainedTokenizerBase) -> PreTrainedModel:
    """The model of `source_of`, with the positions and the weights' kind that the recipe asks for.

    Raises:
        ModelError: it cannot have such positions.
    """
    options = quantised(config.method, bf16=pick_precision(config.precision) == "bf16")
    if config.positions.rotary:
        rotary = ctx.out / WORK / "rotary"
        if not (rotary / CONFIG).is_file():
            to_rotary(name, rotary)
        name = str(rotary)
    if config.positions.scaling:
        options["config"] = AutoConfig.from_pretrained(name)
        stretch(options["config"], config.positions.scaling, config.positions.factor)
    if hollow(config):
        return AutoModelForCausalLM.from_config(
            options.get("config") or AutoConfig.from_pretrained(name), dtype=torch.float32
        )
    model: PreTrainedModel = load_whole(AutoModelForCausalLM.from_pretrained, name, **options)
    check_tokenizer(model, tokenizer, where=name)
    return model


def run(config: PretrainConfig, ctx: StageContext) -> dict[str, Any]:
    """Train on the packed tokens of the tokenizer artifact."""
    return once(ctx.out, lambda work: together(train, config, ctx, work))


@dataclass(frozen=True)
class Ready:
    """A run of pretraining before its first step: the model with what its method trains, and what it sees."""

    model: Any
    tokenizer: PreTrainedTokenizerBase
    rows: TextRows
    collate: Collate
    task: Task
    new: list[int]
    curves: dict[str, list[float]]


@dataclass(frozen=True)
class Loaded:
    """The model without what its method puts on it, ids of its new rows, what it reads, and its losses by position."""

    model: PreTrainedModel
    tokenizer: PreTrainedTokenizerBase
    sources: list[Source]
    new: list[int]
    curves: dict[str, list[float]]


def loaded(config: PretrainConfig, ctx: StageContext) -> Loaded:
    """Load or make the model."""
    folder: Path = ctx.need("tokenizer").path
    tokenizer = load_tokenizer(folder)
    sources = open_sources(folder / PACKED, tokenizer, ctx.seed)
    torch.manual_seed(ctx.seed)
    with on_no_device(hollow(config)):
        if config.from_ is None:
            return Loaded(new_llama(config.model, tokenizer), tokenizer, sources, [], {})
        name, new = source_of(config, ctx, tokenizer)
        model = opened(name, config, ctx, tokenizer)
    curves: dict[str, list[float]] = {}
    if config.positions != PositionsConfig():
        curves = _curves_before(name, model, long_texts(sources, config.length), ctx.out / WORK)
    return Loaded(model, tokenizer, sources, new, curves)


def ready(config: PretrainConfig, ctx: StageContext) -> Ready:
    """Load or make the model, and plan the run; every process takes part."""
    with main_first():
        start = loaded(config, ctx)
    alone = as_first(lambda: not keeps_documents_apart(start.model))
    rows = plan_text(start.sources, config, ctx.seed, int(start.tokenizer.pad_token_id or 0), alone=alone)
    model = adapted(start.model, config.method, start.new, base=config.from_)
    task = task_of(model, "pretrain", config, config.length)
    how = without_positions if alone else collate
    return Ready(model, start.tokenizer, rows, how, task, start.new, start.curves)


def _curves_before(
    name: str, changed: PreTrainedModel, texts: list[torch.Tensor], work: Path
) -> dict[str, list[float]]:
    """Loss against position of the model as it was, and with its positions changed, measured once."""
    if not (work / FACTS).is_file():
        before = load_whole(AutoModelForCausalLM.from_pretrained, name).to(changed.device)
        curves = {"as it was": loss_by_position(before, texts), "positions changed": loss_by_position(changed, texts)}
        write_json(work / FACTS, curves)
    found: dict[str, list[float]] = read_json(work / FACTS)
    return found


def train(config: PretrainConfig, ctx: StageContext) -> dict[str, Any]:
    """What every process of a run does."""
    run = ready(config, ctx)
    counts = fit(run.model, run.rows, run.collate, config, run.task, ctx.out, ctx.seed)
    if not is_main():
        return counts
    if engine(config) in SHARDED:
        run = gathered(replace(run, model=None), config, ctx)
    plain = save_trained(run.model, config.method, run.tokenizer, ctx.out, tables=bool(run.new))
    if run.curves:
        texts = long_texts(run.rows.sources, config.length)
        write_report(ctx.out, config.length, {**run.curves, "trained": loss_by_position(plain, texts)})
    return {**counts, "parameters": plain.num_parameters(), "shares": run.rows.shares()}


def gathered(run: Ready, config: PretrainConfig, ctx: StageContext) -> Ready:
    """The run with its model whole in this process, as the last checkpoint has it."""
    model = adapted(loaded(config, ctx).model, config.method, run.new, base=config.from_)
    freeze_the_rest(model, run.task.rates)
    last_weights(model, ctx.out)
    return replace(run, model=model)
