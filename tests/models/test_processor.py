"""The processor gives what training, evaluation and serving see, whatever form media come in."""

from __future__ import annotations

import base64
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from transformers import AutoProcessor, PreTrainedTokenizerFast

from caravan.core.errors import MediaError, PlaceholderError
from caravan.media.audio import encode_wav
from caravan.media.features import MediaSpec, audio_features, image_features
from caravan.media.image import encode_png
from caravan.models.config import media_spec
from caravan.models.fused import CaravanForConditionalGeneration
from caravan.models.processor import CaravanProcessor
from caravan.records import AudioPart, Dialogue, ImagePart, Media, Message
from caravan.text.chat import prompt_text
from caravan.text.chat import render as rendered
from tests.models.conftest import STACK

WINDOW, PATCHES = 1500 // STACK, 4
AUDIO, IMAGE = 7, 10


def wave(seconds: float = 0.5, pitch: float = 300.0, rate: int = 16_000) -> np.ndarray:
    return (0.3 * np.sin(np.arange(round(seconds * rate)) * (2 * np.pi * pitch / rate))).astype(np.float32)


def picture(red: int = 200) -> Image.Image:
    return Image.new("RGB", (40, 20), (red, 128, 0))


@pytest.fixture(scope="module")
def processor(fused: CaravanForConditionalGeneration, tokenizer: PreTrainedTokenizerFast) -> CaravanProcessor:
    return CaravanProcessor.of(fused.config, tokenizer)


@pytest.fixture(scope="module")
def spec(fused: CaravanForConditionalGeneration) -> MediaSpec:
    return MediaSpec(**media_spec(fused.config))


def test_a_conversation_is_that_of_training(
    processor: CaravanProcessor, spec: MediaSpec, tokenizer: PreTrainedTokenizerFast
) -> None:
    """Two clips, one of them over 30 s, and two pictures, in mixed order, in two turns."""
    clips = [encode_wav(wave(31.0)), encode_wav(wave(0.5))]
    pictures = [encode_png(picture(10)), encode_png(picture(250))]
    dialogue = Dialogue("d", "en", "both", (
        Message.of("user", ImagePart(Media(pictures[0])), "and", AudioPart(Media(clips[0]))),
        Message.of("assistant", "yes"),
        Message.of("user", AudioPart(Media(clips[1])), ImagePart(Media(pictures[1]))),
        Message.of("assistant", "no"),
    ))  # fmt: skip
    conversation = [
        {"role": "user", "content": [{"type": "image", "image": pictures[0]}, {"type": "text", "text": "and"},
                                     {"type": "audio", "audio": clips[0]}]},
        {"role": "assistant", "content": "yes"},
        {"role": "user", "content": [{"type": "audio", "audio": clips[1]}, {"type": "image", "image": pictures[1]}]},
        {"role": "assistant", "content": [{"type": "text", "text": "no"}]},
    ]  # fmt: skip
    batch = processor.apply_chat_template(conversation, tokenize=True, return_dict=True, return_tensors="pt")
    assert batch["input_ids"].tolist() == [rendered(tokenizer, dialogue, [2 * WINDOW, WINDOW], [PATCHES] * 2).ids]
    expected = np.concatenate([audio_features(clip, spec) for clip in clips])
    np.testing.assert_array_equal(batch["input_features"].numpy(), expected)
    np.testing.assert_array_equal(
        batch["pixel_values"].numpy(), np.stack([image_features(data, spec) for data in pictures])
    )
    text = processor.apply_chat_template(conversation[:1], add_generation_prompt=True)
    assert text == prompt_text(tokenizer, dialogue.messages[:1])


def data_uri(kind: str, data: bytes) -> str:
    return f"data:{kind};base64,{base64.b64encode(data).decode()}"


def test_media_in_every_form(processor: CaravanProcessor, spec: MediaSpec, tmp_path: Path) -> None:
    clip, png = encode_wav(wave()), encode_png(picture())
    (tmp_path / "clip.wav").write_bytes(clip)
    (tmp_path / "picture.png").write_bytes(png)
    samples = wave()
    clips: list[dict[str, Any]] = [
        {"type": "audio", "audio": clip},
        {"type": "audio", "path": str(tmp_path / "clip.wav")},
        {"type": "audio", "url": data_uri("audio/wav", clip)},
        {"type": "input_audio", "input_audio": {"data": base64.b64encode(clip).decode(), "format": "wav"}},
        {"type": "audio", "audio": {"bytes": None, "path": str(tmp_path / "clip.wav")}},
        {"type": "audio", "audio": samples},
        {"type": "audio", "audio": {"array": wave(rate=8_000), "sampling_rate": 8_000}},
    ]
    pictures: list[dict[str, Any]] = [
        {"type": "image", "image": png},
        {"type": "image", "image": picture()},
        {"type": "image", "image": np.asarray(picture())},
        {"type": "image", "url": str(tmp_path / "picture.png")},
        {"type": "image_url", "image_url": {"url": data_uri("image/png", png)}},
    ]
    batch = processor.apply_chat_template(
        [{"role": "user", "content": clips + pictures}], tokenize=True, return_dict=True, return_tensors="np"
    )
    assert (batch["input_ids"] == AUDIO).sum() == WINDOW * len(clips)
    for number, features in enumerate(batch["input_features"]):
        # Of 16 bits in a file, and resampled in the last one.
        worst = 0.0 if number < 5 else 0.02 if number == 5 else 1.5
        assert np.abs(features - audio_features(clip, spec)[0]).max() <= worst, number
    assert np.ptp(batch["pixel_values"], axis=0).max() == 0
    np.testing.assert_array_equal(batch["pixel_values"][0], image_features(png, spec))


