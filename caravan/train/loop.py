"""The training loop of every stage: transformers' Trainer over a fixed order of sequences.

The order, the losses' normalisation and the checkpoints are such that a killed run that is started again sees exactly
the rest of its data and ends where an uninterrupted one would.
"""

from __future__ import annotations

import contextlib
import math
import os
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import torch
from safetensors.torch import load_file, save_file
from torch import nn
from transformers import (
    PrinterCallback,
    Trainer,
    TrainingArguments,
)
from transformers.utils.logging import disable_progress_bar

from caravan.core.errors import DiskFullError
from caravan.core.files import full_disk_named, says_full_disk
from caravan.core.progress import Bar, track
from caravan.recipe.train import OptimConfig
from caravan.train.checkpoint import newest, step_of
from caravan.train.curve import JOURNAL, PAGE, read_journal, rewind_journal, write_page
from caravan.train.optimizer import build_optimizer
from caravan.train.pack import steps_for
from caravan.train.processes import barrier, is_main, main_first
from caravan.train.speed import flops_per_token, measured_peak
from caravan.train.spikes import Spikes
from caravan.train.trackers import open_tracker
from caravan.train.watch import Counted, Watch, save_on_signal

CHECKPOINTS = "checkpoints"
WEIGHTS = "trained.safetensors"

Collate = Callable[[Sequence[Mapping[str, Any]]], dict[str, Any]]


class Rows(Counted, Protocol):
    """The sequences of a run, in its order: a whole number of batches."""

    def __len__(self) -> int: ...
    def __getitem__(self, row: int) -> Mapping[str, Any]: ...


@dataclass(frozen=True)
class Task:
    """What a stage trains.

    Attributes:
        title: shown by the progress bar and on the page of curves.
        rates: parameter name -> peak learning rate; parameters that are not named are frozen.
        flags: further arguments of every forward pass, such as `use_cache=False`.
        length: tokens in a sequence of a language model, for the MFU; 0: it is not measured.
        course: step and steps of the run -> share of the peak rates; default: warm-up, then the recipe's schedule.
        until_spike: whether the first spike ends the run.
    """

    title: str
    rates: Mapping[str, float]
    flags: Mapping[str, Any]
    length: int = 0
    course: Callable[[int, int], float] | None = None
    until_spike: bool = False


def pick_precision(wanted: str) -> str:
    """`auto` as bf16 where the hardware multiplies it (CUDA of that kind, AVX512-BF16, AMX), fp32 elsewhere."""
    if wanted != "auto":
        return wanted
    if torch.cuda.is_available():
        return "bf16" if torch.cuda.is_bf16_supported() else "fp32"
    return "bf16" if torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported() else "fp32"


def rate_at(step: int, total: int, config: OptimConfig) -> float:
    """Share of the peak learning rate at a step: linear warm-up that starts above zero, then cosine or constant."""
    warmup = config.warmup * total if config.warmup < 1 else config.warmup
    if step < warmup:
        return (step + 1) / (warmup + 1)
    if config.schedule == "constant":
        return 1.0
    turned = min(1.0, (step - warmup) / max(1.0, total - warmup))
    return config.min_ratio + (1 - config.min_ratio) * 0.5 * (1 + math.cos(math.pi * turned))


class Loop(Trainer):
    """Trainer with our parameter groups and schedule; its checkpoints hold trained parameters only."""

    model: nn.Module

    def __init__(self, *, task: Task, optim: OptimConfig, **rest: Any) -> None:
        self.task, self.optim = task, optim
        super().__init__(**rest)

    def create_optimizer(self, model: Any = None) -> torch.optim.Optimizer:
        if self.optimizer is None:
            self.optimizer = build_optimizer(self.model, self.task.rates, self.optim)
        return self.optimizer

    def create_scheduler(
        self, num_training_steps: int, optimizer: torch.optim.Optimizer | None = None
    ) -> torch.optim.lr_scheduler.LRScheduler:
        course = self.task.course or (lambda step, total: rate_at(step, total, self.optim))
        scheduler = torch.optim.lr_scheduler.LambdaLR(
            optimizer or self.create_optimizer(), lambda step: course(step, num_training_steps)
        )
        self.lr_scheduler = scheduler
        return scheduler

    def compute_loss(self, model: Any, inputs: dict[str, Any], *args: Any, **kwargs: Any) -> Any:
        return super().compute_loss(model, {**inputs, **self.task.flags}, *args, **kwargs)

    def _save(self, output_dir: str | None = None, state_dict: dict[str, Any] | None = None) -> None:
        folder = Path(output_dir or str(self.args.output_dir))
        folder.mkdir(parents=True, exist_ok=True)
        save_file({name: p.detach().contiguous() for name, p in self._trained()}, folder / WEIGHTS)

    def _load_from_checkpoint(self, resume_from_checkpoint: str, model: Any = None) -> None:
        saved = load_file(Path(resume_from_checkpoint) / WEIGHTS)
        with torch.no_grad():
            for name, parameter in self._trained():
                parameter.copy_(saved[name])

    def _trained(self) -> Iterator[tuple[str, nn.Parameter]]:
        return ((name, p) for name, p in self.model.named_parameters() if p.requires_grad)


