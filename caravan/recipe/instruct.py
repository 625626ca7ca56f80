"""The instruct stage: where dialogues come from."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Discriminator, Field, NonNegativeInt, PositiveInt, Tag

from caravan.recipe.base import Section
from caravan.recipe.samples import SamplesConfig
from caravan.recipe.speak import SpeakConfig
from caravan.recipe.translate import TranslateConfig
from caravan.records import LANGUAGES


class SampleSource(Section):
    """The sample world: its dialogues, its clips as transcriptions, its pictures as captions."""

    samples: SamplesConfig = Field(description="how much of the sample world")
    captions: PositiveInt = Field(3, description="languages in which each picture gets a caption")


class PictureSource(Section):
    """Pictures joined with their names in many languages: captions, and questions about the picture."""

    pictures: str = Field(description="Parquet or JSONL files with one picture a row")
    image: str = Field(
        "image", description="column of the encoded picture: bytes, a struct of bytes and path, or a path"
    )
    key: str = Field("key", description="column, in both files, that joins pictures and names")
    style: str = Field("style", description="column of the art style")
    names: str = Field(description="Parquet or JSONL file with one row a key")
    name_columns: str = Field("name_{lang}", description="column of the name in each language")
    where: dict[str, list[str]] = Field({}, description="keep only names whose column has one of these values")
    keys: PositiveInt | None = Field(None, description="keep only this many keys, those drawn in most styles first")
    heldout: dict[str, list[str]] = Field(
        {}, description="values of picture columns kept out of training, for the test"
    )
    captions: NonNegativeInt = Field(2, description="languages in which each picture gets a caption")
    questions: NonNegativeInt = Field(2, description="languages in which each picture gets a question")


class SpeechSource(Section):
    """Recordings with transcripts: transcriptions, and spoken turns with a question about what is heard."""

    speech: str = Field(description="Parquet or JSONL files with one recording a row")
    audio: str = Field("audio", description="column of the encoded clip: bytes, a struct of bytes and path, or a path")
    text: str = Field("text", description="column of the transcript")
    language: str = Field("lang", description="column of the language, or a code such as `en` for all rows")
    tasks: list[Literal["transcribe", "speech"]] = Field(
        ["transcribe", "speech"], min_length=1, description="what each clip is used for"
    )
    heldout: dict[str, list[str]] = Field({}, description="values of columns kept out of training, such as a speaker")
    test_share: float = Field(0.0, ge=0, lt=1, description="share of the distinct transcripts kept out of training")
    limit: PositiveInt | None = Field(None, description="at most this many clips, in the order of the files")


class SpokenPictureSource(Section):
    """A spoken word beside a picture of what some word names: is it the same? Answered yes or no."""

    spoken_pictures: str = Field(description="Parquet or JSONL files with one recording a row")
    audio: str = Field("audio", description="column of the encoded clip")
    word: str = Field("text", description="column of the spoken word")
    language: str = Field("lang", description="column of the language, or a code such as `en` for all rows")
    pictures: str = Field(description="Parquet or JSONL files with one picture a row")
    image: str = Field("image", description="column of the encoded picture")
    label: str = Field("label", description="column of what the picture shows")
    words: dict[str, str] = Field(min_length=2, description="spoken word to label of pictures: {zero: '0'}")
    questions: list[str] = Field(
        ["Is this the number that you hear?"], min_length=1, description="the question, as text"
    )
    same: str = Field("yes", description="the answer when word and picture agree")
    different: str = Field("no", description="the answer when they differ")
    heldout: dict[str, list[str]] = Field({}, description="values of columns of the recordings kept out of training")
    picture_share: float = Field(0.1, gt=0, lt=1, description="share of the pictures kept for the test")


DataFormat = Literal[
    "auto", "dialogues", "openai", "llasm", "llava", "sharegpt", "alpaca", "aishell", "magicdata", "primewords",
    "common-voice", "librispeech", "webdataset", "audiofolder", "imagefolder", "table",
]  # fmt: skip
Column = Literal["messages", "audio", "image", "text", "translation"]


class DataSource(Section):
    """Conversations, transcribed clips and captioned pictures in the field's formats; media stay where they are."""

    path: str = Field(
        description="a file, a folder, or a glob of them: JSON, JSONL, Parquet, CSV, TSV, also packed; tar"
    )
    format: DataFormat = Field("auto", description="what is in it; auto: by the names of folders, files and columns")
    media: str | None = Field(None, description="folder of the media; default: the folder of the file that names them")
    language: str | None = Field(
        None,
        description="a code such as `en` for all rows, a column, or `detect`: by the text. "
        "Default: the column lang, language or locale; corpora know theirs",
    )
    columns: dict[Column, str] = Field({}, description="columns that have other names than the usual: {text: sentence}")
    audio_marker: str = Field("<audio>", min_length=1, description="what stands in the text for a clip")
    image_marker: str = Field("<image>", min_length=1, description="what stands in the text for a picture")
    heard: list[Literal["transcribe", "speech"]] = Field(
        ["transcribe"], min_length=1, description="what is asked of a clip that has a transcript"
    )
    translated: str | None = Field(
        None,
        pattern=f"^({'|'.join(LANGUAGES)})$",
        description="language of clips' translations, in the column `translation` as in CoVoST: asked of each clip too",
    )
    seen: list[Literal["caption", "picture"]] = Field(
        ["caption"], min_length=1, description="what is asked of a picture that has a caption"
    )
    decode: bool = Field(True, description="decode every medium once to its end; false: look at its header alone")
    translate: TranslateConfig | None = Field(None, description="add translations; what has clips stays as it is")
    speak: SpeakConfig | None = Field(None, description="have the turns of the user spoken")
    max_characters: PositiveInt = Field(2_000, description="longer conversations are left out")
    max_messages: PositiveInt = Field(16, description="conversations of more turns are left out")
    limit: PositiveInt | None = Field(None, description="at most this many rows of each language")
    heldout: dict[str, list[str]] = Field({}, description="values of columns kept out of training, such as a speaker")
    test_share: float = Field(
        0.01, ge=0, lt=1, description="share of the distinct first questions, or texts, kept for the test"
    )


