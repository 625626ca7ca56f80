"""What frozen encoders say, computed once and kept on disk: from then on, an epoch does not run them."""

from __future__ import annotations

import contextlib
import hashlib
import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from transformers import AttentionInterface, CLIPVisionModel, SiglipVisionModel
from transformers.models.whisper.modeling_whisper import WhisperEncoder

from caravan.core.files import full_disk_named
from caravan.core.log import get_logger
from caravan.core.progress import track
from caravan.media.features import MediaSpec, audio_features, image_features
from caravan.models.config import reads_decoder
from caravan.recipe.train import FinetuneConfig, PartName
from caravan.train.dialogue_rows import Sense
from caravan.train.dialogues import MediaStore, Prepared

LOG = get_logger(__name__)
BATCH = 4
QUERIES = 250
POSITIONS = 1500  # of Whisper in a window of 30 s
ENCODERS: tuple[PartName, ...] = ("speech_encoder", "vision_encoder")
UNMASKED = (WhisperEncoder, CLIPVisionModel, SiglipVisionModel)  # each state attends to every other
Made = TypeVar("Made")
Vary = Callable[[NDArray[np.floating], np.random.Generator], NDArray[np.floating]]
KEPT = np.dtype(np.float16)
LISTED = np.dtype([("mark", "V16"), ("end", "<i8")])


@dataclass(frozen=True)
class Encoder:
    """One frozen encoder and how it is fed.

    Attributes:
        name: speech or vision.
        store: its media.
        windows: how many inputs each medium gives.
        features: the inputs of one medium, [windows, ...].
        encode: inputs to states [windows, positions, width].
        identity: tells what its states depend on, so that others' are not taken for its own.
        moves: whether a later sound gives the same states later.
        channels: how many columns of a state are its channels; None: all. A projector's means have others behind them.
    """

    name: str
    store: MediaStore
    windows: NDArray[np.int64]
    features: Callable[[int], NDArray[np.floating]]
    encode: Callable[[torch.Tensor], torch.Tensor]
    identity: Callable[[], str] = str
    channels: int | None = None
    moves: bool = True

    @property
    def part(self) -> PartName:
        """Its name among the parts of the model."""
        return "speech_encoder" if self.name == "speech" else "vision_encoder"


def encoders_of(model: Any, spec: MediaSpec, prepared: Prepared) -> list[Encoder]:
    """The encoders of a fused model for which there are media."""
    found = []
    audio, image = prepared.audio, prepared.image
    if spec.hears and len(audio.sizes):
        windows, encode = audio.sizes // spec.audio_tokens_per_window, model.model.encode_speech
        identity, channels = partial(_identity, model.model, "speech", spec), model.config.speech_config.hidden_size
        clip, moves = partial(_clip, audio, spec), not reads_decoder(model.config)
        found.append(Encoder("speech", audio, windows, clip, encode, identity, channels, moves))
    if spec.sees and len(image.sizes):
        see, encode = partial(_picture, image, spec), model.model.encode_image
        identity = partial(_identity, model.model, "vision", spec)
        found.append(Encoder("vision", image, image.sizes, see, encode, identity))
    return found


def _clip(store: MediaStore, spec: MediaSpec, row: int) -> NDArray[np.floating]:
    return audio_features(store.read(row), spec)


def _picture(store: MediaStore, spec: MediaSpec, row: int) -> NDArray[np.floating]:
    return image_features(store.read(row), spec)[None]


def _identity(parts: Any, sense: str, spec: MediaSpec) -> str:
    """A hash of an encoder's weights, of how media are prepared for it, and of what its projector takes."""
    projector = getattr(parts, f"{sense}_projector")
    mark = hashlib.blake2b(repr((spec, type(projector), getattr(projector, "grain", 1))).encode(), digest_size=8)
    for weight in getattr(parts, f"{sense}_encoder").parameters():
        mark.update(weight.detach().float().cpu().numpy().tobytes())
    return mark.hexdigest()


