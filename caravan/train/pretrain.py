"""Pretraining: a Llama from scratch, or a model continued on new languages."""

from __future__ import annotations

from pathlib import Path
from typing import Any, cast

import torch
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedModel, PreTrainedTokenizerBase

from caravan.core.errors import TokenizerMismatchError
from caravan.core.stage import StageContext
from caravan.models.load import load_model
from caravan.recipe.train import LlamaShape, PretrainConfig
from caravan.text.chat import load_tokenizer
from caravan.text.tokens import END_OF_TEXT, PAD
from caravan.train.dialogue_rows import collate
from caravan.train.finish import once, save_model
from caravan.train.learner import task_of
from caravan.train.loop import fit
from caravan.train.text_rows import open_sources, plan_text

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


def continued(path: str, tokenizer: PreTrainedTokenizerBase) -> PreTrainedModel:
    """A model to continue, with rows for the tokens that the tokenizer has added to the model's own.

    New rows of the input and output embeddings start at the mean of the old ones (as in LLaSM).

    Raises:
        TokenizerMismatchError: the tokenizer does not keep the ids of the model's own.
    """
    model: Any
    model, own = load_model(path)
    ids, own_ids = tokenizer.get_vocab(), own.get_vocab()
    moved = [token for token, index in own_ids.items() if ids.get(token) != index]
    if moved:
        raise TokenizerMismatchError(
            "the model's tokenizer and the run's differ",
            where=path,
            expected="the run's tokenizer to be the model's own, with tokens added at the end",
            got=f"{len(moved)} of {len(own_ids)} tokens have another id or none, such as {moved[0]!r}",
            fix=f"set `tokenize.existing: {path}`",
        )
    rows = model.get_input_embeddings().weight.shape[0]
    if len(tokenizer) > rows:
        model.resize_token_embeddings(len(tokenizer), mean_resizing=False)
        with torch.no_grad():
            for table in {model.get_input_embeddings(), model.get_output_embeddings()}:
                table.weight[rows:] = table.weight[:rows].mean(0)
    return cast(PreTrainedModel, model)


def run(config: PretrainConfig, ctx: StageContext) -> dict[str, Any]:
    """Train on the packed tokens of the tokenizer artifact."""
    return once(ctx.out, lambda work: _train(config, ctx))


def _train(config: PretrainConfig, ctx: StageContext) -> dict[str, Any]:
    folder: Path = ctx.need("tokenizer").path
    tokenizer = load_tokenizer(folder)
    torch.manual_seed(ctx.seed)
    model = continued(config.from_, tokenizer) if config.from_ else new_llama(config.model, tokenizer)
    pad = tokenizer.pad_token_id or 0
    rows = plan_text(open_sources(folder / PACKED, tokenizer, ctx.seed), config, ctx.seed, int(pad))
    task = task_of(model, "pretrain", config, config.length)
    counts = fit(model, rows, collate, config, task, ctx.out, ctx.seed)
    save_model(model, tokenizer, ctx.out)
    return {**counts, "parameters": model.num_parameters(), "shares": rows.shares()}
