"""Megatron-Core's distributed checkpoints (`torch_dist`): Llama, Mistral, Qwen2 and GPT-2 shapes, PolyLM among them.

Keys, axes and the stacking of layers are those of `GPTModel.sharded_state_dict` of megatron-core 0.16, whichever layer
spec made it. A checkpoint holds whole tensors in chunks, so it can be loaded in any split; the split that is asked for
decides into which files and chunks it is cut, as those processes would have.
"""

from __future__ import annotations

import contextlib
import itertools
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from caravan.convert.distcp import Chunks, ChunkWriter
from caravan.convert.folder import Model
from caravan.convert.other import KEPT, keep_folder, need_folder
from caravan.convert.weights import Lazy, Weights, take
from caravan.core.errors import ModelError, UsageError
from caravan.core.files import read_json, write_json, write_text
from caravan.core.progress import track
from caravan.models.grow import CONFIG

LATEST, RELEASE, FORMAT, COMMON = "latest_checkpointed_iteration.txt", "release", "metadata.json", "common.pt"
LAYERS = "decoder.layers."
# Megatron pads tables of tokens to a multiple of this for each tensor-parallel rank (--make-vocab-size-divisible-by).
PADDED_TO = 128
# Modules whose state beside weights (of 8-bit training) is asked for at loading, even where there is none.
STATEFUL = (
    "self_attention.core_attention",
    "self_attention.linear_qkv",
    "self_attention.linear_proj",
    "mlp.linear_fc1",
    "mlp.linear_fc2",
)


@dataclass(frozen=True)
class Heads:
    """How a model's attention is divided."""

    queries: int
    groups: int


@dataclass(frozen=True)
class Row:
    """One tensor of Megatron and what it is made of.

    Attributes:
        key: Megatron's; those of layers begin with `decoder.layers.`.
        names: Hugging Face's; {} stands for the layer.
        axis: along which tensor-parallel ranks share it; None: each has it whole.
        form: how the parts lie in the whole, a key of `FORMS`.
        turned: whether Hugging Face has the matrix the other way round (GPT-2's Conv1D).
    """

    key: str
    names: tuple[str, ...]
    axis: int | None = None
    form: str = "one"
    turned: bool = False

    @property
    def layered(self) -> bool:
        return self.key.startswith(LAYERS)


_LLAMA = "model.layers.{}."
_QKV = tuple(f"{_LLAMA}self_attn.{part}_proj" for part in "qkv")
LLAMA = (
    Row("embedding.word_embeddings.weight", ("model.embed_tokens.weight",), 0, "rows"),
    Row("decoder.layers.self_attention.linear_qkv.layer_norm_weight", (f"{_LLAMA}input_layernorm.weight",)),
    Row("decoder.layers.self_attention.linear_qkv.weight", tuple(f"{name}.weight" for name in _QKV), 0, "heads"),
    Row("decoder.layers.self_attention.linear_qkv.bias", tuple(f"{name}.bias" for name in _QKV), 0, "heads"),
    Row("decoder.layers.self_attention.linear_proj.weight", (f"{_LLAMA}self_attn.o_proj.weight",), 1),
    Row("decoder.layers.mlp.linear_fc1.layer_norm_weight", (f"{_LLAMA}post_attention_layernorm.weight",)),
    Row(
        "decoder.layers.mlp.linear_fc1.weight",
        (f"{_LLAMA}mlp.gate_proj.weight", f"{_LLAMA}mlp.up_proj.weight"),
        0,
        "gated",
    ),
    Row("decoder.layers.mlp.linear_fc2.weight", (f"{_LLAMA}mlp.down_proj.weight",), 1),
    Row("decoder.final_layernorm.weight", ("model.norm.weight",)),
    Row("output_layer.weight", ("lm_head.weight",), 0, "rows"),
)
_GPT2 = "transformer.h.{}."
GPT2 = (
    Row("embedding.word_embeddings.weight", ("transformer.wte.weight",), 0, "rows"),
    Row("embedding.position_embeddings.weight", ("transformer.wpe.weight",)),
    Row("decoder.layers.self_attention.linear_qkv.layer_norm_weight", (f"{_GPT2}ln_1.weight",)),
    Row("decoder.layers.self_attention.linear_qkv.layer_norm_bias", (f"{_GPT2}ln_1.bias",)),
    Row("decoder.layers.self_attention.linear_qkv.weight", (f"{_GPT2}attn.c_attn.weight",), 0, "fused", turned=True),
    Row("decoder.layers.self_attention.linear_qkv.bias", (f"{_GPT2}attn.c_attn.bias",), 0, "fused"),
    Row("decoder.layers.self_attention.linear_proj.weight", (f"{_GPT2}attn.c_proj.weight",), 1, turned=True),
    Row("decoder.layers.self_attention.linear_proj.bias", (f"{_GPT2}attn.c_proj.bias",)),
    Row("decoder.layers.mlp.linear_fc1.layer_norm_weight", (f"{_GPT2}ln_2.weight",)),
    Row("decoder.layers.mlp.linear_fc1.layer_norm_bias", (f"{_GPT2}ln_2.bias",)),
    Row("decoder.layers.mlp.linear_fc1.weight", (f"{_GPT2}mlp.c_fc.weight",), 0, turned=True),
    Row("decoder.layers.mlp.linear_fc1.bias", (f"{_GPT2}mlp.c_fc.bias",), 0),
    Row("decoder.layers.mlp.linear_fc2.weight", (f"{_GPT2}mlp.c_proj.weight",), 1, turned=True),
    Row("decoder.layers.mlp.linear_fc2.bias", (f"{_GPT2}mlp.c_proj.bias",)),
    Row("decoder.final_layernorm.weight", ("transformer.ln_f.weight",)),
    Row("decoder.final_layernorm.bias", ("transformer.ln_f.bias",)),
    Row("output_layer.weight", ("lm_head.weight",), 0, "rows"),
)
SHAPES: Mapping[str, tuple[Row, ...]] = {"llama": LLAMA, "mistral": LLAMA, "qwen2": LLAMA, "gpt2": GPT2}
# Rows that a model may lack: Qwen's biases, a head of its own.
OPTIONAL = ("decoder.layers.self_attention.linear_qkv.bias", "output_layer.weight")