@contextlib.contextmanager
def full_disk_while_saving(folder: Path) -> Iterator[None]:
    """torch and safetensors report a full disk in errors of their own: name it."""
    try:
        with full_disk_named(folder):
            yield
    except Exception as error:
        if isinstance(error, DiskFullError) or not says_full_disk(error):
            raise
        raise DiskFullError(
            "the disk is full",
            where=str(folder),
            expected="room for a checkpoint",
            got=str(error).splitlines()[0],
            fix="free some space and run the same command again: it goes on from the last saved point",
        ) from error


def arguments(config: OptimConfig, folder: Path, seed: int) -> TrainingArguments:
    """The Trainer's arguments for one pass over the rows of a run."""
    world = int(os.environ.get("WORLD_SIZE", "1"))
    micro = min(config.micro_batch, max(1, config.batch // world))
    on_gpu = torch.cuda.is_available()
    return TrainingArguments(
        output_dir=str(folder),
        num_train_epochs=1,
        per_device_train_batch_size=micro,
        gradient_accumulation_steps=max(1, config.batch // (micro * world)),
        max_grad_norm=config.clip,
        bf16=pick_precision(config.precision) == "bf16",
        use_cpu=not on_gpu,
        save_strategy="steps",
        save_steps=config.save_every,
        logging_strategy="steps",
        logging_steps=config.log_every,
        logging_nan_inf_filter=False,
        train_sampling_strategy="sequential",
        dataloader_num_workers=config.workers,
        dataloader_pin_memory=on_gpu,
        remove_unused_columns=False,
        report_to="none",
        disable_tqdm=True,
        seed=seed,
    )


def freeze_the_rest(model: nn.Module, rates: Mapping[str, float]) -> int:
    """Let only the parameters with a learning rate train; how many numbers they hold."""
    for name, parameter in model.named_parameters():
        parameter.requires_grad_(name in rates)
    return sum(p.numel() for p in model.parameters() if p.requires_grad)


def fit(
    model: nn.Module, rows: Rows, collate: Collate, config: OptimConfig, task: Task, out: Path, seed: int
) -> dict[str, Any]:
    """Train on `rows` in their order, going on from the newest complete checkpoint under `out`.

    Returns:
        Counts: steps, tokens, final_loss (of the last line of the journal), trained_parameters, precision.

    Raises:
        KeyboardInterrupt: a signal came; a checkpoint was saved first.
        DiskFullError: no room for a checkpoint; the one before is untouched.
    """
    disable_progress_bar()
    trained = freeze_the_rest(model, task.rates)
    folder = out / CHECKPOINTS
    with main_first():
        checkpoint = newest(folder)
        done = step_of(checkpoint) if checkpoint else 0
        if is_main():
            rewind_journal(out / JOURNAL, done)
    steps = steps_for(len(rows), config.batch)
    with track(task.title, steps - done, unit="step") as bar:
        watch = _watch(model, rows, config, task, out, bar, done)
        loop = Loop(
            task=task,
            optim=config,
            model=model,
            args=arguments(config, folder, seed),
            train_dataset=rows,
            data_collator=collate,
            callbacks=[watch],
        )
        loop.remove_callback(PrinterCallback)
        with save_on_signal(watch), full_disk_while_saving(folder), contextlib.closing(watch.tracker):
            loop.train(resume_from_checkpoint=str(checkpoint) if checkpoint else None)
    if watch.interrupted:
        raise KeyboardInterrupt
    barrier()
    lines = read_journal(out / JOURNAL)
    counts = {
        "steps": steps,
        "tokens": watch.tokens(steps),
        "final_loss": lines[-1]["loss"],
        "trained_parameters": trained,
        "precision": pick_precision(config.precision),
        **({"spikes": watch.spiked} if watch.spiked else {}),
    }
    if is_main():
        write_page(out / PAGE, task.title, lines, counts)
    return counts


def _watch(model: nn.Module, rows: Rows, config: OptimConfig, task: Task, out: Path, bar: Bar, done: int) -> Watch:
    share = 0.0
    if task.length:
        peak = config.peak_tflops * 1e12 if config.peak_tflops else measured_peak(pick_precision(config.precision))
        share = flops_per_token(model, task.length) / (peak * int(os.environ.get("WORLD_SIZE", "1")))
    spikes = Spikes(config.spike) if config.spike else None
    tracker = open_tracker(config.tracker if is_main() else "none", task.title, out, done)
    return Watch(out, rows, config.batch, bar, spikes, tracker, at_a_spike=task.until_spike, token_share=share)


def remove_checkpoints(out: Path) -> None:
    """Remove what only a resume needs, once the result is on the disk."""
    shutil.rmtree(out / CHECKPOINTS, ignore_errors=True)
