"""One run on several processes of this machine, each with its share of every step's sequences.

The run's data follow from the position in it, so a run that was killed may go on with another number of processes.
"""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import shutil
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from multiprocessing import connection
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist

from caravan.core.errors import CaravanError, ModelError
from caravan.core.files import read_json, write_json, write_text
from caravan.core.log import console, setup_logging
from caravan.core.stage import StageContext
from caravan.recipe.train import PretrainConfig

Train = Callable[[PretrainConfig, StageContext], dict[str, Any]]
COUNTS, ERROR, STORE = "counts.json", "error.txt", "store"
INTERRUPTED = 130
LOOK = 0.5


def is_main() -> bool:
    """Whether this process writes what there is once."""
    return not dist.is_initialized() or dist.get_rank() == 0


def barrier() -> None:
    """Wait until every process is here."""
    if dist.is_initialized():
        dist.barrier()


@contextlib.contextmanager
def main_first() -> Iterator[None]:
    """Let the main process do it before the others, which find it done."""
    if not is_main():
        barrier()
    yield
    if is_main():
        barrier()


def anywhere(here: bool) -> bool:
    """Whether it is so in any of the processes."""
    if not dist.is_initialized():
        return here
    flag = torch.tensor([float(here)], device="cuda" if dist.get_backend() == "nccl" else "cpu")
    dist.all_reduce(flag, dist.ReduceOp.MAX)
    return bool(flag.item())


def together(train: Train, config: PretrainConfig, ctx: StageContext, work: Path) -> dict[str, Any]:
    """Run `train` in `config.processes` processes, which end together; the counts of the main one.

    Raises:
        KeyboardInterrupt: they were interrupted, and saved.
        ModelError: one of them failed.
    """
    if config.processes == 1:
        return train(config, ctx)
    folder = work / "processes"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    spawn = multiprocessing.get_context("spawn")
    ranks = range(config.processes)
    workers: list[BaseProcess] = [
        spawn.Process(target=_work, args=(rank, folder, train, config, ctx)) for rank in ranks
    ]
    with _signals_passed_on(workers):
        for worker in workers:
            worker.start()
        _join(workers)
    codes = [worker.exitcode for worker in workers]
    if INTERRUPTED in codes:
        raise KeyboardInterrupt
    if any(codes):
        told = (folder / ERROR).read_text(encoding="utf-8") if (folder / ERROR).exists() else "nothing"
        raise ModelError(
            f"one of {config.processes} processes failed",
            where=ctx.name or None,
            expected="exit status 0",
            got=f"{codes}; it said: {told}",
            fix="run the same command again: it goes on from the last saved point, with fewer processes too",
        )
    counts: dict[str, Any] = read_json(folder / COUNTS)
    return counts


def _join(workers: list[BaseProcess]) -> None:
    """Wait for all; when one fails the others, who wait for it, are ended."""
    while alive := [worker for worker in workers if worker.is_alive()]:
        connection.wait([worker.sentinel for worker in alive])
        if any(worker.exitcode not in (None, 0, INTERRUPTED) for worker in workers):
            for worker in workers:
                worker.kill()
    for worker in workers:
        worker.join()


@contextlib.contextmanager
def _signals_passed_on(workers: list[BaseProcess]) -> Iterator[None]:
    """The processes save and stop by themselves; this one waits for them."""

    def pass_on(number: int, frame: Any) -> None:
        for worker in workers:
            if worker.pid and worker.is_alive():
                os.kill(worker.pid, number)

    signals = (signal.SIGINT, signal.SIGTERM)
    before = {each: signal.signal(each, pass_on) for each in signals}
    try:
        yield
    finally:
        for each, handler in before.items():
            signal.signal(each, handler)


def _work(rank: int, folder: Path, train: Train, config: PretrainConfig, ctx: StageContext) -> None:
    """The life of one process."""
    threading.Thread(target=_die_with, args=(os.getppid(),), daemon=True).start()
    os.setpgid(0, 0)  # a terminal's Ctrl-C comes once, from the parent
    world = config.processes
    names = {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": world, "LOCAL_WORLD_SIZE": world, "MASTER_PORT": 0}
    os.environ |= {"MASTER_ADDR": "127.0.0.1", **{name: str(value) for name, value in names.items()}}
    torch.set_num_threads(max(1, torch.get_num_threads() // world))
    setup_logging()
    console.quiet = rank > 0
    on_gpu = torch.cuda.is_available()
    if on_gpu:
        torch.cuda.set_device(rank)
    store = torch._C._distributed_c10d.FileStore(str(folder / STORE), world)
    dist.init_process_group("nccl" if on_gpu else "gloo", store=store, rank=rank, world_size=world)
    try:
        counts = train(config, ctx)
        if rank == 0:
            write_json(folder / COUNTS, counts)
        barrier()
    except KeyboardInterrupt:
        sys.exit(INTERRUPTED)
    except CaravanError as error:
        write_text(folder / ERROR, str(error))
        sys.exit(1)
    dist.destroy_process_group()


def _die_with(parent: int) -> None:
    """End when the parent is gone, however it went."""
    while os.getppid() == parent:
        time.sleep(LOOK)
    os._exit(1)