def by_group(parts: list[Tensor], heads: Heads) -> Tensor:
    """Queries, keys and values to Megatron's order: of each group its queries, its key, its value."""
    grouped = [part.reshape(heads.groups, -1, *part.shape[1:]) for part in parts]
    return torch.cat(grouped, 1).flatten(0, 1)


def by_kind(whole: Tensor, heads: Heads) -> list[Tensor]:
    """The way back: all queries, all keys, all values."""
    grouped = whole.reshape(heads.groups, heads.queries // heads.groups + 2, -1, *whole.shape[1:])
    sizes = [heads.queries // heads.groups, 1, 1]
    return [part.flatten(0, 2) for part in grouped.split(sizes, 1)]


@dataclass(frozen=True)
class Form:
    """How the tensors of Hugging Face become one of Megatron, and the way back."""

    join: Callable[[list[Tensor], Heads], Tensor]
    part: Callable[[Tensor, Heads], list[Tensor]]


FORMS: Mapping[str, Form] = {
    "one": Form(lambda parts, _: parts[0], lambda whole, _: [whole]),
    "rows": Form(lambda parts, _: parts[0], lambda whole, _: [whole]),
    "heads": Form(by_group, by_kind),
    "fused": Form(
        lambda parts, heads: by_group(list(parts[0].chunk(3)), heads),
        lambda whole, heads: [torch.cat(by_kind(whole, heads))],
    ),
    "gated": Form(lambda parts, _: torch.cat(parts), lambda whole, _: list(whole.chunk(2))),
}


def rows_of(settings: Mapping[str, Any]) -> tuple[Row, ...]:
    """The table of a kind of model.

    Raises:
        ModelError: none is known.
    """
    kind = str(settings.get("model_type"))
    if kind not in SHAPES:
        raise ModelError(
            "no form of this model in Megatron-Core is known",
            expected=" | ".join(SHAPES),
            got=kind,
            fix="use one of these",
        )
    return SHAPES[kind]


def heads_of(config: Any) -> Heads:
    """How attention is divided, whatever a config calls it."""
    queries = config.num_attention_heads
    return Heads(queries, getattr(config, "num_key_value_heads", None) or queries)


# ---------------------------------------------------------------------------------------------------------------------


def is_megatron(source: Path) -> bool:
    """Whether a folder is, or holds, a distributed checkpoint."""
    return source.is_dir() and (_step(source) / FORMAT).is_file()


def read_megatron(source: Path, like: Path | None) -> Model:
    """A distributed checkpoint of any split, layers stacked or each under its own key.

    Raises:
        ModelError: a tensor is missing or of another shape, or another backend wrote it.
    """
    folder = need_folder(source, like)
    step = _step(source)
    backend = read_json(step / FORMAT).get("sharded_backend")
    if backend != "torch_dist":
        raise ModelError("an unknown backend", where=str(step / FORMAT), expected="torch_dist", got=backend)
    model = Model(read_json(folder / CONFIG), {}, folder)
    config, chunks = model.config, Chunks(step)
    tied = bool(config.tie_word_embeddings)
    weights: Weights = {}
    for row, layer in _places(rows_of(model.settings), config.num_hidden_layers):
        if row.key in OPTIONAL and not _there(chunks, row, layer):
            continue
        if not (tied and row.key == "output_layer.weight"):
            weights |= _parts(chunks, row, layer, config)
    _check_shapes(model, weights)
    return Model(model.settings, weights, folder)


def _places(rows: tuple[Row, ...], layers: int) -> Iterator[tuple[Row, int]]:
    """Each row once, those of layers once for each."""
    for row in rows:
        yield from ((row, layer) for layer in range(layers if row.layered else 1))


def _there(chunks: Chunks, row: Row, layer: int) -> bool:
    return row.key in chunks or _own_key(row, layer) in chunks


def _own_key(row: Row, layer: int) -> str:
    return row.key.replace(LAYERS, f"{LAYERS}{layer}.")


def _whole(chunks: Chunks, row: Row, layer: int) -> Lazy:
    """Megatron's tensor: of a stack of layers, of its own, or in two halves under keys of their own."""
    if row.layered and row.key in chunks:
        return chunks.lazy(row.key, layer)
    key = _own_key(row, layer) if row.layered else row.key
    if row.form == "gated" and f"{key}_w" in chunks:
        halves = [chunks.lazy(f"{key}_{half}") for half in "wv"]
        shape = (2 * halves[0].shape[0], *halves[0].shape[1:])
        return Lazy(shape, halves[0].dtype, lambda: torch.cat([half.read() for half in halves]))
    return chunks.lazy(key)


def _parts(chunks: Chunks, row: Row, layer: int, config: Any) -> Weights:
    whole = _whole(chunks, row, layer)
    heads, vocabulary = heads_of(config), config.vocab_size

    def read(place: int) -> Tensor:
        tensor = whole.read()
        tensor = tensor[:vocabulary] if row.form == "rows" else tensor
        part = FORMS[row.form].part(tensor, heads)[place]
        return part.T if row.turned else part

    # Shapes alone, without values.
    empty = torch.empty(whole.shape, device="meta")
    shapes = [part.T.shape if row.turned else part.shape for part in FORMS[row.form].part(empty, heads)]
    if row.form == "rows":
        shapes = [torch.Size((min(vocabulary, whole.shape[0]), *whole.shape[1:]))]
    return {
        name.format(layer): Lazy(tuple(shape), whole.dtype, partial(read, place))
        for place, (name, shape) in enumerate(zip(row.names, shapes, strict=True))
    }


def _check_shapes(model: Model, weights: Weights) -> None:
    from transformers import AutoModelForCausalLM

    with torch.device("meta"):
        expected = AutoModelForCausalLM.from_config(model.config).state_dict()
    for name, lazy in weights.items():
        if name in expected and tuple(expected[name].shape) != lazy.shape:
            raise ModelError(
                "the checkpoint is of another shape than its config tells",
                where=name,
                expected=tuple(expected[name].shape),
                got=lazy.shape,
                fix="give the folder of a model of the same shape: like=FOLDER",
            )


def _step(source: Path) -> Path:
    """The folder of the iteration that is told to be the latest, or the folder itself."""
    if not (source / LATEST).is_file():
        return source
    told = (source / LATEST).read_text().strip()
    return source / (f"iter_{int(told):07d}" if told.isdigit() else told)


# ---------------------------------------------------------------------------------------------------------------------


def write_megatron(model: Model, out: Path, tensor_parallel: int, pipeline_parallel: int) -> dict[str, Any]:
    """Write a distributed checkpoint as so many processes would.

    Raises:
        ModelError: no form of this model is known, or a weight is missing.
        UsageError: the split does not divide heads, layers or widths.
    """
    rows, config = rows_of(model.settings), model.config
    _check_split(config, tensor_parallel, pipeline_parallel)
    weights = _prefixed(model)
    rows = tuple(row for row in rows if row.key not in OPTIONAL or row.names[0].format(0) in weights)
    if config.tie_word_embeddings:
        rows = tuple(row for row in rows if row.key != "output_layer.weight")
    step = out / RELEASE
    step.mkdir(parents=True, exist_ok=True)
    layers, heads = config.num_hidden_layers, heads_of(config)
    ranks = tensor_parallel * pipeline_parallel
    places = list(_places(rows, layers))
    with contextlib.ExitStack() as stack, track("writing ranks", len(places), "tensor") as bar:
        writer = stack.enter_context(ChunkWriter(step, ranks))
        for row, layer in places:
            stage = layer * pipeline_parallel // layers if row.layered else _stage(row, pipeline_parallel)
            whole = _joined(row, layer, weights, heads, tensor_parallel, model.folder)
            stacked = (layer, layers) if row.layered else None
            for rank, offset, chunk in _chunks(whole, row, tensor_parallel):
                writer.add(stage * tensor_parallel + rank, row.key, chunk, offset, tuple(whole.shape), stacked)
            bar.advance()
        for layer, module in itertools.product(range(layers), STATEFUL):
            stage = layer * pipeline_parallel // layers
            writer.add_nothing(stage * tensor_parallel, f"{LAYERS}{module}._extra_state/shard_{layer}_{layers}")
    torch.save({"checkpoint_version": 3.0, "iteration": 0}, step / COMMON)
    write_json(step / FORMAT, {
        "sharded_backend": "torch_dist", "sharded_backend_version": 1,
        "common_backend": "torch", "common_backend_version": 1,
    })  # fmt: skip
    write_text(out / LATEST, RELEASE)
    keep_folder(model, out / KEPT)
    return {"tensors": len(places), "ranks": ranks}


def _stage(row: Row, stages: int) -> int:
    """Pipeline stage of what is in no layer: tables of the input first, the last norm and the head last."""
    return 0 if row.key.startswith("embedding.") else stages - 1


def _prefixed(model: Model) -> Weights:
    """GPT-2 on the hub lacks the prefix of its own class."""
    if model.settings.get("model_type") == "gpt2" and "wte.weight" in model.weights:
        return {f"transformer.{name}": lazy for name, lazy in model.weights.items()}
    return model.weights


def _joined(row: Row, layer: int, weights: Weights, heads: Heads, tensor_parallel: int, where: Path) -> Tensor:
    parts = [take(weights, name.format(layer), where).read() for name in row.names]
    whole = FORMS[row.form].join([part.T if row.turned else part for part in parts], heads)
    if row.form == "rows":
        more = -len(whole) % (PADDED_TO * tensor_parallel)
        whole = torch.cat([whole, whole.new_zeros((more, *whole.shape[1:]))])
    return whole


def _chunks(whole: Tensor, row: Row, tensor_parallel: int) -> Iterator[tuple[int, tuple[int, ...], Tensor]]:
    """Rank, place in the whole, and values of each chunk; of a gated layer, each rank has a piece of both halves."""
    if row.axis is None:
        yield 0, (0,) * whole.dim(), whole
        return
    halves = 2 if row.form == "gated" else 1
    size = whole.shape[row.axis] // (tensor_parallel * halves)
    for place, chunk in enumerate(whole.split(size, row.axis)):
        offset = tuple(place * size if axis == row.axis else 0 for axis in range(whole.dim()))
        yield place % tensor_parallel, offset, chunk


def _check_split(config: Any, tensor_parallel: int, pipeline_parallel: int) -> None:
    heads = heads_of(config)
    inner = getattr(config, "intermediate_size", None) or getattr(config, "n_inner", None) or 4 * config.hidden_size
    divided = {
        "groups of keys": (heads.groups, tensor_parallel),
        "feed-forward width": (inner, tensor_parallel),
        "layers": (config.num_hidden_layers, pipeline_parallel),
    }
    for what, (size, ranks) in divided.items():
        if size % ranks:
            allowed = [n for n in itertools.islice(itertools.count(1), size) if size % n == 0]
            raise UsageError(
                f"the split does not divide the {what}", expected=f"a divisor of {size}: {allowed[:12]}", got=ranks
            )
