"""From text, clips and pictures to the arguments of a fused model, as transformers' processors do it."""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any
from urllib.request import urlopen

import numpy as np
import numpy.typing as npt
from transformers import BatchFeature, PreTrainedTokenizerBase, ProcessorMixin

from caravan.core.errors import MediaError, PlaceholderError
from caravan.media.audio import SAMPLE_RATE, Wave, as_heard, decode_audio
from caravan.media.features import MediaSpec, picture_features, wave_features
from caravan.media.image import as_seen, decode_image
from caravan.models.bundle import PROCESSOR_MAP, write_code
from caravan.models.config import CaravanConfig, media_spec

SECONDS = 30  # to wait for a file from elsewhere
# Where a part of a message keeps its medium, OpenAI's `input_audio` included; transformers has renamed `image_url`.
SOURCES: Mapping[str, Sequence[str]] = {
    "audio": ("audio", "url", "path", "base64"),
    "input_audio": ("input_audio",),
    "image": ("image", "url", "path", "base64"),
}


class CaravanProcessor(ProcessorMixin):
    """Tokenizer, chat template and media of a fused model.

    Clips are encoded files (bytes, path, `data:` or http address), samples [n] at `sampling_rate`, or a data set's
    `{"array": ..., "sampling_rate": ...}`; pictures are encoded files, PIL images or arrays [H, W, 3] of bytes.

    Args:
        tokenizer: of the model.
        media: values of the model's `MediaSpec`.
        audio_token: the placeholder, one for each clip in a text; None for a model that does not hear.
        image_token: likewise of pictures.
        chat_template: default: the tokenizer's.
    """

    def __init__(
        self,
        tokenizer: PreTrainedTokenizerBase,
        media: Mapping[str, Any],
        audio_token: str | None = None,
        image_token: str | None = None,
        chat_template: str | None = None,
    ) -> None:
        super().__init__(tokenizer, chat_template=chat_template or tokenizer.chat_template)  # type: ignore[no-untyped-call]
        self.spec = MediaSpec(**media)
        self.media = self.spec.to_json()
        self.audio_token, self.image_token = audio_token, image_token
        self.audio_token_id = audio_token and tokenizer.convert_tokens_to_ids(audio_token)
        self.image_token_id = image_token and tokenizer.convert_tokens_to_ids(image_token)
        self.auto_map = dict(PROCESSOR_MAP)

    @classmethod
    def of(cls, config: CaravanConfig, tokenizer: PreTrainedTokenizerBase) -> CaravanProcessor:
        """The processor of a fused model of this config."""
        ids = (config.audio_token_id, config.image_token_id)
        audio, image = (None if token is None else str(tokenizer.convert_ids_to_tokens(token)) for token in ids)
        return cls(tokenizer, media_spec(config), audio, image)

    def __call__(  # type: ignore[override]
        self,
        images: Any = None,
        text: str | Sequence[str] | None = None,
        videos: None = None,
        audio: Any = None,
        *,
        sampling_rate: int = SAMPLE_RATE,
        return_tensors: str | None = None,
        **kwargs: Any,
    ) -> BatchFeature:
        """A batch of texts, with all their clips and pictures in the order of their placeholders.

        Each placeholder in a text is repeated as often as its medium has tokens; a clip of more than 30 s is several
        windows.

        Returns:
            input_ids and attention_mask [B, T]; input_features, the windows of all clips, [A, n_mels, 3000] or
            [A, samples]; pixel_values [I, 3, S, S].

        Raises:
            PlaceholderError: more or fewer placeholders than media.
            MediaError: a medium cannot be decoded, or the model has no sense for it.
        """
        texts = [text] if isinstance(text, str) else list(text or ())
        options = {**kwargs.pop("common_kwargs", {}), **kwargs.pop("text_kwargs", {}), **kwargs}
        rate = int(options.pop("audio_kwargs", {}).get("sampling_rate", sampling_rate))
        tensors = options.pop("return_tensors", return_tensors)
        clips = [wave_features(_wave(clip, rate), self.spec) for clip in _flat(audio)]
        pictures = [picture_features(_picture(picture), self.spec) for picture in _flat(images)]
        _check_counts(texts, self.audio_token, audio, "clip")
        _check_counts(texts, self.image_token, images, "picture")
        per_window, per_picture = self.spec.audio_tokens_per_window, self.spec.image_tokens
        expanded, _ = self.get_text_with_replacements(
            texts,
            images_replacements=[str(self.image_token) * per_picture for _ in pictures],
            audio_replacements=[str(self.audio_token) * per_window * len(windows) for windows in clips],
        )
        options.setdefault("padding", len(texts) > 1)
        batch = dict(self.tokenizer(expanded, **options))
        self._check_special_mm_tokens(expanded, batch, ["audio", "image"])  # type: ignore[arg-type]
        if clips:
            batch["input_features"] = np.concatenate(clips)
        if pictures:
            batch["pixel_values"] = np.stack(pictures)
        return BatchFeature(batch, tensor_type=tensors)

    def save_pretrained(self, save_directory: str | Path, push_to_hub: bool = False, **kwargs: Any) -> Any:
        """As of any processor; with the code that loads it where Caravan is not installed."""
        Path(save_directory).mkdir(parents=True, exist_ok=True)
        write_code(save_directory)
        return super().save_pretrained(str(save_directory), push_to_hub=push_to_hub, **kwargs)

    @property
    def model_input_names(self) -> list[str]:
        return [*self.tokenizer.model_input_names, "input_features", "pixel_values"]

    def _multimodal_inputs_from_conversations(
        self, conversations: Any, *_: Any
    ) -> tuple[Any, Any, Any, dict[str, Any]]:
        """Clips and pictures of conversations, in order, as they are named there."""
        clips: list[Any] = []
        pictures: list[Any] = []
        contents = (message.get("content") for conversation in conversations for message in conversation)
        for part in (part for content in contents if isinstance(content, (list, tuple)) for part in content):
            keys = SOURCES.get(part["type"], ())
            media = pictures if part["type"] == "image" else clips
            media += [part[key] for key in keys if part.get(key) is not None]
        return [pictures], [[] for _ in conversations], clips, {}


