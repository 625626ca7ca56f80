"""What frozen encoders say, computed once and kept on disk: from then on, an epoch does not run them."""

from __future__ import annotations

import contextlib
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from transformers import AttentionInterface

from caravan.core.files import full_disk_named
from caravan.core.log import get_logger
from caravan.core.progress import track
from caravan.media.features import MediaSpec, audio_features, image_features
from caravan.recipe.train import FinetuneConfig
from caravan.train.dialogue_rows import Sense
from caravan.train.dialogues import MediaStore, Prepared

LOG = get_logger(__name__)
BATCH = 4
QUERIES = 250
Made = TypeVar("Made")
KEPT = np.dtype(np.float16)


@dataclass(frozen=True)
class Encoder:
    """One frozen encoder and how it is fed.

    Attributes:
        name: speech or vision.
        store: its media.
        windows: how many inputs each medium gives.
        features: the inputs of one medium, [windows, ...].
        encode: inputs to states [windows, positions, width].
    """

    name: str
    store: MediaStore
    windows: NDArray[np.int64]
    features: Callable[[int], NDArray[np.floating]]
    encode: Callable[[torch.Tensor], torch.Tensor]


def encoders_of(model: Any, spec: MediaSpec, prepared: Prepared) -> list[Encoder]:
    """The encoders of a fused model for which there are media."""
    found = []
    audio, image = prepared.audio, prepared.image
    if spec.n_mels and len(audio.sizes):
        windows = audio.sizes // spec.audio_tokens_per_window
        found.append(
            Encoder(
                "speech", audio, windows, lambda row: audio_features(audio.read(row), spec), model.model.encode_speech
            )
        )
    if spec.image_size and len(image.sizes):
        found.append(
            Encoder(
                "vision",
                image,
                image.sizes,
                lambda row: image_features(image.read(row), spec)[None],
                model.model.encode_image,
            )
        )
    return found


def blockwise(
    module: Any, query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None, scaling: float, **rest: Any
) -> tuple[Tensor, None]:
    """Attention of [B, H, T, d] without a mask, plainly, some queries at a time: their scores fit in a core's cache."""
    assert mask is None
    keys = (key * scaling).transpose(-1, -2)
    parts = [torch.softmax(some @ keys, -1) @ value for some in query.split(QUERIES, dim=2)]
    return torch.cat(parts, dim=2).transpose(1, 2).contiguous(), None


AttentionInterface.register("blockwise", blockwise)


@contextlib.contextmanager
def plain_attention(model: Any) -> Iterator[None]:
    """Encoders without the fused attention kernel, which costs half as much again on a CPU if nothing is learnt."""
    parts = [] if torch.cuda.is_available() else [model.model.speech_encoder, model.model.vision_encoder]
    before = [(part, part.config._attn_implementation) for part in parts if part is not None]
    for part, _ in before:
        part.set_attn_implementation("blockwise")
    try:
        yield
    finally:
        for part, name in before:
            part.set_attn_implementation(name)


def sense_of(
    encoder: Encoder, dialogues: NDArray[np.int64], folder: Path, config: FinetuneConfig, autocast: bool
) -> Sense:
    """How an encoder takes part in a run over these dialogues.

    Its states are kept if some medium comes more than once and they fit into the budget of disk; otherwise it runs in
    every forward pass.
    """
    uses = int(np.diff(encoder.store.edges)[dialogues].sum())
    shape = _run(encoder, encoder.features(0)[:1], autocast).shape[1:]
    size = int(encoder.windows.sum()) * int(np.prod(shape)) * KEPT.itemsize
    again = uses > len(encoder.windows)
    if again and size > config.states_gb * 1e9:
        LOG.warning(
            "the %s encoder runs in every step, which is slow: its states take %.1f GB, and states_gb allows %.1f",
            encoder.name, size / 1e9, config.states_gb,
        )  # fmt: skip
    elif again:
        kept = _keep(encoder, folder, shape, autocast)
        most = config.speech_shift if encoder.name == "speech" else 0
        return Sense(f"{encoder.name}_states", encoder.store, kept, lambda states, rng: shifted(states, most, rng))
    argument = "input_features" if encoder.name == "speech" else "pixel_values"
    return Sense(argument, encoder.store, encoder.features)


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


def _keep(
    encoder: Encoder, folder: Path, shape: tuple[int, ...], autocast: bool
) -> Callable[[int], NDArray[np.floating]]:
    """Run the encoder once over all media, going on where a killed run stopped; then read its states."""
    record = int(np.prod(shape)) * KEPT.itemsize
    edges = np.concatenate([[0], np.cumsum(encoder.windows)])
    file = folder / f"{encoder.name}.states"
    with full_disk_named(file), file.open("ab") as stream:
        done = int(np.searchsorted(edges, stream.tell() // record, side="right")) - 1
        stream.truncate(int(edges[done]) * record)

        def states_from(begin: int) -> tuple[int, NDArray[np.float16]]:
            rows = range(begin, min(begin + BATCH, len(encoder.windows)))
            return len(rows), _run(encoder, np.concatenate([encoder.features(row) for row in rows]), autocast)

        with track(f"encoding {encoder.name}", len(encoder.windows) - done, unit="medium") as bar:
            for count, kept in _side_by_side(states_from, range(done, len(encoder.windows), BATCH)):
                stream.write(kept.tobytes())
                bar.advance(count)
    states = np.memmap(file, KEPT, mode="r", shape=(int(edges[-1]), *shape))
    return lambda row: states[edges[row] : edges[row + 1]]


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
