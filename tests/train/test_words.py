"""Telling words: the loss against a count by hand, what is drawn, and a run that learns, is killed and goes on."""

from __future__ import annotations

import copy
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from caravan.core.errors import DataError
from caravan.models.compose import compose
from caravan.recipe.train import WordsConfig
from caravan.train.curve import read_journal
from caravan.train.dialogue_rows import Sense
from caravan.train.dialogues import MediaStore
from caravan.train.pack import IGNORED
from caravan.train.states import Encoder
from caravan.train.told import told
from caravan.train.words import collate_words, learn_words, plan_words, telling_loss


@pytest.fixture
def fused(model_artifact: Any, encoder_folders: Any, tokenizer: Any) -> Any:
    torch.manual_seed(2)
    return compose(
        model_artifact.path,
        tokenizer,
        speech=encoder_folders.path / "speech",
        vision=encoder_folders.path / "vision",
        speech_projector={"name": "stack", "stack": 50, "average": 5},
    )


@given(st.integers(1, 3), st.integers(1, 4), st.integers(1, 5), st.integers(0, 10**6))
def test_told_is_the_chance_of_any_stretch(batch: int, stretches: int, words: int, seed: int) -> None:
    chance = torch.rand(batch, stretches, words, generator=torch.Generator().manual_seed(seed)).double() * 0.98
    some, none = told(chance)
    by_hand = np.prod(1 - chance.numpy(), axis=1)
    np.testing.assert_allclose(none.exp(), by_hand, rtol=1e-6)
    np.testing.assert_allclose(some.exp(), 1 - by_hand, atol=2e-6)


def test_loss_is_the_chance_of_telling_just_these_words() -> None:
    logits = torch.randn(2, 3, 4, generator=torch.Generator().manual_seed(0))
    words = torch.tensor([[1, 3], [0, IGNORED]])
    total = 0.0
    for clip, asked in ((0, {1, 3}), (1, {0})):
        never = [1.0] * 4
        for stretch in range(3):
            shares = [math.exp(float(z)) for z in logits[clip, stretch]]
            for word in range(4):
                never[word] *= 1 - shares[word] / (1.0 + sum(shares))
        total -= sum(math.log(1 - never[word]) if word in asked else math.log(never[word]) for word in range(4))
    assert float(telling_loss(logits, words)) == pytest.approx(total / 3, rel=1e-4)


def test_silence_is_cheapest_where_nothing_is_said_of_others() -> None:
    quiet, loud = torch.full((1, 2, 3), -9.0), torch.full((1, 2, 3), 3.0)
    quiet[0, 0, 1] = loud[0, 0, 1] = 9.0
    assert telling_loss(quiet, torch.tensor([[1]])) < 0.01 < telling_loss(loud, torch.tensor([[1]]))


def _store(words: list[list[int]]) -> MediaStore:
    edges = np.cumsum([0, *map(len, words)])
    return MediaStore(
        None,
        np.arange(len(words) + 1),
        np.arange(len(words)),
        edges,
        np.array([word for known in words for word in known]),
    )


def _encoder(fused: Any, name: str, words: list[list[int]]) -> tuple[Encoder, Sense]:
    """States that are random but for a mark of each word, so that a projector can learn them."""
    store = _store(words)
    projector = getattr(fused.model, f"{name}_projector")
    positions, width = (1500, 8) if name == "speech" else (16, 8)
    marks = np.random.default_rng(5).standard_normal((64, width))
    states = []
    for row, known in enumerate(words):
        plain = 0.1 * np.random.default_rng(row).standard_normal((positions, width))
        for place, word in enumerate(known):
            part = positions // max(len(known), 1)
            plain[place * part : (place + 1) * part] += marks[word]
        with torch.no_grad():
            states.append(projector.pool(torch.tensor(plain[None], dtype=torch.float32)).numpy())
    sense = Sense(f"{name}_states", store, lambda row: states[row])
    windows = np.ones(len(words), np.int64)
    return Encoder(name, store, windows, lambda row: states[row], lambda inputs: inputs), sense