def blockwise(
    module: Any, query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None, scaling: float, **rest: Any
) -> tuple[Tensor, None]:
    """Attention of [B, H, T, d] without a mask, plainly, some queries at a time: their scores fit in a core's cache."""
    assert mask is None
    keys = (key * scaling).transpose(-1, -2)
    some = zip(query.split(BATCH), keys.split(BATCH), value.split(BATCH), strict=True)
    parts = [
        torch.cat([torch.softmax(q @ k, -1) @ v for q in whole.split(QUERIES, dim=2)], dim=2) for whole, k, v in some
    ]
    return torch.cat(parts).transpose(1, 2).contiguous(), None


AttentionInterface.register("blockwise", blockwise)


@contextlib.contextmanager
def plain_attention(model: Any, rates: Mapping[PartName, float]) -> Iterator[None]:
    """Frozen encoders without the fused attention kernel, which costs half as much again on a CPU if nothing is learnt.

    `rates` are those of the recipe: an encoder with one trains, and keeps its kernel.
    """
    frozen = () if torch.cuda.is_available() else [part for part in ENCODERS if not rates.get(part)]
    parts = [getattr(model.model, name, None) for name in frozen]
    before = [(part, part.config._attn_implementation) for part in parts if isinstance(part, UNMASKED)]
    for part, _ in before:
        part.set_attn_implementation("blockwise")
    try:
        yield
    finally:
        for part, name in before:
            part.set_attn_implementation(name)


def sense_of(encoder: Encoder, uses: NDArray[np.int64], folder: Path, config: FinetuneConfig, autocast: bool) -> Sense:
    """How an encoder takes part in a run that uses these rows of its media, a row as often as it stands there.

    Its states are kept in `folder` if some medium comes more than once and they fit into the budget of disk; otherwise,
    and if it trains, it runs in every forward pass. States that were kept before, by any stage, are not computed again.
    """
    argument = "input_features" if encoder.name == "speech" else "pixel_values"
    in_every_step = Sense(argument, encoder.store, encoder.features)
    media = np.unique(uses)
    if len(uses) == len(media) or config.rates.get(encoder.part):  # of one that trains, states change
        return in_every_step
    shape = _run(encoder, encoder.features(0)[:1], autocast).shape[1:]
    size = int(encoder.windows[media].sum()) * int(np.prod(shape)) * KEPT.itemsize
    if size > config.states_gb * 1e9:
        LOG.warning(
            "the %s encoder runs in every step, which is slow: its states take %.1f GB, and states_gb allows %.1f",
            encoder.name, size / 1e9, config.states_gb,
        )  # fmt: skip
        return in_every_step
    read = _keep(encoder, media, KeptStates(folder / f"{encoder.name}-{encoder.identity()}", shape), autocast)
    return Sense(f"{encoder.name}_states", encoder.store, read, _vary(encoder, shape[0], config))


def _vary(encoder: Encoder, positions: int, config: FinetuneConfig) -> Vary:
    """How an encoder's kept states differ from one use to the next."""
    if encoder.name != "speech":
        return lambda states, rng: states
    most = config.speech_shift * positions // POSITIONS if encoder.moves else 0
    share = config.speech_dropout
    return lambda states, rng: muted(shifted(states, most, rng), share, encoder.channels, rng)


def muted(
    states_WPd: NDArray[np.floating], share: float, channels: int | None, rng: np.random.Generator
) -> NDArray[np.floating]:
    """Some of the first `channels` columns silent throughout, the others louder by as much (Tompson et al. 2015).

    What a projector learns then hangs on no single channel, which another voice may not have.
    """
    if share == 0:
        return states_WPd
    factor_d = np.ones(states_WPd.shape[-1], states_WPd.dtype)
    factor_d[:channels] = (rng.random(len(factor_d[:channels])) >= share) / (1 - share)
    return states_WPd * factor_d