def _flat(media: Any) -> list[Any]:
    """A list of media, whether one, a list, or a list for each text was given."""
    if media is None:
        return []
    if not isinstance(media, (list, tuple)) or (media and isinstance(media[0], (int, float))):
        return [media]
    return [item for entry in media for item in (entry if isinstance(entry, (list, tuple)) else [entry])]


def _wave(clip: Any, rate: int) -> Wave:
    """A clip, encoded or as samples, at 16 kHz and its level."""
    if isinstance(clip, Mapping) and "array" in clip:
        clip, rate = clip["array"], int(clip["sampling_rate"])
    if (data := _read(clip)) is not None:
        return decode_audio(data, where=_name(clip))
    samples: npt.NDArray[np.float32] = np.asarray(clip, np.float32)
    if samples.ndim != 1:
        raise MediaError("not a clip", expected="samples of one channel, [n]", got=f"shape {samples.shape}")
    return as_heard(samples, rate)


def _picture(picture: Any) -> Any:
    """A picture, encoded, as pixels or PIL's, in RGB."""
    from PIL import Image

    if (data := _read(picture)) is not None:
        return decode_image(data, where=_name(picture))
    return as_seen(picture if isinstance(picture, Image.Image) else Image.fromarray(np.asarray(picture)))


def _read(source: Any) -> bytes | None:
    """The bytes of an encoded medium, or None if it is none."""
    if isinstance(source, Mapping):  # OpenAI's input_audio, or a row of a data set
        source = next(source[key] for key in ("data", "bytes", "path") if source.get(key) is not None)
    if isinstance(source, (bytes, bytearray)):
        return bytes(source)
    if not isinstance(source, (str, Path)):
        return None
    text = str(source)
    if text.startswith(("http://", "https://")):
        with urlopen(text, timeout=SECONDS) as stream:
            return bytes(stream.read())
    try:
        if text.startswith("data:"):
            return base64.b64decode(text.partition(",")[2], validate=True)
        if len(text) < 4096 and Path(text.removeprefix("file://")).is_file():
            return Path(text.removeprefix("file://")).read_bytes()
        return base64.b64decode(text, validate=True)
    except ValueError as error:
        raise MediaError(
            "a medium cannot be read",
            where=text[:80],
            expected="the path of a file, an http address, or base64",
            got="none of these",
            fix="correct the path",
        ) from error


def _name(source: Any) -> str:
    return str(source) if isinstance(source, (str, Path)) and len(str(source)) < 200 else ""


def _check_counts(texts: Sequence[str], token: str | None, media: Any, what: str) -> None:
    """See that there is a placeholder for each medium, in each text where media are given by text, else in all."""
    places = [text.count(token) if token else 0 for text in texts]
    by_text = isinstance(media, (list, tuple)) and len(media) == len(texts)
    if by_text and all(isinstance(entry, (list, tuple)) for entry in media):
        found = [len(entry) for entry in media]
    else:
        places, found = [sum(places)], [len(_flat(media))]
    for row, (expected, got) in enumerate(zip(places, found, strict=True)):
        if expected != got:
            raise PlaceholderError(
                f"placeholders and {what}s do not match",
                where=f"text {row}" if len(found) > 1 else None,
                expected=f"a {what} for each of {expected} placeholders {token or ''}".rstrip(),
                got=got,
                fix=f"put {token} into the text once for each {what}, or use `apply_chat_template`, which does"
                if token
                else "use a model that was aligned with that encoder",
            )
