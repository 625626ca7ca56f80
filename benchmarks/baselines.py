"""Simple baselines on the held-out items of recipes/emoji18.yaml: a small CNN, and the nearest neighbour on encoders.

    python benchmarks/baselines.py [TASK ...] [--data ../shared/data] [--encoders RUN/encoders] [--epochs 20]

The rows are the recipe's own: its sources are read, with its seed and what they hold out. A CNN has four convolutions
and sees the training rows alone, varied as the encoders' training varies them. The nearest neighbour takes the answer
of the training row whose encoder states are most alike (cosine); --encoders takes a run's in place of the shipped.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from rapidfuzz.distance import Levenshtein
from torch import Tensor, nn
from torch.nn import functional
from transformers import CLIPVisionModel, WhisperForConditionalGeneration
from transformers.utils import logging

from caravan.core.stage import StageContext
from caravan.instruct import pictures, speech
from caravan.instruct.containers import read_rows
from caravan.instruct.stage import name_of
from caravan.media.audio import decode_audio
from caravan.media.image import decode_image, prepare_image
from caravan.recipe.load import load_recipe
from caravan.samples import sample_encoder
from caravan.train.speech import encode_prefix, other_microphone, spoken_frames, vary

RECIPE = Path(__file__).parents[1] / "recipes" / "emoji18.yaml"
STRETCHES, SIDE = 8, 64
Features = list[Any]


@dataclass
class Side:
    """Media [n], encoded, and the label of each."""

    media: list[bytes]
    labels: list[str]

    def add(self, medium: bytes, label: str) -> None:
        self.media.append(medium)
        self.labels.append(label)


@dataclass
class Task:
    """What is to be told from what: clips or pictures, those of training and those held out."""

    sense: str
    train: Side
    test: Side
    mirrored: bool = False


class Recipe:
    """The recipe's sources, read as the stage reads them."""

    def __init__(self, data: Path) -> None:
        self.recipe = load_recipe(RECIPE)
        self.context = StageContext(Path(), {}, data, self.recipe.seed, tuple(self.recipe.languages), "instruct")

    def source(self, part: str) -> tuple[Any, str]:
        """The first source whose files' name holds `part`, and its name in the run."""
        assert self.recipe.instruct is not None
        for number, source in enumerate(self.recipe.instruct.sources):
            if part in str(source.model_dump()):
                return source, name_of(number, source)
        raise LookupError(part)

    def speech(self, part: str, task: str) -> Task:
        source, name = self.source(part)
        sides = {"train": Side([], []), "test": Side([], [])}
        for item in speech.read(source, self.context, name):
            if item.dialogue.task == task:
                sides[item.split].add(item.dialogue.audios[0].read(), item.dialogue.messages[-1].text)
        return Task("speech", **sides)

    def emoji(self) -> Task:
        """Each picture once, told by its key: who knows it knows its names in all languages."""
        source, name = self.source("emoji_names")
        sides = {"train": Side([], []), "test": Side([], [])}
        seen = set()
        for item in pictures.read(source, self.context, name):
            medium = item.dialogue.images[0].read()
            if medium not in seen:
                seen.add(medium)
                sides[item.split].add(medium, item.dialogue.id.split(":")[1])
        return Task("vision", **sides, mirrored=True)

    def hands(self, kept: str) -> Task:
        """Photographs of hands: the recipe's own held-out images, or the last fifth of the series, other people's."""
        source, name = self.source("spoken_pictures")
        if kept == "images":
            found = speech._pictures_by_label(source, self.context, name)
            sides = {split: Side([], []) for split in ("train", "test")}
            for (split, label), media in sorted(found.items()):
                for medium in media:
                    sides[split].add(medium, label)
            return Task("vision", **sides)
        rows = [row.values for file in self.context.resolve(source.pictures) for row in read_rows(file)]
        rows.sort(key=lambda row: int("".join(filter(str.isdigit, row["id"]))))
        train, test = Side([], []), Side([], [])
        for place, row in enumerate(rows):
            (test if place >= 0.8 * len(rows) else train).add(row[source.image], str(row[source.label]))
        return Task("vision", train, test)

    def both(self) -> list[tuple[bytes, bytes, str]]:
        """Held-out clip, picture and answer of each spoken question about a hand."""
        source, name = self.source("spoken_pictures")
        rows = speech.read_spoken_pictures(source, self.context, name)
        asked = [item.dialogue for item in rows if item.split == "test"]
        return [(one.audios[0].read(), one.images[0].read(), one.messages[-1].text) for one in asked]


