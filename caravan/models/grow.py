"""A model with rows for new tokens, made on disk: only a block of one table is ever in memory.

Which rows are new is told by the ids of tokens, never by where a table ends: tables are often longer than the
vocabulary (Qwen's by 271 rows), and the rows after the last token were never trained.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from transformers import AutoConfig, AutoModelForCausalLM

from caravan.core.errors import ModelError
from caravan.core.files import read_json, write_json
from caravan.core.progress import track
from caravan.models.tensors import BLOCK, FLOATS, INDEX, Bytes, Stored, Written, read_header, shards_of, write_file

CONFIG, GENERATION = "config.json", "generation_config.json"
# A width that is as large as the vocabulary is a toy's: elsewhere such a tensor has a row for each token.
LIKELY_WIDTH = 16_384
Start = Literal["pieces", "mean", "zero"]


@dataclass(frozen=True)
class NewRows:
    """How rows of new tokens start.

    Attributes:
        pieces: id of each new token -> ids of the old tokens that its text was read as.
        old: how many of the first ids belong to old tokens.
        start: `pieces`: the mean of those tokens' rows; `mean`: of all old tokens' rows; `zero`.
        noise: deviation of normal noise that is added, as a share of the old rows' own in each column.
        seed: of the noise.
    """

    pieces: Mapping[int, Sequence[int]]
    old: int
    start: Start = "pieces"
    noise: float = 0.0
    seed: int = 0


class Grown:
    """A table with a row for each token, grown."""

    def __init__(self, table: Stored, rows: int, new: NewRows) -> None:
        self.table, self.rows, self.new = table, rows, new
        self.row_bytes = len(table.data) // table.shape[0]

    def written(self) -> Written:
        """The grown table, to be written."""
        shape = (self.rows, *self.table.shape[1:])
        return Written(self.table.name, self.table.dtype, shape, self.rows * self.row_bytes, self.blocks)

    def blocks(self) -> Iterator[Bytes]:
        """The old rows, those of new tokens, and the mean for rows that no token has."""
        step = max(1, BLOCK // self.row_bytes)
        before = self.table.shape[0]
        for first in range(0, self.rows, step):
            last = min(first + step, self.rows)
            block = self.table.rows(slice(first, min(last, before)))
            block = torch.cat([block, block.new_zeros((max(0, last - max(first, before)), *block.shape[1:]))])
            for row in range(first, last):
                if row in self.new.pieces or row >= before:
                    block[row - first] = self._row(row).to(block.dtype)
            yield block.reshape(-1).view(torch.uint8).numpy()

    def _row(self, row: int) -> torch.Tensor:
        """The first values of a new row, in float64 [width] or []."""
        pieces = self.new.pieces.get(row, ())
        mean, deviation = self._moments
        if self.new.start == "zero":
            value = torch.zeros_like(mean)
        elif self.new.start == "pieces" and pieces:
            value = self.table.rows(pieces).double().mean(0)
        else:
            value = mean.clone()
        if self.new.noise:
            drawn = np.random.default_rng((self.new.seed, row)).standard_normal(tuple(mean.shape))
            value = value + self.new.noise * deviation * torch.as_tensor(drawn)
        return value

    @cached_property
    def _moments(self) -> tuple[torch.Tensor, torch.Tensor]:
        """Mean and deviation of the old tokens' rows in each column, float64."""
        step = max(1, BLOCK // self.row_bytes)
        old = min(self.new.old, self.table.shape[0])
        total = square = torch.zeros(self.table.shape[1:], dtype=torch.float64)
        for first in range(0, old, step):
            block = self.table.rows(slice(first, min(first + step, old))).double()
            total, square = total + block.sum(0), square + (block * block).sum(0)
        mean = total / old
        return mean, (square / old - mean * mean).clamp(min=0).sqrt()


def grow(source: Path, out: Path, rows: int, new: NewRows) -> None:
    """Write a model's folder with tables of at least `rows` rows; `config.json` comes last.

    Tokenizer files are not copied.

    Raises:
        ModelError: no safetensors, or a tensor whose rows are tokens in a way that is not known.
        DiskFullError: there is no room.
    """
    config: Any = AutoConfig.from_pretrained(source)
    text = config.get_text_config()
    before, rows = text.vocab_size, max(rows, text.vocab_size)
    tables, prefix = tables_of(config)
    files = {shard: read_header(source / shard) for shard in shards_of(source)}
    out.mkdir(parents=True, exist_ok=True)
    place: dict[str, str] = {}
    total = 0
    with track("growing the model", sum(len(tensors) for tensors, _ in files.values()), "tensor") as bar:
        for shard, (tensors, metadata) in files.items():
            written = [_written(tensor, tables, prefix, before, rows, new) for tensor in tensors]
            write_file(out / shard, written, metadata)
            place |= dict.fromkeys((tensor.name for tensor in written), shard)
            total += sum(tensor.size for tensor in written)
            bar.advance(len(tensors))
    if (source / INDEX).is_file():
        write_json(out / INDEX, {"metadata": {"total_size": total}, "weight_map": place})
    if (source / GENERATION).is_file():
        shutil.copyfile(source / GENERATION, out / GENERATION)
    settings = read_json(source / CONFIG)
    settings.get("text_config", settings)["vocab_size"] = rows
    write_json(out / CONFIG, settings)


def tables_of(config: Any) -> tuple[set[str], str]:
    """Names of the parameters with a row for each token, and the prefix that files may leave out."""
    with torch.device("meta"):
        model: Any = AutoModelForCausalLM.from_config(config)
    head = model.get_output_embeddings()
    tables = {id(model.get_input_embeddings().weight)} | {id(each) for each in head.parameters()}
    named = model.named_parameters(remove_duplicate=False)
    return {name for name, parameter in named if id(parameter) in tables}, f"{model.base_model_prefix}."


def _written(tensor: Stored, tables: set[str], prefix: str, before: int, rows: int, new: NewRows) -> Written:
    """A tensor as it is, or grown."""
    if tables & {tensor.name, prefix + tensor.name, tensor.name.removeprefix(prefix)}:
        if tensor.shape[0] != before or tensor.dtype not in FLOATS:
            raise ModelError(
                "a table of tokens is not as the config says",
                where=tensor.name,
                expected=f"{before} rows of floating-point numbers",
                got=f"{tensor.shape} of {tensor.dtype}",
                fix="name a model that is not quantised, saved whole",
            )
        return Grown(tensor, rows, new).written()
    if before in tensor.shape and before > LIKELY_WIDTH:
        raise ModelError(
            "a tensor may have rows for tokens, and how to grow it is not known",
            where=tensor.name,
            expected=f"{before} rows in {', '.join(sorted(tables))} alone",
            got=tensor.shape,
            fix="use a model whose tokens have one input and one output table",
        )
    return Written(tensor.name, tensor.dtype, tensor.shape, len(tensor.data), tensor.blocks)
