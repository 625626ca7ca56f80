"""The small Whisper: prefix encoding, variation, learning, resume at the stage."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from transformers import AutoConfig, AutoTokenizer, WhisperFeatureExtractor, WhisperModel

from caravan.media.audio import log_mel
from caravan.recipe.train import EncodersConfig, SpeechConfig, SpeechShape
from caravan.train import encoders, speech
from caravan.train.speech import (
    FRAMES,
    collate_speech,
    encode_prefix,
    error_rate,
    new_whisper,
    other_microphone,
    plan_speech,
    spoken_frames,
    vary,
)
from caravan.train.vocabulary import encode, learn_vocabulary

SHAPE = SpeechShape(hidden_size=16, layers=1, decoder_layers=1, heads=2, vocabulary=270)
TEXTS = ["two tones low", "high tone", "один тон", "三"]


@pytest.fixture(scope="module")
def vocabulary():
    return learn_vocabulary(TEXTS, 270)


@pytest.fixture
def whisper(vocabulary):
    torch.manual_seed(0)
    return new_whisper(SHAPE, vocabulary).eval()


def tone(pitch, seconds=0.5):
    return (0.3 * np.sin(2 * np.pi * pitch * np.arange(int(16000 * seconds)) / 16000)).astype(np.float32)


class Items:
    """Tones of different pitch, each with a text of its own."""

    def __init__(self, vocabulary):
        self.texts = TEXTS * 2
        self.mels = [spoken_frames(tone(200 * 2 ** (n % 4))) for n in range(8)]
        self.ids = [np.array(encode(vocabulary, text, 32)) for text in self.texts]
        self.words = [np.unique(ids[1:-1]) for ids in self.ids]

    def __len__(self):
        return 8


def test_any_text_can_be_said_in_a_learnt_vocabulary(vocabulary):
    for text in (*TEXTS, "ñ👍 never seen"):
        ids = encode(vocabulary, text, 64)
        assert vocabulary.decode(ids, skip_special_tokens=True) == text
    assert len(encode(vocabulary, "x" * 100, 8)) == 8


def test_the_whole_window_is_the_encoders_own_pass(whisper):
    mel = torch.randn(1, 80, FRAMES)
    with torch.no_grad():
        torch.testing.assert_close(
            encode_prefix(whisper.model.encoder, mel), whisper.model.encoder(mel).last_hidden_state
        )
        assert encode_prefix(whisper.model.encoder, mel[:, :, :100]).shape == (1, 50, 16)


def test_frames_that_touch_sound_and_silence_make_the_window():
    wave = tone(440)
    mel, silence = spoken_frames(wave)
    assert 48 <= mel.shape[1] <= 53
    whole = np.full((80, FRAMES), silence, np.float32)
    whole[:, : mel.shape[1]] = mel
    np.testing.assert_allclose(whole, log_mel(wave), atol=2e-3)


def test_variation_keeps_the_shape_of_the_sound():
    mel = np.zeros((80, 100), np.float32)
    mel[40, :] = 1.0
    varied = vary(mel, 0.0, np.random.default_rng(0))
    assert 88 <= varied.shape[1] <= 112
    assert abs(int(varied.mean(1).argmax()) - 40) <= 6
    np.testing.assert_array_equal(varied, vary(mel, 0.0, np.random.default_rng(0)))


def test_another_microphone_adds_noise_below_the_sound_and_moves_no_frame():
    mel = np.full((80, 100), -1.0, np.float32)
    mel[40, 50:] = 1.0
    heard = other_microphone(mel, np.random.default_rng(0))
    assert heard.shape == mel.shape
    assert heard.dtype == np.float32
    assert (heard[40, 50:].min() - heard[40, :50].max()) * 40 > 5
    floor = heard[60]
    assert -1.0 < floor.mean() < heard[40, 50:].mean() - 12 / 40 + 20 / 40
    assert 2 / 40 < floor.std() < 4 / 40
    np.testing.assert_array_equal(heard, other_microphone(mel, np.random.default_rng(0)))


def test_the_last_steps_have_whole_windows_and_the_others_less(vocabulary):
    config = SpeechConfig(epochs=4, batch=4, micro_batch=4, full_windows=0.25)
    rows = plan_speech(Items(vocabulary), config, seed=3)
    assert len(rows) == 32
    frames = [collate_speech([rows[n] for n in range(first, first + 4)])["mel"].shape[2] for first in range(0, 32, 4)]
    assert frames[6:] == [FRAMES, FRAMES]
    assert max(frames[:6]) < FRAMES
    assert all(count % 2 == 0 for count in frames)
    assert sorted(rows.order[:8]) == list(range(8))


def test_learns_to_transcribe_and_its_numbers_say_so(vocabulary, whisper):
    items = Items(vocabulary)
    before = error_rate(whisper, vocabulary, items)
    model = speech.Transcriber(whisper, ctc=0.3, lexicon=270)
    optimiser = torch.optim.AdamW(model.parameters(), lr=5e-3)
    mels = [{"mel": mel.astype(np.float32), "silence": s, "frames": 60, "ids": ids, "words": ids[1:-1],
             "pooled": 1} for (mel, s), ids in zip(items.mels[:4], items.ids[:4], strict=True)]  # fmt: skip
    batch = collate_speech(mels)
    for _ in range(150):
        loss = model(**batch)["loss"]
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    said = speech.transcribe(whisper, vocabulary, batch["mel"])
    assert said == TEXTS
    assert before > 0.5


def test_means_are_of_neighbouring_states_and_lose_none():
    states_BPd = torch.arange(2 * 7 * 3, dtype=torch.float32).view(2, 7, 3)
    assert torch.equal(speech.means(states_BPd, 1), states_BPd)
    pooled_BPd = speech.means(states_BPd, 3)
    expected = torch.stack([states_BPd[:, 0:3].mean(1), states_BPd[:, 3:6].mean(1), states_BPd[:, 6]], 1)
    torch.testing.assert_close(pooled_BPd, expected)


def test_the_stage_leaves_folders_that_transformers_reads(context, dialogues_artifact, make_artifact, tmp_path):
    config = EncodersConfig(
        source={"tasks": ["speech", "picture"]},
        speech={"model": SHAPE, "steps": 2, "batch": 2, "micro_batch": 2, "full_windows": 0.5, "precision": "fp32"},
        vision={
            "model": {"hidden_size": 16, "layers": 2, "text_layers": 1, "heads": 2, "image_size": 16, "patch_size": 8,
                      "vocabulary": 260},
            "steps": 2, "batch": 2, "micro_batch": 2, "precision": "fp32",
        },
    )  # fmt: skip
    ctx = context("encoders", dialogues=dialogues_artifact)
    counts = encoders.run(config, ctx)
    assert counts["speech"]["clips"] == 4
    assert counts["vision"]["pictures"] == 4
    folder = ctx.out / "speech"
    assert AutoConfig.from_pretrained(folder).max_source_positions == 1500
    assert WhisperModel.from_pretrained(folder).encoder.layers[0].fc1.weight.dtype == torch.float16
    assert WhisperFeatureExtractor.from_pretrained(folder).feature_size == 80
    assert len(AutoTokenizer.from_pretrained(folder)) == AutoConfig.from_pretrained(folder).vocab_size
    again = EncodersConfig(
        source={"tasks": ["speech"]},
        speech={"from": str(folder), "steps": 1, "batch": 2, "micro_batch": 2, "precision": "fp32", "full_windows": 0},
        vision=None,
    )
    assert encoders.run(again, context("again", dialogues=dialogues_artifact))["speech"]["steps"] == 1


def test_a_word_is_told_if_some_stretch_tells_it():
    logits_BPV = torch.full((2, 3, 5), -20.0)
    logits_BPV[0, [0, 1, 2], [4, 2, 4]] = 20.0
    logits_BPV[1, [0, 1, 2], [4, 4, 4]] = 20.0
    assert speech.told_words(logits_BPV[:1], torch.tensor([[2, 4, speech.IGNORED]])) < 1e-3
    assert speech.told_words(logits_BPV[1:], torch.tensor([[4, speech.IGNORED]])) < 1e-3
    missed = speech.told_words(logits_BPV[1:], torch.tensor([[2, 4]]))
    assert missed > 5


def test_told_words_are_a_double_precision_count_of_chances():
    logits_BPV = torch.randn(2, 4, 6, generator=torch.Generator().manual_seed(1))
    words = [[0, 3], [5]]
    chance_BPV = logits_BPV.double().softmax(-1)
    wanted = [np.log(1 - np.prod(1 - chance_BPV[row, :, word].numpy())) for row in range(2) for word in words[row]]
    got = speech.told_words(logits_BPV, torch.tensor([words[0], [5, speech.IGNORED]]))
    assert float(got) == pytest.approx(-np.mean(wanted), abs=1e-4)
