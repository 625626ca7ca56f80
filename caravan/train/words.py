"""The first part of aligning: what a projector makes of a clip or a picture must tell its words.

No language model runs, only its table of embeddings: a medium's tokens are compared with the embedding of every word
that any medium has, and each word of this medium must be told by some token, and no other word by any. So a token of
a clip is about the sum of the embeddings of what is said in it, which a language model can read; a step costs a
hundredth of one through the model, and shows every word where an answer shows only what was asked.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.nn import functional

from caravan.core.errors import DataError
from caravan.core.files import atomic_path
from caravan.models.backbone import MEDIA
from caravan.models.fused import CaravanForConditionalGeneration
from caravan.recipe.train import WordsConfig
from caravan.train.dialogue_rows import Sense
from caravan.train.loop import Task, fit, full_disk_while_saving, remove_checkpoints
from caravan.train.mix import Mixture
from caravan.train.pack import IGNORED, filled, steps_for
from caravan.train.states import Encoder
from caravan.train.told import told

FOLDER = "words"
PROJECTORS = "projectors.safetensors"


@dataclass(frozen=True)
class Telling:
    """One sense's media whose words are known.

    Attributes:
        sense: how the model takes them.
        media: their rows in its store; clips longer than a window are left out.
        words: for each of them, the places of its words in the vocabulary.
    """

    sense: Sense
    media: NDArray[np.int64]
    words: Sequence[NDArray[np.int64]]


@dataclass(frozen=True)
class WordRows:
    """Media in the order of a run: source n of the order is `tellings[n]`."""

    tellings: Sequence[Telling]
    source: NDArray[np.int64]
    member: NDArray[np.int64]
    seed: int

    @property
    def tokens(self) -> NDArray[np.int64]:
        """Words told, the measure of the work."""
        return np.array([len(self._telling(row).words[self.member[row]]) for row in range(len(self))], np.int64)

    def _telling(self, row: int) -> Telling:
        return self.tellings[self.source[row]]

    def __len__(self) -> int:
        return len(self.source)

    def __getitem__(self, row: int) -> dict[str, NDArray[Any]]:
        telling, member = self._telling(row), self.member[row]
        sense = telling.sense
        array = sense.vary(sense.features(int(telling.media[member])), np.random.default_rng((self.seed, row)))
        return {sense.argument: array, f"{sense.argument}_words": telling.words[member]}


def collate_words(rows: Sequence[Mapping[str, Any]]) -> dict[str, Tensor]:
    """For each kind of media in the batch its features [N, ...], and the places of their words [N, W], filled up."""
    batch: dict[str, Tensor] = {}
    for argument in sorted({key for row in rows for key in row if not key.endswith("_words")}):
        given = [row for row in rows if argument in row]
        features = np.concatenate([row[argument] for row in given]).astype(np.float32, copy=False)
        batch[argument] = torch.from_numpy(features)
        batch[f"{argument}_words"] = torch.from_numpy(filled([row[f"{argument}_words"] for row in given]))
    return batch


class Teller(nn.Module):
    """A fused model whose projectors tell words: media in, the mean loss of their words out."""

    table: Tensor

    def __init__(self, model: CaravanForConditionalGeneration, vocabulary: NDArray[np.int64], sharpness: float) -> None:
        super().__init__()
        self.fused = model
        embeddings: Any = model.get_input_embeddings()
        table_ND = embeddings.weight.detach().float()
        norm = torch.linalg.vector_norm(table_ND, dim=1).mean()
        words_VD = functional.normalize(table_ND[torch.from_numpy(vocabulary)], dim=1)
        self.register_buffer("table", words_VD * sharpness / norm, persistent=False)

    def forward(self, **media: Tensor) -> dict[str, Tensor]:
        """The loss of a batch of `collate_words`."""
        parts = self.fused.model
        loss = self.table.new_zeros(())
        for argument in MEDIA:
            if argument in media:
                tokens_BPD = parts.project(argument, media[argument])
                loss = loss + telling_loss(tokens_BPD @ self.table.T, media[f"{argument}_words"])
        return {"loss": loss}


def telling_loss(logits_BPV: Tensor, words_BW: Tensor) -> Tensor:
    """Minus the log chance of telling exactly these words, a word's share of it.

    Each token divides its chance among the words and silence, whose logit is 0; a word counts as told if some token
    tells it.

    Args:
        logits_BPV: of every word for every token of a medium.
        words_BW: the words of each medium, filled with -100.
    """
    chance_BPV = functional.pad(logits_BPV.float(), (0, 1)).softmax(-1)[..., :-1]
    told_BV, never_BV = told(chance_BPV)
    known_BW = words_BW != IGNORED
    asked_BV = torch.zeros_like(told_BV).scatter_add_(1, words_BW.clamp(min=0), known_BW.to(told_BV)) > 0
    return -torch.where(asked_BV, told_BV, never_BV).sum() / asked_BV.sum()


def plan_words(
    senses: Sequence[tuple[Encoder, Sense]], config: WordsConfig, seed: int
) -> tuple[WordRows, NDArray[np.int64]]:
    """The order of a run over the media whose words are known, and the vocabulary: ids of all their words.

    Raises:
        DataError: no medium's words are known.
    """
    known: list[tuple[Sense, NDArray[np.int64]]] = []
    for encoder, sense in senses:
        media = np.flatnonzero((encoder.windows == 1) & (np.diff(encoder.store.word_edges) > 0))
        if len(media):
            known.append((sense, media))
    if not known:
        raise DataError(
            "align cannot train on words",
            expected="dialogues whose clips have transcripts, or whose pictures have names",
            got="none with words",
            fix="give `text` to their audio or image parts, or leave out `align.words`",
        )
    vocabulary = np.unique(np.concatenate([sense.store.words_of(row) for sense, media in known for row in media]))
    tellings = [
        Telling(sense, media, [np.searchsorted(vocabulary, sense.store.words_of(row)) for row in media])
        for sense, media in known
    ]
    sizes = tuple(len(telling.media) for telling in tellings)
    steps = config.steps or steps_for(round(config.epochs * sum(sizes)), config.batch)
    count, equal = steps * config.batch, (1.0,) * len(sizes)
    source_N, member_N = Mixture(sizes, equal, equal, count, seed=seed).draw(0, count)
    return WordRows(tellings, source_N, member_N, seed), vocabulary


def learn_words(
    model: CaravanForConditionalGeneration,
    senses: Sequence[tuple[Encoder, Sense]],
    config: WordsConfig,
    out: Path,
    seed: int,
    trained: Collection[str],
) -> dict[str, Any]:
    """Train the projectors among the `trained` parameters to tell words; once done, they are read from `out`.

    Returns:
        Counts, as `fit`; none if it was done before.
    """
    folder = out / FOLDER
    done = folder / PROJECTORS
    counts: dict[str, Any] = {}
    if not done.exists():
        folder.mkdir(parents=True, exist_ok=True)
        rows, vocabulary = plan_words(senses, config, seed)
        teller = Teller(model, vocabulary, config.sharpness)
        rates = {f"fused.{name}": config.learning_rate for name in trained if "_projector." in name}
        task = Task("align: words", rates, {})
        counts = fit(teller, rows, collate_words, config, task, folder, seed)
        weights = model.state_dict()
        with full_disk_while_saving(folder), atomic_path(done) as temporary:
            save_file({name: weights[name].contiguous() for name in weights if "_projector." in name}, temporary)
    model.load_state_dict(load_file(done), strict=False)
    remove_checkpoints(folder)
    return counts
