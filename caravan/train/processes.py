"""One run on several processes, each with its share of every step's sequences.

They are started here, on this machine, or by torchrun or accelerate launch, on several machines too; then the first
walks the road, and the others do with it what it hands to them, which is training. The run's data follow from the
position in it, so a run that was killed may go on with another number of processes.
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
from dataclasses import dataclass
from datetime import timedelta
from multiprocessing import connection
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any, TypeVar

import torch
import torch.distributed as dist

from caravan.core.errors import CaravanError, ModelError, RecipeError
from caravan.core.files import read_json, write_json, write_text
from caravan.core.log import console, setup_logging
from caravan.core.stage import StageContext
from caravan.recipe.train import PretrainConfig

Train = Callable[[PretrainConfig, StageContext], dict[str, Any]]
Found = TypeVar("Found")
COUNTS, ERROR, STORE = "counts.json", "error.txt", "store"
INTERRUPTED = 130
LOOK = 0.5
PATIENCE = timedelta(days=30)


@dataclass
class Crew:
    """Processes that were launched together.

    Attributes:
        group: in which they wait for the first one's next work, however long a stage takes.
        at_work: whether they train.
    """

    group: dist.ProcessGroup | None = None
    at_work: bool = False


_crew = Crew()


def is_main() -> bool:
    """Whether this process writes what there is once."""
    return not dist.is_initialized() or dist.get_rank() == 0


def world_size() -> int:
    """How many processes train together."""
    return dist.get_world_size() if dist.is_initialized() else 1


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


def as_first(find: Callable[[], Found]) -> Found:
    """What the first process finds, in every process."""
    if not dist.is_initialized():
        return find()
    box: list[Any] = [find() if is_main() else None]
    dist.broadcast_object_list(box)
    found: Found = box[0]
    return found


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
    if launched():
        return _handed_to_all(train, config, ctx)
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


def launched() -> bool:
    """Whether torchrun, or accelerate launch, started this process as one of several."""
    return "RANK" in os.environ and int(os.environ.get("WORLD_SIZE", "1")) > 1


@contextlib.contextmanager
def crew() -> Iterator[None]:
    """Be the first of the processes that were launched. The others do their part here, and exit when all is done."""
    rank = int(os.environ["RANK"])
    console.quiet = rank > 0
    on_gpu = torch.cuda.is_available()
    if on_gpu:
        torch.cuda.set_device(int(os.environ["LOCAL_RANK"]))
    dist.init_process_group("nccl" if on_gpu else "gloo")
    _crew.group = dist.new_group(backend="gloo", timeout=PATIENCE)
    if rank == 0:
        yield
        _hand(None)  # not after an error: the launcher ends the others then
    else:
        while (work := _hand(None)) is not None:
            _at_work(*work)
    dist.destroy_process_group()
    if rank > 0:
        sys.exit(0)


def _hand(work: Any) -> Any:
    """What the first process hands to all."""
    box = [work]
    dist.broadcast_object_list(box, group=_crew.group)
    return box[0]


def _handed_to_all(train: Train, config: PretrainConfig, ctx: StageContext) -> dict[str, Any]:
    world = dist.get_world_size()
    if config.processes not in (1, world) or config.batch % world:
        raise RecipeError(
            f"{world} processes were launched",
            where="pretrain.processes and pretrain.batch",
            expected=f"processes of 1 or {world}, and a batch that they divide",
            got=f"processes {config.processes}, batch {config.batch}",
            fix="launch as many as the recipe says, or leave `processes` out and give a batch to match",
        )
    config = PretrainConfig.model_validate({**config.model_dump(by_alias=True), "processes": world})
    return _at_work(*_hand((train, config, ctx)))


def _at_work(train: Train, config: PretrainConfig, ctx: StageContext) -> dict[str, Any]:
    _crew.at_work = True
    counts = train(config, ctx)
    barrier()
    _crew.at_work = False
    return counts


def check_alone() -> None:
    """See that a stage that trains in one process was not launched in several.

    Raises:
        RecipeError: it was.
    """
    if _crew.group is not None and not _crew.at_work:
        raise RecipeError(
            "this stage trains in one process",
            expected="caravan run, without a launcher",
            got=f"{os.environ['WORLD_SIZE']} processes",
            fix="launch the stage pretrain alone (caravan run RECIPE pretrain), and the others after it without",
        )


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