def shifted(states_WPd: NDArray[np.floating], most: int, rng: np.random.Generator) -> NDArray[np.floating]:
    """A clip of one window later by 0 to `most` positions, a stretch of half as many at most made silent.

    The silence at the end of the window comes in at its start, so this is for clips shorter than their window. Moving
    is nearly what more silence before the clip would give, for nothing, and changes which states become one token.
    """
    windows, positions, _ = states_WPd.shape
    if most == 0 or windows > 1:
        return states_WPd
    silent = states_WPd[0, -1]
    moved = np.roll(states_WPd, int(rng.integers(0, most + 1)), axis=1)
    begin, length = int(rng.integers(0, positions)), int(rng.integers(0, most // 2 + 1))
    moved[:, begin : begin + length] = silent
    return moved


class KeptStates:
    """States by the mark of their medium, in a file that only grows, and beside it a list of what it holds whole."""

    def __init__(self, folder: Path, shape: tuple[int, ...]) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.states, self.list, self.shape = folder / "states", folder / "list", shape
        self.record = int(np.prod(shape)) * KEPT.itemsize
        for file in (self.states, self.list):
            file.touch()
        held = np.fromfile(self.list, LISTED)
        whole = held[held["end"] * self.record <= self.states.stat().st_size]
        os.truncate(self.list, whole.nbytes)
        self.end = int(whole["end"].max(initial=0))
        os.truncate(self.states, self.end * self.record)
        self.ends = {entry["mark"].tobytes(): int(entry["end"]) for entry in whole}

    def add(self, marks: Sequence[bytes], windows: Sequence[int], states: NDArray[np.float16]) -> None:
        """Write the states of some media, then that they are there."""
        ends = self.end + np.cumsum(windows)
        with full_disk_named(self.states), self.states.open("ab") as stream:
            stream.write(states.tobytes())
        entries = np.array([(np.void(mark), end) for mark, end in zip(marks, ends, strict=True)], LISTED)
        with full_disk_named(self.list), self.list.open("ab") as stream:
            stream.write(entries.tobytes())
        self.end = int(ends[-1])
        self.ends.update(zip(marks, ends.tolist(), strict=True))

    def read(self) -> NDArray[np.float16]:
        """All states, memory-mapped: [windows, ...]."""
        return np.memmap(self.states, KEPT, mode="r", shape=(self.end, *self.shape))


def _keep(
    encoder: Encoder, media: NDArray[np.int64], kept: KeptStates, autocast: bool
) -> Callable[[int], NDArray[np.floating]]:
    """Run the encoder once over the media whose states are not there yet; then read them."""
    marks = encoder.store.table["mark"].to_pylist()
    missing = [row for row in media.tolist() if marks[row] not in kept.ends]

    def states_from(begin: int) -> tuple[list[int], NDArray[np.float16]]:
        rows = missing[begin : begin + BATCH]
        return rows, _run(encoder, np.concatenate([encoder.features(row) for row in rows]), autocast)

    with track(f"encoding {encoder.name}", len(missing), unit="medium") as bar:
        for rows, states in _side_by_side(states_from, range(0, len(missing), BATCH)):
            kept.add([marks[row] for row in rows], [int(encoder.windows[row]) for row in rows], states)
            bar.advance(len(rows))
    states = kept.read()
    ends = {row: kept.ends[marks[row]] for row in media.tolist()}
    return lambda row: states[ends[row] - encoder.windows[row] : ends[row]]


def _side_by_side(work: Callable[[int], Made], begins: Iterable[int]) -> Iterator[Made]:
    """Each result in order, a thread for every core: an encoder this small gains little from several."""
    threads = 1 if torch.cuda.is_available() else torch.get_num_threads()
    with ThreadPoolExecutor(threads, initializer=torch.set_num_threads, initargs=(1,)) as pool:
        waiting: deque[Future[Made]] = deque()
        for begin in begins:
            waiting.append(pool.submit(work, begin))
            if len(waiting) > 2 * threads:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()


def _run(encoder: Encoder, inputs: NDArray[np.floating], autocast: bool) -> NDArray[np.float16]:
    device = "cuda" if torch.cuda.is_available() else "cpu"
    with torch.no_grad(), torch.autocast(device, torch.bfloat16, enabled=autocast):
        states = encoder.encode(torch.from_numpy(inputs))
    return states.float().cpu().numpy().astype(KEPT)