def test_a_batch_of_texts(processor: CaravanProcessor, fused: CaravanForConditionalGeneration) -> None:
    """Padded, masked, media across it in order; answers are those of each alone."""
    alone = [
        processor(text="<|audio_pad|>hear", audio=wave(pitch=200), return_tensors="pt"),
        processor(text="<|image_pad|><|audio_pad|>", audio=[wave(pitch=400)], images=picture(), return_tensors="pt"),
    ]
    together = processor(
        text=["<|audio_pad|>hear", "<|image_pad|><|audio_pad|>"],
        audio=[wave(pitch=200), wave(pitch=400)],
        images=[[], [picture()]],
        padding_side="left",
        return_tensors="pt",
    )
    assert together["attention_mask"].sum(1).tolist() == [WINDOW + 4, PATCHES + WINDOW]
    how = {"do_sample": False, "max_new_tokens": 6, "min_new_tokens": 6}
    both = fused.generate(**together, **how)[:, -6:]
    assert torch.equal(both, torch.cat([fused.generate(**one, **how)[:, -6:] for one in alone]))


@pytest.mark.parametrize(
    ("text", "media", "message"),
    [
        ("<|audio_pad|>", {}, r"clips do not match\n  expected: a clip for each of 1 placeholders.*\n  got: 0"),
        ("hear", {"audio": [wave()]}, r"expected: a clip for each of 0 placeholders[\s\S]*got: 1"),
        ("<|image_pad|>" * 2, {"images": [picture()]}, r"a picture for each of 2 placeholders[\s\S]*got: 1"),
    ],
)
def test_counts_are_checked(processor: CaravanProcessor, text: str, media: dict[str, Any], message: str) -> None:
    with pytest.raises(PlaceholderError, match=message):
        processor(text=text, **media)


def test_counts_are_checked_text_by_text_where_media_are_given_so(processor: CaravanProcessor) -> None:
    """As many in all, but the second text would hear the first one's clip."""
    texts, clips = ["<|audio_pad|>", "<|audio_pad|>"], [[wave(), wave()], []]
    with pytest.raises(PlaceholderError, match=r"text 0: placeholders and clips[\s\S]*of 1 placeholders[\s\S]*got: 2"):
        processor(text=texts, audio=clips)
    assert (processor(text=texts, audio=clips[0], return_tensors="pt")["input_ids"] == AUDIO).all()


def test_what_cannot_be_read_is_named(processor: CaravanProcessor) -> None:
    with pytest.raises(MediaError, match=r"nowhere\.wav: a medium cannot be read"):
        processor(text="<|audio_pad|>", audio="nowhere.wav")
    with pytest.raises(MediaError, match=r"one channel[\s\S]*got: shape \(2, 8000\)"):
        processor(text="<|audio_pad|>", audio=np.zeros((2, 8000)))
    with pytest.raises(ValueError, match="truncation"):
        processor(text="<|audio_pad|>", audio=wave(), truncation=True, max_length=4)


def test_a_model_without_the_sense_says_so(tokenizer: PreTrainedTokenizerFast) -> None:
    blind = CaravanProcessor(tokenizer, {"n_mels": 80, "audio_tokens_per_window": WINDOW}, "<|audio_pad|>")
    with pytest.raises(MediaError, match="does not see"):
        blind(text="<|image_pad|>", images=picture())


def test_round_trip(processor: CaravanProcessor, fused: CaravanForConditionalGeneration, tmp_path: Path) -> None:
    fused.save_pretrained(tmp_path)
    processor.save_pretrained(tmp_path)
    loaded = AutoProcessor.from_pretrained(tmp_path)
    assert type(loaded) is CaravanProcessor
    assert loaded.to_dict() == processor.to_dict()
    assert loaded.chat_template == processor.chat_template
    assert loaded.model_input_names[-2:] == ["input_features", "pixel_values"]
