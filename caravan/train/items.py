"""What encoders learn from: media with their texts, taken once from the sample world or from dialogues."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Literal

import pyarrow as pa

from caravan.core.errors import DataError
from caravan.core.files import atomic_path
from caravan.core.progress import track
from caravan.core.stage import StageContext
from caravan.recipe.train import DialogueSource, SampleSource
from caravan.samples import clips, pictures
from caravan.train.dialogues import dialogues_in

Split = Literal["train", "test"]
Sense = Literal["speech", "vision"]
Item = tuple[bytes, dict[str, str]]

SCHEMA = pa.schema(
    [("media", pa.binary()), ("texts", pa.list_(pa.struct([("language", pa.string()), ("text", pa.string())])))]
)
BATCH = 256


def items(source: SampleSource | DialogueSource, sense: Sense, split: Split, ctx: StageContext) -> Iterator[Item]:
    """Clips with their transcript, or pictures with their names, each in one or more languages."""
    if isinstance(source, DialogueSource):
        return _from_dialogues(source, sense, split, ctx)
    if sense == "speech":
        return ((clip.audio, {clip.language: clip.text}) for clip in clips(source.samples, ctx.seed, split))
    return ((picture.image, picture.names) for picture in pictures(source.samples, ctx.seed, split))


def _from_dialogues(source: DialogueSource, sense: Sense, split: Split, ctx: StageContext) -> Iterator[Item]:
    files = sorted((ctx.need("dialogues").path / split).glob("*.parquet"))
    for _, dialogue in dialogues_in(files, source.tasks):
        media = dialogue.audios if sense == "speech" else dialogue.images
        if len(media) == 1:
            yield media[0].read(), {dialogue.language: dialogue.messages[-1].text}


def stored(
    source: SampleSource | DialogueSource, sense: Sense, split: Split, ctx: StageContext, folder: Path, most: int | None
) -> pa.Table:
    """The items in a memory-mapped table of `media` and `texts`; made once, at most `most` of them.

    Raises:
        DataError: there are none.
    """
    file = folder / f"{sense}-{split}.arrow"
    if not file.exists():
        with (
            atomic_path(file) as temporary,
            pa.ipc.new_file(str(temporary), SCHEMA) as stream,
            track(f"collecting {sense}, {split}", most, unit="item") as bar,
        ):
            for batch in _batches(items(source, sense, split, ctx), most):
                rows = [
                    {"media": media, "texts": [{"language": code, "text": text} for code, text in texts.items()]}
                    for media, texts in batch
                ]
                stream.write_table(pa.Table.from_pylist(rows, schema=SCHEMA))
                bar.advance(len(batch))
    table = pa.ipc.open_file(pa.memory_map(str(file))).read_all()
    if split == "train" and not len(table):
        raise DataError(
            f"nothing to train a {sense} encoder on",
            where="encoders.source",
            expected="clips with transcripts" if sense == "speech" else "pictures with names",
            got=f"none in {source.model_dump(mode='json')}",
            fix=f"give some, or leave it out: encoders.{sense}=null",
        )
    return table


def _batches(found: Iterator[Item], most: int | None) -> Iterator[Sequence[Item]]:
    batch: list[Item] = []
    for number, item in enumerate(found):
        if most is not None and number >= most:
            break
        batch.append(item)
        if len(batch) == BATCH:
            yield batch
            batch = []
    if batch:
        yield batch
