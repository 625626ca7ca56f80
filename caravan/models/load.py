"""Loading a model of the road, text alone or fused, with its tokenizer; weights are whole or it is an error."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from transformers import (
    AutoConfig,
    AutoModel,
    AutoModelForCausalLM,
    AutoModelForImageTextToText,
    AutoModelForMultimodalLM,
    AutoProcessor,
    AutoTokenizer,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)
from transformers.utils import logging

from caravan.core.errors import ModelError, TokenizerMismatchError
from caravan.models.adapters import VIRTUAL, put_on
from caravan.models.backbone import CaravanModel
from caravan.models.config import CaravanConfig, media_spec
from caravan.models.fused import CaravanForConditionalGeneration
from caravan.models.processor import CaravanProcessor

__all__ = ["CaravanForConditionalGeneration", "check_tokenizer", "load_model", "load_whole", "media_spec"]


def load_model(
    path: str | Path, dtype: str = "float32", **options: Any
) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    """A causal language model, plain or fused, and its tokenizer, from a folder or the hub; in evaluation mode.

    A prefix or prompt that was trained for it (`virtual` in its folder) is put on.

    Args:
        path: folder or hub name.
        dtype: name of a torch dtype for all weights.
        options: further arguments of `from_pretrained`.

    Raises:
        ModelError: no model or tokenizer there, or weights are missing.
        TokenizerMismatchError: they do not belong together.
    """
    model = load_whole(AutoModelForCausalLM.from_pretrained, path, dtype, **options)
    try:
        tokenizer = AutoTokenizer.from_pretrained(str(path))
    except (OSError, ValueError) as error:
        raise _unloadable("tokenizer", path, error) from error
    check_tokenizer(model, tokenizer, where=str(path))
    if (Path(path) / VIRTUAL).is_dir():
        model = put_on(model, Path(path) / VIRTUAL)
    return model.eval(), tokenizer


def load_whole(from_pretrained: Callable[..., Any], path: str | Path, dtype: str = "float32", **options: Any) -> Any:
    """`from_pretrained` that refuses what transformers would fill with random numbers.

    Raises:
        ModelError: there is no such model, or weights are missing or have another shape.
    """
    try:
        with _quiet():
            model, report = from_pretrained(str(path), dtype=getattr(torch, dtype), output_loading_info=True, **options)
    except (OSError, ValueError, RuntimeError, SafetensorError) as error:
        raise _unloadable("model", path, error) from error
    absent = sorted(report["missing_keys"]) + sorted(str(key) for key in report["mismatched_keys"])
    if absent:
        raise ModelError(
            "the model's weights are not whole",
            where=str(path),
            expected=f"weights for every parameter of {type(model).__name__}",
            got=f"{len(absent)} missing or of another shape, the first: {absent[0]}",
            fix="copy the model again, or name one of the right kind",
        )
    _keep_quantised(model)
    return model


def check_tokenizer(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, where: str = "") -> None:
    """See that every token has an embedding, and that a fused model's placeholders are special to the tokenizer.

    Raises:
        TokenizerMismatchError: they do not belong together.
    """
    embedding: Any = model.get_input_embeddings()
    rows = embedding.weight.shape[0]
    if len(tokenizer) > rows:
        raise TokenizerMismatchError(
            "the tokenizer does not match the model",
            where=where or None,
            expected=f"at most {rows} tokens, the rows of the model's embedding",
            got=f"{len(tokenizer)} tokens",
            fix="use the tokenizer that the model was trained with",
        )
    if not isinstance(model.config, CaravanConfig):
        return
    for sense, token in (("audio", model.config.audio_token_id), ("image", model.config.image_token_id)):
        if token is not None and token not in tokenizer.added_tokens_decoder:
            raise TokenizerMismatchError(
                "the tokenizer does not match the model",
                where=where or None,
                expected=f"a special token with the id {token}, the {sense} placeholder of the model",
                got=repr(tokenizer.convert_ids_to_tokens(token)),
                fix="use the tokenizer that the model was trained with",
            )


def _keep_quantised(model: Any) -> None:
    """Keep bitsandbytes from repacking weights for the CPU in forward passes, after which gradients are wrong."""
    for module in model.modules():
        if hasattr(module, "support_avx512bf16_for_cpu"):
            module.support_avx512bf16_for_cpu = False


@contextmanager
def _quiet() -> Iterator[None]:
    """Without transformers' bars and tables of keys: what matters of them is checked here."""
    level, bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.set_verbosity(level)
        if bars:
            logging.enable_progress_bar()


def _unloadable(what: str, path: str | Path, error: Exception) -> ModelError:
    return ModelError(
        f"no {what} can be loaded",
        where=str(path),
        expected="a Hugging Face folder or hub name",
        got=str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__,
        fix="correct the name; without a network only folders work",
    )


# Not where the classes stand: their copies in a model's folder must not take the place of these.
AutoConfig.register(CaravanConfig.model_type, CaravanConfig)
AutoModel.register(CaravanConfig, CaravanModel)
AutoProcessor.register(CaravanConfig, CaravanProcessor)
for auto in (AutoModelForCausalLM, AutoModelForImageTextToText, AutoModelForMultimodalLM):
    auto.register(CaravanConfig, CaravanForConditionalGeneration)