Source = SampleSource | PictureSource | SpeechSource | SpokenPictureSource | DataSource
# A source is known by its first key; `spoken_pictures` also has a key `pictures`, so it is asked for first.
MARKS = {
    "samples": "SampleSource",
    "spoken_pictures": "SpokenPictureSource",
    "pictures": "PictureSource",
    "speech": "SpeechSource",
    "path": "DataSource",
}


def _mark(value: Any) -> str | None:
    if isinstance(value, dict):
        return next((name for key, name in MARKS.items() if key in value), None)
    return type(value).__name__


AnySource = Annotated[
    Annotated[SampleSource, Tag("SampleSource")]
    | Annotated[PictureSource, Tag("PictureSource")]
    | Annotated[SpeechSource, Tag("SpeechSource")]
    | Annotated[SpokenPictureSource, Tag("SpokenPictureSource")]
    | Annotated[DataSource, Tag("DataSource")],
    Discriminator(
        _mark,
        custom_error_type="source",
        custom_error_message=f"a source with one of the keys {', '.join(MARKS)}",
    ),
]


class InstructConfig(Section):
    """Instruction sets, speech and pictures to dialogues."""

    sources: list[AnySource] = Field(
        [SampleSource(samples=SamplesConfig())], min_length=1, description="where the dialogues come from"
    )
    broken: Literal["set aside", "stop"] = Field(
        "set aside", description="rows that cannot be used: listed in broken.json, or the run stops at the first"
    )
    shard_rows: PositiveInt = Field(2_000, description="dialogues in a file")
