"""The stage `encoders`: small stand-ins for Whisper and CLIP, trained and saved as Hugging Face folders."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, cast

import pyarrow as pa
import torch
from transformers import (
    CLIPImageProcessorPil,
    CLIPModel,
    PreTrainedTokenizerFast,
    WhisperFeatureExtractor,
    WhisperForConditionalGeneration,
)

from caravan.core.stage import StageContext
from caravan.models.load import load_whole
from caravan.recipe.train import EncodersConfig, SpeechConfig, VisionConfig
from caravan.samples import SHIPPED, sample_encoder
from caravan.train.finish import once
from caravan.train.items import stored
from caravan.train.loop import Task, fit, full_disk_while_saving
from caravan.train.speech import POOLED, SpeechItems, Transcriber, collate_speech, error_rate, new_whisper, plan_speech
from caravan.train.vision import MEAN, STD, Namer, VisionItems, collate_vision, new_clip, plan_vision, retrieval
from caravan.train.vocabulary import learn_vocabulary

MOST_HELD_OUT = 320


def run(config: EncodersConfig, ctx: StageContext) -> dict[str, Any]:
    """Train the encoders that the recipe asks for, one after the other, each in its folder."""
    counts: dict[str, Any] = {}
    if (speech := config.speech) is not None:
        out = ctx.out / "speech"
        counts["speech"] = once(out, lambda work: _train_speech(speech, config, ctx, out, work))
    if (vision := config.vision) is not None:
        folder = ctx.out / "vision"
        counts["vision"] = once(folder, lambda work: _train_vision(vision, config, ctx, folder, work))
    return counts


def _train_speech(
    part: SpeechConfig, config: EncodersConfig, ctx: StageContext, out: Path, work: Path
) -> dict[str, Any]:
    train = stored(config.source, "speech", "train", ctx, work, None)
    test = stored(config.source, "speech", "test", ctx, work, MOST_HELD_OUT)
    torch.manual_seed(ctx.seed)
    whisper, tokenizer = _speech_start(part, train)
    lexicon = learn_vocabulary(_texts(train), part.words)
    rows = plan_speech(SpeechItems(train, tokenizer, lexicon), part, ctx.seed)
    model = Transcriber(whisper, part.ctc, len(lexicon))
    # Whisper's position table of the encoder is sinusoids, and stays.
    named = [name for name, _ in model.named_parameters() if "encoder.embed_positions" not in name]
    task = Task("speech encoder", dict.fromkeys(named, part.learning_rate), {})
    counts = fit(model, rows, collate_speech, part, task, out, ctx.seed)
    whisper.cpu()
    held_out = SpeechItems(test, tokenizer, lexicon)
    rates = {
        f"held-out character error rate, means of {pooled}": round(error_rate(whisper, tokenizer, held_out, pooled), 4)
        for pooled in (POOLED if len(held_out) else ())
    }
    save_whisper(whisper, tokenizer, out)
    return {**counts, "clips": len(train), "held-out clips": len(held_out), **rates}


def _train_vision(
    part: VisionConfig, config: EncodersConfig, ctx: StageContext, out: Path, work: Path
) -> dict[str, Any]:
    train = stored(config.source, "vision", "train", ctx, work, None)
    test = stored(config.source, "vision", "test", ctx, work, MOST_HELD_OUT)
    torch.manual_seed(ctx.seed)
    clip, tokenizer = _vision_start(part, train)
    vision: Any = clip.config.vision_config
    size = int(vision.image_size)
    rows = plan_vision(VisionItems(train, tokenizer, size), part, ctx.seed)
    model = Namer(clip)
    task = Task("vision encoder", {name: part.learning_rate for name, _ in model.named_parameters()}, {})
    counts = fit(model, rows, collate_vision, part, task, out, ctx.seed)
    clip.cpu()
    held_out = VisionItems(test, tokenizer, size)
    top1 = round(retrieval(clip, held_out), 4) if len(held_out) else None
    save_clip(clip, tokenizer, out)
    return {**counts, "pictures": len(train), "held-out pictures": len(held_out), "held-out top-1": top1}


def _speech_start(
    part: SpeechConfig, table: pa.Table
) -> tuple[WhisperForConditionalGeneration, PreTrainedTokenizerFast]:
    """A new Whisper with a vocabulary of the transcripts, or the one to continue."""
    if part.from_ is None:
        tokenizer = learn_vocabulary(_texts(table), part.model.vocabulary)
        return new_whisper(part.model, tokenizer), tokenizer
    folder = _folder(part.from_)
    return load_whole(WhisperForConditionalGeneration.from_pretrained, folder), _tokenizer(folder)


def _vision_start(part: VisionConfig, table: pa.Table) -> tuple[CLIPModel, PreTrainedTokenizerFast]:
    """A new CLIP with a vocabulary of the names, or the one to continue."""
    if part.from_ is None:
        tokenizer = learn_vocabulary(_texts(table), part.model.vocabulary)
        return new_clip(part.model, tokenizer), tokenizer
    folder = _folder(part.from_)
    return load_whole(CLIPModel.from_pretrained, folder), _tokenizer(folder)


def _texts(table: pa.Table) -> Iterator[str]:
    return (item["text"] for texts in table["texts"] for item in texts.as_py())


def _tokenizer(folder: str) -> PreTrainedTokenizerFast:
    return cast(PreTrainedTokenizerFast, PreTrainedTokenizerFast.from_pretrained(folder))


def _folder(name: str) -> str:
    return str(sample_encoder(SHIPPED[name])) if name in SHIPPED else name


def save_whisper(whisper: WhisperForConditionalGeneration, tokenizer: PreTrainedTokenizerFast, out: Path) -> None:
    """A folder as of any Whisper; weights as float16, half the size."""
    with full_disk_while_saving(out):
        whisper.half().save_pretrained(out)
        tokenizer.save_pretrained(out)
        WhisperFeatureExtractor().save_pretrained(out)


def save_clip(clip: CLIPModel, tokenizer: PreTrainedTokenizerFast, out: Path) -> None:
    """A folder as of any CLIP; weights as float16, half the size."""
    vision: Any = clip.config.vision_config
    side = {"height": vision.image_size, "width": vision.image_size}
    with full_disk_while_saving(out):
        clip.half().save_pretrained(out)
        tokenizer.save_pretrained(out)
        CLIPImageProcessorPil(size=side, do_center_crop=False, image_mean=MEAN, image_std=STD).save_pretrained(out)
