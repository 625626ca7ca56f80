"""The training loop of every stage: transformers' Trainer over a fixed order of sequences.

The order, the losses' normalisation and the checkpoints are such that a killed run that is started again sees exactly
the rest of its data and ends where an uninterrupted one would.
"""

from __future__ import annotations

import contextlib
import math
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import nn
from torch.distributed.tensor import DTensor
from transformers import (
    PrinterCallback,
    Trainer,
    TrainingArguments,
)
from transformers.integrations.deepspeed import unset_hf_deepspeed_config
from transformers.utils.logging import disable_progress_bar

from caravan.core.errors import DiskFullError
from caravan.core.files import full_disk_named, says_full_disk
from caravan.core.progress import Bar, track
from caravan.recipe.train import OptimConfig
from caravan.train.checkpoint import newest, step_of
from caravan.train.curve import JOURNAL, PAGE, read_journal, rewind_journal, write_page
from caravan.train.optimizer import build_optimizer
from caravan.train.pack import steps_for
from caravan.train.processes import barrier, check_alone, is_main, main_first, world_size
from caravan.train.sharding import engine, shard, zero3
from caravan.train.speed import flops_per_token, measured_peak
from caravan.train.spikes import Spikes
from caravan.train.state import WEIGHT, Held, HeldByZero, load, save
from caravan.train.trackers import open_tracker
from caravan.train.watch import Counted, Watch, save_on_signal

CHECKPOINTS = "checkpoints"
STATE, SCHEDULER = "state", "scheduler.pt"

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
        divided = engine(optim) == "fsdp2"
        if divided:
            shard(rest["model"])  # before the Trainer puts all that there is of it on this process's device
        super().__init__(**rest)
        if divided:
            # So the Trainer calls a model that nothing else may wrap or divide.
            self.is_distributed_loading_by_transformers = True

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

    def _prepare_for_training(self, max_steps: int, train_dataloader: Any, resume_from_checkpoint: Any) -> Any:
        prepared: Any = super()._prepare_for_training(max_steps, train_dataloader, None)  # type: ignore[no-untyped-call]
        if resume_from_checkpoint is not None:
            self._go_on_from(Path(resume_from_checkpoint))
        return prepared

    def _go_on_from(self, checkpoint: Path) -> None:
        assert self.lr_scheduler is not None
        assert self.optimizer is not None
        load(self._held(), checkpoint / STATE)
        self.lr_scheduler.load_state_dict(torch.load(checkpoint / SCHEDULER, weights_only=True))
        for group, rate in zip(self.optimizer.param_groups, self.lr_scheduler.get_last_lr(), strict=True):
            group["lr"] = rate

    def _load_from_checkpoint(self, resume_from_checkpoint: str, model: Any = None) -> None:
        """Nothing before the model is prepared."""

    def save_model(self, output_dir: str | None = None, _internal_call: bool = False) -> None:
        """Nothing: the weights are saved with the optimiser's states."""

    def _save_optimizer_and_scheduler(self, output_dir: str) -> None:
        folder = Path(output_dir)
        folder.mkdir(parents=True, exist_ok=True)
        save(self._held(), folder / STATE)
        if self.args.should_save and self.lr_scheduler is not None:
            torch.save(self.lr_scheduler.state_dict(), folder / SCHEDULER)

    def _held(self) -> Held:
        inner = getattr(self.optimizer, "optimizer", self.optimizer)
        return (HeldByZero if self.is_deepspeed_enabled else Held)(trained(self.model), inner)

    def _get_grad_norm(self, model: Any, grad_norm: Any = None) -> Any:
        norm: Any = super()._get_grad_norm(model, grad_norm)  # type: ignore[no-untyped-call]
        return norm.full_tensor() if isinstance(norm, DTensor) else norm

    @contextlib.contextmanager
    def _defer_fsdp_gradient_reduction(self) -> Iterator[None]:
        """Gradients are divided after every micro-batch: whole ones would take the memory that was saved."""
        yield


def trained(model: nn.Module) -> dict[str, nn.Parameter]:
    """The parameters that train."""
    return {name: parameter for name, parameter in model.named_parameters() if parameter.requires_grad}


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
    world = world_size()
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
        deepspeed=zero3() if engine(config) == "zero3" else None,
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
    check_alone()
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
    unset_hf_deepspeed_config()  # else the next model to load would be divided too
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
        share = flops_per_token(model, task.length) / (peak * world_size())
    spikes = Spikes(config.spike) if config.spike else None
    tracker = open_tracker(config.tracker if is_main() else "none", task.title, out, done)
    return Watch(out, rows, config.batch, bar, spikes, tracker, at_a_spike=task.until_spike, token_share=share)


def last_weights(model: nn.Module, out: Path) -> None:
    """Give a model, which this process has whole, the trained weights of the run's last checkpoint."""
    checkpoint = newest(out / CHECKPOINTS)
    assert checkpoint is not None
    load(Held(trained(model)), checkpoint / STATE, alone=True, kinds=(WEIGHT,))


def remove_checkpoints(out: Path) -> None:
    """Remove what only a resume needs, once the result is on the disk."""
    shutil.rmtree(out / CHECKPOINTS, ignore_errors=True)
