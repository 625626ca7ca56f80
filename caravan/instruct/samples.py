"""Dialogues of the sample world, its clips as transcriptions and its pictures as captions."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal

from caravan import samples
from caravan.core.stage import StageContext
from caravan.instruct.build import asked, audio, image
from caravan.instruct.rows import Item
from caravan.recipe.instruct import SampleSource

SPLITS: tuple[Literal["train", "test"], ...] = ("train", "test")


def read(source: SampleSource, ctx: StageContext, name: str) -> Iterator[Item]:
    """Everything the sample world gives, the test split with names of what is held out."""
    config = source.samples.model_copy(update={"languages": source.samples.languages or list(ctx.languages)})
    for split in SPLITS:
        for dialogue in samples.dialogues(config, ctx.seed, split):
            yield Item(split, dialogue)
        heldout = split == "test"
        for number, clip in enumerate(samples.clips(config, ctx.seed, split)):
            yield Item(
                split,
                asked(
                    "transcribe",
                    audio(clip.audio, clip.text),
                    clip.text,
                    row=f"{name}:{split}:clip:{number}",
                    language=clip.language,
                    seed=ctx.seed,
                    source=name,
                    group="unseen voice" if heldout else "",
                ),
            )
        for number, picture in enumerate(samples.pictures(config, ctx.seed, split)):
            languages = sorted(set(picture.names) & set(ctx.languages), key=ctx.languages.index)
            # Neighbouring pictures take neighbouring languages in turn: every language gets its share.
            chosen = {languages[(number * source.captions + i) % len(languages)] for i in range(source.captions)}
            for language in sorted(chosen):
                yield Item(
                    split,
                    asked(
                        "caption",
                        image(picture.image, picture.names),
                        picture.names[language],
                        row=f"{name}:{split}:picture:{number}",
                        language=language,
                        seed=ctx.seed,
                        source=name,
                        group=picture.group,
                    ),
                )