WORDS = [[number % 7 + 10, (number // 7) % 5 + 20] for number in range(35)]
TRAINED = [
    *(f"model.speech_projector.{name}.weight" for name in ("norm_pre", "linear_1", "norm_mid", "linear_2")),
    *(f"model.vision_projector.{name}.weight" for name in ("norm", "linear_1", "linear_2")),
]
CONFIG = WordsConfig(steps=120, batch=16, micro_batch=16, learning_rate=0.003, save_every=40, precision="fp32")


def test_both_senses_come_as_often_and_words_as_places_in_the_vocabulary(fused: Any) -> None:
    senses = [_encoder(fused, "speech", WORDS), _encoder(fused, "vision", [*WORDS * 3, []])]
    rows, vocabulary = plan_words(senses, CONFIG, seed=3)
    assert vocabulary.tolist() == [*range(10, 17), *range(20, 25)]
    assert len(rows) == 120 * 16
    assert np.bincount(rows.source) == pytest.approx([960, 960], abs=2)
    batch = collate_words([rows[n] for n in range(16)])
    assert len(batch["speech_states"]) + len(batch["vision_states"]) == 16
    seen = {int(word) for word in vocabulary[batch["speech_states_words"].unique()]}
    assert seen <= {word for known in WORDS for word in known}
    assert rows.tokens.tolist() == [2] * len(rows)


def test_a_clip_of_several_windows_and_one_without_words_are_left_out(fused: Any) -> None:
    encoder, sense = _encoder(fused, "speech", [[10], [], [11]])
    long = replace(encoder, windows=np.array([2, 1, 1]))
    rows, vocabulary = plan_words([(long, sense)], CONFIG, seed=3)
    assert vocabulary.tolist() == [11]
    assert set(rows.member) == {0}
    with pytest.raises(DataError, match=r"cannot train on words[\s\S]*got: none with words"):
        plan_words([_encoder(fused, "vision", [[], []])], CONFIG, seed=3)


def test_projectors_learn_to_tell_and_nothing_else_moves(fused: Any, tmp_path: Path) -> None:
    before = {name: value.clone() for name, value in fused.state_dict().items()}
    counts = learn_words(fused, [_encoder(fused, "speech", WORDS)], CONFIG, tmp_path, seed=3, trained=TRAINED)
    losses = [line["loss"] for line in read_journal(tmp_path / "words" / "train.jsonl")]
    assert counts["final_loss"] < 0.2 * losses[0]
    moved = {name for name, value in fused.state_dict().items() if not torch.equal(value, before[name])}
    assert moved == {name for name in before if name.startswith("model.speech_projector.")}
    assert not (tmp_path / "words" / "checkpoints").exists()


def test_a_killed_run_goes_on_and_ends_the_same_and_a_finished_one_is_only_read(
    fused: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    start = copy.deepcopy(fused)
    senses = [_encoder(fused, "speech", WORDS), _encoder(fused, "vision", WORDS)]
    learn_words(fused, senses, CONFIG, tmp_path / "whole", seed=3, trained=TRAINED)

    class KilledError(Exception):
        pass

    def kill(folder: Path) -> None:
        if folder.name == "checkpoint-80":
            raise KilledError

    again = copy.deepcopy(start)
    with monkeypatch.context() as patch, pytest.raises(KilledError):
        patch.setattr("caravan.train.watch.seal", kill)
        learn_words(again, senses, CONFIG, tmp_path / "cut", seed=3, trained=TRAINED)
    again = copy.deepcopy(start)
    learn_words(again, senses, CONFIG, tmp_path / "cut", seed=3, trained=TRAINED)
    for name, value in fused.state_dict().items():
        torch.testing.assert_close(again.state_dict()[name], value, rtol=1e-5, atol=1e-6)

    third = copy.deepcopy(start)
    monkeypatch.setattr("caravan.train.words.fit", None)
    assert learn_words(third, senses, CONFIG, tmp_path / "cut", seed=3, trained=TRAINED) == {}
    torch.testing.assert_close(third.state_dict(), again.state_dict())
