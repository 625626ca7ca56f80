"""Pretraining: tokens a CPU second beside transformers' Trainer with padding and TRL with packing; the loader alone.

    OMP_NUM_THREADS=1 python benchmarks/pretrain.py [--steps 4] [--rounds 2] [--times 1 10 100] [--out FILE]

Documents have lengths as instructions do (lognormal, median 110 tokens); each side trains the same Llama of 4M
parameters in fp32 for as many steps of about 4,000 tokens, by turns, so that what else the machine does meets all.
Only tokens that documents have count, and CPU seconds of this process without start-up. The share of the peak is the
model's operations for these tokens by those of a product of two matrices of 1024 x 1024, timed in CPU seconds before
each side; peak memory is how far the resident size grows while a side trains. The loader alone draws, packs and
collates the same number of steps from 1, 10 and 100 times the documents: seconds until the first step and for the
steps, and how much resident memory grows, mapped files left out. TRL is left out where it is not installed.
"""

from __future__ import annotations

import argparse
import gc
import importlib.util
import json
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from rich.console import Console
from rich.table import Table
from transformers import LlamaConfig, LlamaForCausalLM, Trainer, TrainingArguments

from caravan.recipe.train import PretrainConfig
from caravan.text.indexed import IndexedWriter
from caravan.train.dialogue_rows import collate
from caravan.train.learner import task_of
from caravan.train.loop import fit
from caravan.train.speed import flops_per_token
from caravan.train.text_rows import Language, TextRows, plan_text

VOCABULARY, LENGTH, BATCH, PAD, END = 4096, 512, 8, 0, 1
PADDED_BATCH = 32  # documents, which have as many tokens as the packed sequences
SEED = 7


def new_model() -> LlamaForCausalLM:
    torch.manual_seed(SEED)
    shape = {"hidden_size": 256, "intermediate_size": 704, "num_hidden_layers": 4, "num_attention_heads": 4}
    ends = {"bos_token_id": END, "eos_token_id": END, "pad_token_id": PAD}
    return LlamaForCausalLM(LlamaConfig(vocab_size=VOCABULARY, tie_word_embeddings=True, **shape, **ends))


def documents(count: int) -> list[np.ndarray]:
    rng = np.random.default_rng(SEED)
    lengths = np.clip(rng.lognormal(np.log(110), 0.75, count), 16, LENGTH).astype(int)
    return [rng.integers(3, VOCABULARY, length) for length in lengths]


def packed(folder: Path, count: int) -> Path:
    path = folder / f"en-{count}"
    if not path.with_suffix(".idx").exists():
        with IndexedWriter(path, np.uint16) as writer:
            for document in documents(count):
                writer.add(document.tolist())
    return path


def planned(path: Path, steps: int) -> TextRows:
    return plan_text([Language(path)], config(steps), SEED, PAD)


def config(steps: int) -> PretrainConfig:
    sizes = {"steps": steps, "batch": BATCH, "micro_batch": BATCH, "length": LENGTH}
    options = {"precision": "fp32", "save_every": 10**6, "tracker": "none", "peak_tflops": 1.0}
    return PretrainConfig.model_validate({**sizes, **options})


def ours(path: Path, steps: int, out: Path) -> tuple[int, Callable[[], Any]]:
    rows, model = planned(path, steps), new_model()
    task = task_of(model, "pretrain", config(steps), LENGTH)
    return int(rows.tokens.sum()), lambda: fit(model, rows, collate, config(steps), task, out, SEED)


def theirs(steps: int, out: Path, batch: int) -> dict[str, Any]:
    return {
        "output_dir": str(out), "max_steps": steps, "per_device_train_batch_size": batch, "learning_rate": 3e-3,
        "use_cpu": True, "report_to": "none", "save_strategy": "no", "logging_steps": 1, "disable_tqdm": True,
        "bf16": False,
    }  # fmt: skip


def padding(path: Path, steps: int, out: Path) -> tuple[int, Callable[[], Any]]:
    data = [np.asarray(Language(path).data[index]) for index in range(steps * PADDED_BATCH)]

    def pad(batch: list[dict[str, Any]]) -> dict[str, torch.Tensor]:
        longest = max(len(each["ids"]) for each in batch)
        shape = (len(batch), longest)
        ids, mask = torch.zeros(shape, dtype=torch.long), torch.zeros(shape, dtype=torch.long)
        labels = torch.full(shape, -100)
        for row, each in enumerate(batch):
            there = torch.from_numpy(each["ids"].astype(np.int64))
            ids[row, : len(there)], labels[row, : len(there)], mask[row, : len(there)] = there, there, 1
        return {"input_ids": ids, "labels": labels, "attention_mask": mask}

    arguments = TrainingArguments(**theirs(steps, out, PADDED_BATCH), remove_unused_columns=False)
    rows: Any = [{"ids": ids} for ids in data]
    trainer = Trainer(model=new_model(), args=arguments, train_dataset=rows, data_collator=pad)
    return sum(map(len, data)), trainer.train