def spectrogram(data: bytes) -> tuple[np.ndarray, float]:
    mel_MF, silence = spoken_frames(decode_audio(data))
    return mel_MF.astype(np.float32), silence


def pixels(data: bytes) -> np.ndarray:
    """uint8 [3, SIDE, SIDE]."""
    return np.asarray(decode_image(data).resize((SIDE, SIDE))).transpose(2, 0, 1)


def varied_clip(clip: tuple[np.ndarray, float], rng: np.random.Generator) -> tuple[np.ndarray, float]:
    mel_MF, silence = clip
    mel_MF = vary(mel_MF, silence, rng)
    return (other_microphone(mel_MF, rng) if rng.random() < 0.8 else mel_MF), silence


def varied_picture(mirrored: bool, picture: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Moved by up to an eighth, in other light, mirrored where that changes nothing."""
    moved = np.roll(picture, rng.integers(-SIDE // 8, SIDE // 8 + 1, 2), (1, 2))
    if mirrored and rng.random() < 0.5:
        moved = moved[:, :, ::-1]
    light = rng.uniform(0.7, 1.3) * rng.uniform(0.85, 1.15, (3, 1, 1))
    return np.clip(moved * light + rng.normal(0, 8, moved.shape), 0, 255).astype(np.uint8)


def batch_of(sense: str, items: Features) -> Tensor:
    """[B, 1, 80, F], filled with silence, or [B, 3, SIDE, SIDE]; about of mean 0 and deviation 1."""
    if sense == "vision":
        return torch.from_numpy(np.stack(items).astype(np.float32) / 64 - 2)
    frames = max(32, *(mel.shape[1] for mel, _ in items))
    filled = np.stack([np.full((80, frames), silence, np.float32) for _, silence in items])
    for window_MF, (mel_MF, _) in zip(filled, items, strict=True):
        window_MF[:, : mel_MF.shape[1]] = mel_MF
    return torch.from_numpy(filled[:, None] * 2)


def convolutions(channels: int, strides: Sequence[tuple[int, int]]) -> tuple[list[nn.Module], int]:
    """Four convolutions that halve what their strides say, and their last width."""
    layers: list[nn.Module] = []
    for width, kernel, stride in zip((24, 48, 72, 96), (5, 3, 3, 3), strides, strict=True):
        layers += [nn.Conv2d(channels, width, kernel, stride, kernel // 2), nn.BatchNorm2d(width), nn.ReLU()]
        channels = width
    return layers, channels


def small_cnn(channels: int, classes: int) -> nn.Module:
    """Four convolutions, then the mean and one linear layer."""
    layers, width = convolutions(channels, [(2, 2)] * 4)
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Dropout(0.2), nn.Linear(width, classes))


class Reader(nn.Module):
    """The same convolutions for clips, a quarter of the frames kept, letters by CTC: it may write what it never saw."""

    def __init__(self, letters: int) -> None:
        super().__init__()
        layers, width = convolutions(1, [(2, 2), (2, 2), (2, 1), (2, 1)])
        self.layers, self.head = nn.Sequential(*layers), nn.Linear(width * 5, letters)

    def forward(self, mel_B1MF: Tensor) -> Tensor:
        """Log-probabilities [F / 4, B, letters]; letter 0 is the blank."""
        states = self.layers(mel_B1MF)
        return self.head(states.flatten(1, 2).permute(2, 0, 1)).log_softmax(-1)


def fit(
    model: nn.Module,
    task: Task,
    items: Features,
    targets: Sequence[Any],
    loss: Callable[[Tensor, Sequence[Any]], Tensor],
    epochs: int,
) -> None:
    vary_one = varied_clip if task.sense == "speech" else partial(varied_picture, task.mirrored)
    rng = np.random.default_rng(7)
    steps = epochs * (len(items) // 32)
    optimizer = torch.optim.AdamW(model.parameters(), lr=2e-3, weight_decay=0.01)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 4e-3, total_steps=steps)
    model.train()
    for _ in range(epochs):
        order = rng.permutation(len(items))
        for first in range(0, len(items) // 32 * 32, 32):
            chosen = order[first : first + 32]
            inputs = batch_of(task.sense, [vary_one(items[place], rng) for place in chosen])
            value = loss(model(inputs), [targets[place] for place in chosen])
            optimizer.zero_grad()
            value.backward()
            optimizer.step()
            schedule.step()
    model.eval()


@torch.no_grad()
def outputs(model: nn.Module, task: Task, items: Features) -> list[Tensor]:
    """What the model gives for each item alone: neighbours do not change how a clip is filled up."""
    return [model(batch_of(task.sense, [item]))[..., :] for item in items]


def classifier(task: Task, epochs: int) -> Callable[[list[bytes]], list[str]]:
    """A CNN that tells the labels of training."""
    read = spectrogram if task.sense == "speech" else pixels
    labels = sorted(set(task.train.labels))
    place = {label: number for number, label in enumerate(labels)}
    torch.manual_seed(7)
    model = small_cnn(1 if task.sense == "speech" else 3, len(labels))

    def loss(logits: Tensor, targets: Sequence[int]) -> Tensor:
        return functional.cross_entropy(logits, torch.tensor(targets), label_smoothing=0.1)

    fit(model, task, list(map(read, task.train.media)), [place[label] for label in task.train.labels], loss, epochs)
    return lambda media: [labels[int(one.argmax())] for one in outputs(model, task, list(map(read, media)))]


def reader(task: Task, epochs: int) -> Callable[[list[bytes]], list[str]]:
    """A CNN that writes letters."""
    letters = ["", *sorted(set("".join(task.train.labels)))]
    place = {letter: number for number, letter in enumerate(letters)}
    torch.manual_seed(7)
    model = Reader(len(letters))

    def loss(log_FBL: Tensor, targets: Sequence[str]) -> Tensor:
        ids = torch.tensor([place[letter] for text in targets for letter in text])
        frames = torch.full((log_FBL.shape[1],), log_FBL.shape[0])
        return functional.ctc_loss(log_FBL, ids, frames, torch.tensor(list(map(len, targets))), zero_infinity=True)

    fit(model, task, list(map(spectrogram, task.train.media)), task.train.labels, loss, epochs)

    def written(media: list[bytes]) -> list[str]:
        best = [one.argmax(-1).flatten() for one in outputs(model, task, list(map(spectrogram, media)))]
        return ["".join(letters[int(letter)] for letter in ids.unique_consecutive()) for ids in best]

    return written


def neighbour(task: Task, encoders: Path | None) -> Callable[[list[bytes]], list[str]]:
    """The label of the training item whose encoder states are most alike."""
    folder = encoders / task.sense if encoders else sample_encoder(task.sense)
    states = (heard if task.sense == "speech" else seen)(folder)
    known_ND = _unit(np.stack([states(medium) for medium in task.train.media]))

    def nearest(media: list[bytes]) -> list[str]:
        asked_ND = _unit(np.stack([states(medium) for medium in media]))
        return [task.train.labels[place] for place in (asked_ND @ known_ND.T).argmax(1)]

    return nearest


def heard(folder: Path) -> Callable[[bytes], np.ndarray]:
    """States of a clip in STRETCHES means, one after the other."""
    encoder = WhisperForConditionalGeneration.from_pretrained(folder, dtype=torch.float32).eval().model.encoder

    @torch.no_grad()
    def states(medium: bytes) -> np.ndarray:
        mel_MF, _ = spectrogram(medium)
        mel_1MF = torch.from_numpy(mel_MF[None, :, : max(2 * STRETCHES, mel_MF.shape[1] // 2 * 2)])
        states_1dP = encode_prefix(encoder, mel_1MF).transpose(1, 2)
        return functional.adaptive_avg_pool1d(states_1dP, STRETCHES).flatten().numpy()

    return states


def seen(folder: Path) -> Callable[[bytes], np.ndarray]:
    """The mean of a picture's patches, before the last layer."""
    encoder = CLIPVisionModel.from_pretrained(folder, dtype=torch.float32).eval()
    size = int(encoder.config.image_size)

    @torch.no_grad()
    def states(medium: bytes) -> np.ndarray:
        picture = prepare_image(decode_image(medium), size, (0.4815, 0.4578, 0.4082), (0.2686, 0.2613, 0.2758))
        hidden = encoder(torch.from_numpy(picture[None]), output_hidden_states=True).hidden_states[-2]
        return hidden[0, 1:].mean(0).numpy()

    return states


def _unit(rows_ND: np.ndarray) -> np.ndarray:
    centred = rows_ND - rows_ND.mean(0)
    return centred / np.linalg.norm(centred, axis=1, keepdims=True)


def figures(task: Task, said: list[str], letters: bool) -> str:
    pairs = list(zip(task.test.labels, said, strict=True))
    exact = sum(label == text for label, text in pairs) / len(pairs)
    edits = sum(Levenshtein.distance(label, text) for label, text in pairs)
    errors = f", character errors {100 * edits / sum(map(len, task.test.labels)):.1f} %" if letters else ""
    return f"{100 * exact:.1f} % of {len(pairs)}{errors}"


def compare(name: str, task: Task, options: argparse.Namespace) -> Any:
    """Print what each baseline reaches; the CNN comes back, or who else was asked."""
    letters = name == "words"
    kinds = {
        "CNN": partial(reader if letters else classifier, task, options.epochs),
        "nearest neighbour": partial(neighbour, task, options.encoders),
    }
    print(f"{name}: {len(task.train.media)} for training, {len(set(task.train.labels))} labels")
    told = {}
    for kind, make in kinds.items():
        if options.only not in (None, kind):
            continue
        start = time.process_time()
        told[kind] = make()
        line = figures(task, told[kind](task.test.media), letters)
        print(f"  {kind}: {line} ({time.process_time() - start:.0f} s of CPU)", flush=True)
    return told.get("CNN", told.get("nearest neighbour"))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    tasks = ("digits", "words", "emoji", "hands", "people", "both")
    parser.add_argument("tasks", nargs="*", help=" ".join(tasks))
    parser.add_argument("--data", type=Path, default=Path("../shared/data"))
    parser.add_argument("--encoders", type=Path)
    parser.add_argument("--epochs", type=int, default=20)
    parser.add_argument("--only", choices=("CNN", "nearest neighbour"), help="one of the two")
    options = parser.parse_args()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    recipe = Recipe(options.data)
    makers: dict[str, Callable[[], Task]] = {
        "digits": lambda: recipe.speech("fsdd_en_digits", "speech"),
        "words": lambda: recipe.speech("hsk_zh_words", "transcribe"),
        "emoji": recipe.emoji,
        "hands": lambda: recipe.hands("images"),
        "people": lambda: recipe.hands("people"),
    }
    chosen = options.tasks or list(tasks)
    known = {name: compare(name, make(), options) for name, make in makers.items() if name in chosen}
    if "both" in chosen and {"digits", "hands"} <= known.keys():
        rows = recipe.both()
        words = known["digits"]([clip for clip, _, _ in rows])
        hands = known["hands"]([picture for _, picture, _ in rows])
        source, _ = recipe.source("spoken_pictures")
        answers = [source.same if source.words[word] == hand else source.different
                   for word, hand in zip(words, hands, strict=True)]  # fmt: skip
        right = sum(answer == row[2] for answer, row in zip(answers, rows, strict=True))
        print(f"both: the two together {100 * right / len(rows):.1f} % of {len(rows)}")


if __name__ == "__main__":
    main()
