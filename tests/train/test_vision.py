"""The small CLIP: meanings, variation, learning."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest
import torch
from PIL import Image
from transformers import AutoImageProcessor, CLIPVisionModel

from caravan.media.image import encode_png
from caravan.recipe.train import VisionConfig, VisionShape
from caravan.train.items import SCHEMA
from caravan.train.vision import Namer, VisionItems, collate_vision, meanings, new_clip, plan_vision, retrieval, vary
from caravan.train.vocabulary import learn_vocabulary

SHAPE = VisionShape(hidden_size=32, layers=2, text_layers=1, heads=2, image_size=16, patch_size=8, vocabulary=280)
COLOURS = {
    (220, 20, 20): {"en": "red", "de": "rot"}, (20, 220, 20): {"en": "green", "de": "grün"},
    (20, 20, 220): {"en": "blue", "de": "blau"}, (220, 220, 20): {"en": "yellow", "de": "gelb"},
}  # fmt: skip


@pytest.fixture(scope="module")
def vocabulary():
    return learn_vocabulary([text for names in COLOURS.values() for text in names.values()], 280)


@pytest.fixture
def items(vocabulary):
    rows = []
    for colour, names in COLOURS.items():
        for shade in (0, 12, 24):
            image = encode_png(Image.new("RGB", (16, 16), tuple(value + shade for value in colour)))
            # As in dialogues: each row has the name in one language.
            rows += [{"media": image, "texts": [{"language": code, "text": text}]} for code, text in names.items()]
    return VisionItems(pa.Table.from_pylist(rows, schema=SCHEMA), vocabulary, 16)


def test_rows_of_one_picture_are_one_item_with_all_its_names(items):
    assert len(items) == 12
    assert items.names[0] == {"en": "red", "de": "rot"}
    assert len(set(items.meaning.tolist())) == 4


def test_pictures_that_share_a_name_have_one_meaning():
    names = [{"en": "a", "de": "b"}, {"en": "c"}, {"de": "b", "fr": "d"}, {"fr": "d"}, {"de": "a"}]
    meaning = meanings(names)
    assert meaning[0] == meaning[2] == meaning[3]
    assert len(set(meaning.tolist())) == 3


def test_variation_moves_a_little_and_is_repeatable():
    pixels = np.zeros((3, 16, 16), np.float32)
    pixels[:, 8, 8] = 5.0
    varied = vary(pixels, np.random.default_rng(1))
    row, column = np.unravel_index(varied.sum(0).argmax(), (16, 16))
    assert abs(row - 8) <= 3
    assert abs(column - 8) <= 3
    np.testing.assert_array_equal(varied, vary(pixels, np.random.default_rng(1)))


def test_learns_to_name_and_its_numbers_say_so(items, vocabulary):
    torch.manual_seed(0)
    clip = new_clip(SHAPE, vocabulary)
    before = retrieval(clip, items)
    model = Namer(clip)
    rows = plan_vision(items, VisionConfig(steps=60, batch=12, micro_batch=12), seed=1)
    optimiser = torch.optim.AdamW(model.parameters(), lr=2e-3)
    for first in range(0, len(rows), 12):
        loss = model(**collate_vision([rows[row] for row in range(first, first + 12)]))["loss"]
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    assert before < 0.6 < 0.9 < retrieval(clip, items)
    # The head on the patches of the last layer but one learns too: they are what the language model will read.
    assert model.head.weight.grad.abs().sum() > 0


def test_a_run_has_whole_batches_and_sees_every_picture(items):
    rows = plan_vision(items, VisionConfig(epochs=2, batch=5, micro_batch=5), seed=1)
    assert len(rows) == 25
    assert sorted(rows.order[:12]) == list(range(12))


def test_a_saved_folder_is_a_clip(items, vocabulary, tmp_path):
    from caravan.train.encoders import save_clip

    save_clip(new_clip(SHAPE, vocabulary), vocabulary, tmp_path)
    assert CLIPVisionModel.from_pretrained(tmp_path).config.image_size == 16
    assert list(AutoImageProcessor.from_pretrained(tmp_path, backend="pil").image_mean) == [0.5, 0.5, 0.5]