def trl(path: Path, steps: int, out: Path) -> tuple[int, Callable[[], Any]]:
    from datasets import Dataset
    from tokenizers import Tokenizer, models
    from transformers import PreTrainedTokenizerFast
    from trl import SFTConfig, SFTTrainer

    names = {f"t{index}": index for index in range(VOCABULARY)}
    backend = Tokenizer(models.WordLevel(names, unk_token="t2"))
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=backend, eos_token="t1", pad_token="t0")
    source = Language(path)
    data = Dataset.from_dict({"input_ids": [np.asarray(source.data[index]).tolist() for index in range(len(source))]})
    options = {"packing": True, "max_length": LENGTH, "gradient_checkpointing": False, "padding_free": False}
    model = new_model()
    model.set_attn_implementation("eager")
    trainer = SFTTrainer(
        model=model,
        args=SFTConfig(**theirs(steps, out, BATCH), **options),
        train_dataset=data,
        processing_class=tokenizer,
    )
    mean = float(np.mean([len(row) for row in trainer.train_dataset["input_ids"]]))
    return round(mean * BATCH * steps), trainer.train


SIDES: dict[str, Callable[[Path, int, Path], tuple[int, Callable[[], Any]]]] = {
    "caravan, packed": ours,
    "Trainer, padded": padding,
    "TRL, packed": trl,
}


def compared(folder: Path, steps: int, rounds: int, count: int) -> dict[str, dict[str, float]]:
    """Tokens, CPU seconds, share of the peak and peak memory of every side, by turns."""
    path = packed(folder, count)
    names = [name for name in SIDES if name != "TRL, packed" or has_trl()]
    found = {name: dict.fromkeys(("tokens", "cpu_seconds", "peak_gflops", "peak_mb"), 0.0) for name in names}
    for turn in range(rounds):
        for name, figures in found.items():
            tokens, run = SIDES[name](path, steps, Path(tempfile.mkdtemp(dir=folder, prefix=f"{turn}-")))
            figures["peak_gflops"] = max(figures["peak_gflops"], matrix_product())
            gc.collect()
            Path("/proc/self/clear_refs").write_text("5")  # the highest resident size starts anew
            before = status("VmRSS")
            started = time.process_time()
            run()
            figures["cpu_seconds"] += time.process_time() - started
            figures["tokens"] += tokens
            figures["peak_mb"] = max(figures["peak_mb"], (status("VmHWM") - before) / 1e6)
    peak = max(figures["peak_gflops"] for figures in found.values()) * 1e9
    for figures in found.values():
        figures["tokens_per_cpu_second"] = figures["tokens"] / figures["cpu_seconds"]
        figures["share_of_peak"] = figures["tokens_per_cpu_second"] * flops_per_token(new_model(), LENGTH) / peak
    return found


def matrix_product(side: int = 1024) -> float:
    """10^9 operations a CPU second of the product of two matrices, the best of five."""
    matrix = torch.ones(side, side)
    times = []
    for _ in range(5):
        started = time.process_time()
        matrix @ matrix
        times.append(time.process_time() - started)
    return 2e-9 * side**3 / min(times)


def has_trl() -> bool:
    return importlib.util.find_spec("trl") is not None


def status(name: str) -> int:
    """Bytes that /proc says of this process: VmRSS, resident; VmHWM, the most of it; RssAnon, what is no file's."""
    return int(Path("/proc/self/status").read_text().split(f"{name}:")[1].split()[0]) * 1024


def loader(folder: Path, steps: int, count: int) -> dict[str, float]:
    """What the data cost without a model."""
    path = packed(folder, count)
    before, started = status("RssAnon"), time.process_time()
    rows = planned(path, steps)
    ready = time.process_time()
    for row in range(0, len(rows), BATCH):
        collate([rows[each] for each in range(row, row + BATCH)])
    done = time.process_time()
    return {
        "documents": count,
        "tokens": int(rows.tokens.sum()),
        "plan_cpu_seconds": ready - started,
        "rows_cpu_seconds": done - ready,
        "tokens_per_cpu_second": float(rows.tokens.sum()) / (done - started),
        "memory_mb": (status("RssAnon") - before) / 1e6,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--steps", type=int, default=4)
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--documents", type=int, default=2000)
    parser.add_argument("--times", type=int, nargs="+", default=[1, 10, 100])
    parser.add_argument("--loader-steps", type=int, default=200)
    parser.add_argument("--out", type=Path)
    given = parser.parse_args()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        data = [loader(folder, given.loader_steps, given.documents * times) for times in given.times]
        sides = compared(folder, given.steps, given.rounds, given.documents)
    console = Console()
    keys = ("tokens", "cpu_seconds", "tokens_per_cpu_second", "share_of_peak", "peak_mb")
    table = Table("side", *keys, title=f"{given.rounds} x {given.steps} steps")
    for side, figures in sides.items():
        table.add_row(side, *(f"{figures[key]:,.2f}" for key in keys))
    console.print(table)
    table = Table(*data[0], title=f"the loader alone, {given.loader_steps} steps")
    for figures in data:
        table.add_row(*(f"{value:,.2f}" for value in figures.values()))
    console.print(table)
    if given.out:
        given.out.write_text(json.dumps({"sides": sides, "loader": data}, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
