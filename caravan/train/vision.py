"""A small CLIP, trained to tell pictures by their names in many languages; its image tower is the stand-in.

Contrastive as in CLIP (Radford et al. 2021), pictures of one name counted as right for each other. The language model
will read the patches of the last layer but one, so their mean must also tell the words of the picture's names in all
languages at once (a bag of words, as in Joulin et al. 2016): contrast alone learns colours long before shapes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional
from transformers import CLIPConfig, CLIPModel, CLIPTextConfig, CLIPVisionConfig, PreTrainedTokenizerFast

from caravan.media.image import decode_image, prepare_image
from caravan.recipe.train import VisionConfig, VisionShape
from caravan.train.mix import Mixture, hashed
from caravan.train.pack import IGNORED, filled, steps_for
from caravan.train.vocabulary import FILL, START, STOP, encode

MOST_TOKENS = 64
MEAN = STD = (0.5, 0.5, 0.5)
MOST_SHIFT = 3
MOST_NOISE = 0.15
BLURRED = HOLED = 0.3


def new_clip(shape: VisionShape, tokenizer: PreTrainedTokenizerFast) -> CLIPModel:
    """A CLIP from scratch with a vocabulary of its own."""
    known = tokenizer.get_vocab()
    vision = CLIPVisionConfig(
        hidden_size=shape.hidden_size,
        intermediate_size=4 * shape.hidden_size,
        num_hidden_layers=shape.layers,
        num_attention_heads=shape.heads,
        image_size=shape.image_size,
        patch_size=shape.patch_size,
        projection_dim=shape.hidden_size,
    )
    text = CLIPTextConfig(
        vocab_size=len(tokenizer),
        hidden_size=shape.hidden_size,
        intermediate_size=4 * shape.hidden_size,
        num_hidden_layers=shape.text_layers,
        num_attention_heads=shape.heads,
        max_position_embeddings=MOST_TOKENS,
        projection_dim=shape.hidden_size,
        bos_token_id=known[START],
        eos_token_id=known[STOP],
        pad_token_id=known[FILL],
    )
    return CLIPModel(
        CLIPConfig(text_config=text.to_dict(), vision_config=vision.to_dict(), projection_dim=shape.hidden_size)
    )


def meanings(names: Sequence[Mapping[str, str]]) -> NDArray[np.int64]:
    """A number for each picture, the same for pictures that share a name in some language, at first or second hand."""
    parent = list(range(len(names)))

    def root(item: int) -> int:
        while parent[item] != item:
            parent[item] = item = parent[parent[item]]
        return item

    first: dict[tuple[str, str], int] = {}
    for item, texts in enumerate(names):
        for name in texts.items():
            parent[root(item)] = root(first.setdefault(name, item))
    return np.array([root(item) for item in range(len(names))], np.int64)


class VisionItems:
    """Pictures as the encoder takes them, held in memory as float16, and the ids of their names."""

    def __init__(self, table: pa.Table, tokenizer: PreTrainedTokenizerFast, size: int) -> None:
        names: dict[bytes, dict[str, str]] = {}
        for row in range(len(table)):
            texts = {item["language"]: item["text"] for item in table["texts"][row].as_py()}
            names.setdefault(table["media"][row].as_py(), {}).update(texts)
        self.names = list(names.values())
        self.ids = [
            {code: np.array(encode(tokenizer, text, MOST_TOKENS), np.int64) for code, text in texts.items()}
            for texts in self.names
        ]
        pictures = (decode_image(data, where=f"picture {number}") for number, data in enumerate(names))
        self.pixels = [prepare_image(picture, size, MEAN, STD).astype(np.float16) for picture in pictures]
        self.meaning = meanings(self.names)
        self.words = [np.unique(np.concatenate([ids[1:-1] for ids in texts.values()])) for texts in self.ids]

    def __len__(self) -> int:
        return len(self.pixels)


def vary(pixels_CHW: NDArray[np.float32], rng: np.random.Generator) -> NDArray[np.float32]:
    """The picture moved by a few pixels, lighter or darker, sometimes blurred or with holes, with noise.

    Blur and holes take away the texture by which one way of drawing differs from another, and leave the shape.
    """
    shift = tuple(int(step) for step in rng.integers(-MOST_SHIFT, MOST_SHIFT + 1, 2))
    moved = np.pad(pixels_CHW, ((0, 0), (MOST_SHIFT,) * 2, (MOST_SHIFT,) * 2), mode="edge")
    height, width = pixels_CHW.shape[1:]
    top, left = MOST_SHIFT + shift[0], MOST_SHIFT + shift[1]
    lighter, darker = np.float32(rng.uniform(0.9, 1.1)), np.float32(rng.uniform(-0.05, 0.05))
    moved = moved[:, top : top + height, left : left + width] * lighter + darker
    if rng.random() < BLURRED:
        steps = ((0, 0), (0, 1), (1, 0), (1, 1))
        moved = np.mean([np.roll(moved, step, (1, 2)) for step in steps], axis=0, dtype=np.float32)
    if rng.random() < HOLED:
        ground_C11 = np.median(moved, axis=(1, 2), keepdims=True).astype(np.float32)
        moved = np.where(rng.random((height, width), np.float32) < rng.uniform(0.1, 0.5), ground_C11, moved)
    noise = rng.standard_normal(moved.shape, np.float32) * (MOST_NOISE * rng.random())
    return moved + noise.astype(np.float32)


@dataclass(frozen=True)
class VisionRows:
    """Pictures in the order of a run, each with one of its names."""

    items: VisionItems
    order: NDArray[np.int64]
    seed: int

    @property
    def tokens(self) -> NDArray[np.int64]:
        """One for each picture."""
        return np.ones(len(self), np.int64)

    def __len__(self) -> int:
        return len(self.order)

    def __getitem__(self, row: int) -> dict[str, Any]:
        item = int(self.order[row])
        rng = np.random.default_rng(int(hashed(self.seed, 3, row)))
        names = list(self.items.ids[item].values())
        pixels = vary(self.items.pixels[item].astype(np.float32), rng)
        return {
            "pixels": pixels,
            "ids": names[rng.integers(len(names))],
            "words": self.items.words[item],
            "meaning": self.items.meaning[item],
        }


def plan_vision(items: VisionItems, config: VisionConfig, seed: int) -> VisionRows:
    """The order of a run, in whole batches: a contrast needs other pictures beside each."""
    wanted = round(config.epochs * len(items))
    count = config.batch * (config.steps or steps_for(wanted, config.batch))
    _, order = Mixture((len(items),), (1.0,), (1.0,), count, seed=seed).draw(0, count)
    return VisionRows(items, order, seed)


def collate_vision(rows: Sequence[Mapping[str, Any]]) -> dict[str, Tensor]:
    """pixel_values [B, 3, S, S]; input_ids [B, T]; words [B, W], filled with -100; meaning [B]."""
    return {
        "pixel_values": torch.from_numpy(np.stack([row["pixels"] for row in rows])),
        "input_ids": _filled([row["ids"] for row in rows]),
        "words": torch.from_numpy(filled([row["words"] for row in rows])),
        "meaning": torch.tensor([int(row["meaning"]) for row in rows]),
    }


def _filled(ids: Sequence[NDArray[np.int64]]) -> Tensor:
    """[B, T]; what comes after the first stop token does not matter, so the stop is repeated."""
    length = max(map(len, ids))
    return torch.from_numpy(np.stack([np.pad(each, (0, length - len(each)), mode="edge") for each in ids]))


class Namer(nn.Module):
    """CLIP, and a head that tells words from the patches that the language model will read; for training only."""

    def __init__(self, clip: CLIPModel) -> None:
        super().__init__()
        self.clip = clip
        config: Any = clip.config
        self.head = nn.Linear(config.vision_config.hidden_size, config.text_config.vocab_size)
        # So short a sequence is faster without the fused kernel on a CPU: 552 against 327 pictures a second.
        clip.set_attn_implementation("eager" if clip.device.type == "cpu" else "sdpa")

    def forward(self, pixel_values: Tensor, input_ids: Tensor, words: Tensor, meaning: Tensor) -> dict[str, Tensor]:
        """Contrastive loss plus the words' cross-entropy: [B, 3, S, S], [B, T], [B, W], [B]."""
        seen = self.clip.vision_model(pixel_values=pixel_values, output_hidden_states=True)
        text_BD = text_embedding(self.clip, input_ids)
        right_BB = (meaning[:, None] == meaning).float()
        right_BB = right_BB / right_BB.sum(1, keepdim=True)
        image_BD = functional.normalize(self.clip.visual_projection(seen.pooler_output).float(), dim=-1)
        logits_BB = self.clip.logit_scale.exp().clamp(max=100) * image_BD @ text_BD.T
        contrast = functional.cross_entropy(logits_BB, right_BB) + functional.cross_entropy(logits_BB.T, right_BB)
        log_BV = self.head(seen.hidden_states[-2][:, 1:].mean(1)).float().log_softmax(-1)
        told_BW = log_BV.gather(1, words.clamp(min=0)).masked_fill(words == IGNORED, 0.0)
        told = -(told_BW.sum(1) / (words != IGNORED).sum(1)).mean()
        return {"loss": contrast / 2 + told}


