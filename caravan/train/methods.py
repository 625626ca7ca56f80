"""Full training, LoRA, QLoRA, prefix and prompt tuning, through peft: what is put on a model, and what is saved of it.

An adapter of low rank is merged into the weights at the end, so that whatever reads the model's folder needs no peft;
the adapter itself stands in `adapter` beside them. Prefixes and prompts cannot be merged: the model stays as it was,
and `caravan.models.load` puts them on again.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import nn
from transformers import BitsAndBytesConfig, PreTrainedModel, PreTrainedTokenizerBase
from transformers.pytorch_utils import Conv1D

from caravan.core.errors import MissingDependencyError, RecipeError
from caravan.models.adapters import VIRTUAL, put_on, wrap
from caravan.models.fused import CaravanForConditionalGeneration
from caravan.recipe.methods import FullMethod, LoraMethod, Method, PrefixMethod, PromptMethod, QloraMethod
from caravan.train.finish import save_model
from caravan.train.loop import full_disk_while_saving
from caravan.train.parts import PARTS

ADAPTER = "adapter"


def quantised(method: Method, *, bf16: bool) -> dict[str, Any]:
    """Arguments of `from_pretrained` for the weights that a method wants.

    Raises:
        MissingDependencyError: bitsandbytes is not installed.
    """
    if not isinstance(method, QloraMethod):
        return {}
    try:
        import bitsandbytes  # noqa: F401
    except ImportError as error:
        raise MissingDependencyError("bitsandbytes", "tune", needed_for="QLoRA") from error
    config = BitsAndBytesConfig(
        load_in_4bit=True,
        bnb_4bit_quant_type=method.quantisation,
        bnb_4bit_use_double_quant=method.double_quantisation,
        bnb_4bit_compute_dtype=torch.bfloat16 if bf16 else torch.float32,
        llm_int8_skip_modules=["lm_head", *(prefix.removesuffix(".") for prefix in PARTS if prefix)],
    )
    return {"quantization_config": config, "device_map": {"": "cuda" if torch.cuda.is_available() else "cpu"}}


def adapted(model: PreTrainedModel, method: Method, new: Sequence[int] = (), base: str | None = None) -> Any:
    """The model with what the method trains; a model that trains in full is left as it is.

    Args:
        new: ids of tokens whose rows are new in this run.
        base: what the adapter's files name as the model that they belong to.

    Raises:
        MissingDependencyError: peft is not installed.
        RecipeError: the rows of new tokens shall train, and there are none.
    """
    if isinstance(method, FullMethod):
        return model
    try:
        from peft import LoraConfig, PrefixTuningConfig, PromptTuningConfig
    except ImportError as error:
        raise MissingDependencyError("peft", "tune", needed_for=f"the method {method.name}") from error
    config: Any
    if isinstance(method, PrefixMethod):
        config = PrefixTuningConfig(task_type="CAUSAL_LM", num_virtual_tokens=method.tokens)
    elif isinstance(method, PromptMethod):
        config = PromptTuningConfig(task_type="CAUSAL_LM", num_virtual_tokens=method.tokens)
    else:
        config = LoraConfig(
            task_type="CAUSAL_LM",
            r=method.r,
            lora_alpha=method.alpha,  # type: ignore[arg-type]
            lora_dropout=method.dropout,
            target_modules=targets(model, method.targets),
            fan_in_fan_out=any(isinstance(module, Conv1D) for module in model.modules()),
            **_tables(model, method, new),
        )
    wrapped = wrap(model, config)
    wrapped.peft_config["default"].base_model_name_or_path = base
    return wrapped


def targets(model: PreTrainedModel, names: Sequence[str] | None) -> str | list[str]:
    """The linear layers of the language model alone; those of encoders and projectors have the same names."""
    fused = isinstance(model, CaravanForConditionalGeneration)
    language: Any = model.model.language_model if fused else model
    head = model.get_output_embeddings()
    leaves = names or sorted(
        {
            name.rpartition(".")[2]
            for name, module in language.named_modules()
            if isinstance(module, (nn.Linear, Conv1D)) and module is not head
        }
    )
    if not fused:
        return list(leaves)
    return rf"model\.language_model\..*\.({'|'.join(map(re.escape, leaves))})"


def _tables(model: PreTrainedModel, method: LoraMethod | QloraMethod, new: Sequence[int]) -> dict[str, Any]:
    """peft's arguments for the tables of tokens that train beside an adapter."""
    if method.embeddings == "frozen":
        return {}
    names = {id(module): name for name, module in model.named_modules()}
    table: Any = model.get_input_embeddings()
    head: Any = model.get_output_embeddings()
    tied = head.weight is table.weight
    both = [names[id(table)], names[id(head)]]
    if method.embeddings == "all":
        # A tied head is named too: peft knows of tables under other names than Llama's by it alone.
        return {"modules_to_save": both, "ensure_weight_tying": tied}
    if not new:
        raise RecipeError(
            "no token is new in this run",
            where="method.embeddings",
            expected="a tokenizer that has more tokens than the model to continue",
            got="new",
            fix="extend the tokenizer (tokenize.extend), or train all rows or none (embeddings: all | frozen)",
        )
    return {"trainable_token_indices": {part: list(new) for part in (both[:1] if tied else both)}}


def save_trained(
    model: Any, method: Method, tokenizer: PreTrainedTokenizerBase, out: Path, *, tables: bool = False
) -> PreTrainedModel:
    """Write the model's folder, and beside it what the method trained; the model without it.

    Args:
        tables: whether the adapter's files hold the tables of tokens, for a model to continue that has fewer rows.

    Raises:
        DiskFullError: there is no room.
    """
    if isinstance(method, FullMethod):
        save_model(model, tokenizer, out)
        return model
    virtual = isinstance(method, (PrefixMethod, PromptMethod))
    folder = out / (VIRTUAL if virtual else ADAPTER)
    with full_disk_while_saving(out):
        # Tables that the model to continue lacks rows of belong to the adapter.
        model.save_pretrained(folder, save_embedding_layers=tables)
        tokenizer.save_pretrained(folder)
    plain = model.get_base_model() if virtual else merged(model, folder)
    save_model(plain, tokenizer, out)
    return plain


def merged(model: Any, folder: Path) -> Any:
    """The weights with the adapter in them: of 4-bit weights, with what they stand for, never with 4 bits again."""
    if not getattr(model.get_base_model(), "is_loaded_in_4bit", False):
        return model.merge_and_unload()
    plain = model.unload().dequantize().float()
    return put_on(plain, folder).merge_and_unload()
