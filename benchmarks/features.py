"""Preparing clips and pictures against transformers' own extractors: CPU time, and how far the features differ.

    OMP_NUM_THREADS=1 python benchmarks/features.py [--rounds 15]

Both get what is decoded: samples at 16 kHz, or an RGB picture. Turns are taken, so that both meet the same machine;
times are medians of CPU time. Differences are of the frames or samples that hold sound, and the clips are loud noise:
after a clip, and in quiet ones, the two floors differ (1e-10 in transformers, 2^-24 in llama.cpp and here).
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from statistics import median

import numpy as np
import torch
from PIL import Image
from rich.console import Console
from rich.table import Table
from transformers import Wav2Vec2FeatureExtractor, WhisperFeatureExtractor
from transformers.models.clip.image_processing_pil_clip import CLIPImageProcessorPil

from caravan.media.audio import SAMPLE_RATE, log_mel_windows, wave_windows
from caravan.media.image import prepare_image

MEAN, STD = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)
HOP = 160
Way = Callable[[], np.ndarray]
# Ours, theirs, and how much of the last axis holds sound or picture.
Case = tuple[Way, Way, int]


def clips(seconds: float, mels: int) -> Case:
    wave = np.random.default_rng(7).uniform(-0.5, 0.5, int(seconds * SAMPLE_RATE)).astype(np.float32)
    extractor = WhisperFeatureExtractor(feature_size=mels)
    return (
        lambda: log_mel_windows(wave, mels)[0],
        lambda: extractor(wave, sampling_rate=SAMPLE_RATE, return_tensors="np")["input_features"][0],
        len(wave) // HOP,
    )


def waves(seconds: float) -> Case:
    wave = np.random.default_rng(7).uniform(-0.5, 0.5, int(seconds * SAMPLE_RATE)).astype(np.float32)
    extractor = Wav2Vec2FeatureExtractor(do_normalize=True, return_attention_mask=True)
    given = {"sampling_rate": SAMPLE_RATE, "padding": "max_length", "max_length": 480_080, "return_tensors": "np"}
    return (
        lambda: wave_windows(wave, 480_080, True)[0],
        lambda: extractor(wave, **given)["input_values"][0],
        len(wave),
    )


def pictures(side: int, size: int) -> Case:
    picture = Image.fromarray(np.random.default_rng(7).integers(0, 256, (side, side, 3), dtype=np.uint8))
    processor = CLIPImageProcessorPil(size={"shortest_edge": size}, crop_size=size, image_mean=MEAN, image_std=STD)
    return (
        lambda: prepare_image(picture, size, MEAN, STD),
        lambda: np.asarray(processor(picture, return_tensors="np")["pixel_values"][0]),
        size,
    )


def compare(case: Case, rounds: int) -> tuple[float, float, float]:
    """Median milliseconds of CPU each way, and the greatest difference."""
    *ways, filled = case
    seconds: list[list[float]] = [[], []]
    found = [way() for way in ways]
    for _ in range(rounds):
        for place, way in enumerate(ways):
            start = time.process_time()
            way()
            seconds[place].append(time.process_time() - start)
    ours, theirs = (1000 * median(some) for some in seconds)
    return ours, theirs, float(np.abs(found[0] - found[1])[..., :filled].max())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=15)
    rounds = parser.parse_args().rounds
    torch.set_num_threads(1)
    cases: dict[str, Case] = {
        **{f"clip of {seconds} s, 80 mels": clips(seconds, 80) for seconds in (1, 5, 29.9)},
        "clip of 5 s, 128 mels": clips(5, 128),
        **{f"clip of {seconds} s as samples": waves(seconds) for seconds in (5, 30)},
        **{
            f"picture of {side} px to {size}": pictures(side, size)
            for side, size in ((64, 64), (640, 224), (2000, 336))
        },
    }
    table = Table("what", "ours, ms", "transformers, ms", "times as fast", "greatest difference")
    for name, case in cases.items():
        ours, theirs, difference = compare(case, rounds)
        table.add_row(name, f"{ours:.2f}", f"{theirs:.2f}", f"{theirs / ours:.1f}", f"{difference:.1e}")
    Console().print(table)


if __name__ == "__main__":
    main()