def text_embedding(clip: CLIPModel, input_ids: Tensor) -> Tensor:
    """Normalised embeddings [B, D] of names [B, T]."""
    pooled = clip.text_model(input_ids=input_ids).pooler_output
    return functional.normalize(clip.text_projection(pooled).float(), dim=-1)


@torch.no_grad()
def retrieval(clip: CLIPModel, items: VisionItems, batch: int = 64) -> float:
    """Top-1: how often a picture's name is the nearest of all the names that these items have in its language."""
    clip.eval()
    parts = []
    for begin in range(0, len(items), batch):
        pixels = torch.from_numpy(np.stack(items.pixels[begin : begin + batch]).astype(np.float32))
        seen = clip.visual_projection(clip.vision_model(pixel_values=pixels).pooler_output)
        parts.append(functional.normalize(seen.float(), dim=-1))
    image_ND = torch.cat(parts)
    hits = []
    for language in sorted({code for texts in items.names for code in texts}):
        named = [item for item, texts in enumerate(items.names) if language in texts]
        choices = {items.names[item][language]: items.ids[item][language] for item in named}
        text_MD = text_embedding(clip, _filled(list(choices.values())))
        best_N = (image_ND[named] @ text_MD.T).argmax(1).tolist()
        said = list(choices)
        hits += [said[best] == items.names[item][language] for best, item in zip(best_N, named, strict=True)]
    return float(np.mean(hits))
