"""What a fused model is made of."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from transformers import AutoConfig, PreTrainedConfig
from transformers.configuration_utils import SubConfigSpec

from caravan.core.errors import ModelError
from caravan.media.audio import WINDOW_FRAMES
from caravan.models.encoders import WHISPER, speech_positions, wave_samples
from caravan.models.projection import Projector, Sense
from caravan.models.projectors import DECODER64, build_projector


class CaravanConfig(PreTrainedConfig):
    """A text language model with ears, eyes, both or neither.

    Attributes:
        text_config: of any causal language model of transformers.
        speech_config: of Whisper, wav2vec 2.0, HuBERT or WavLM; None for a model that does not hear.
        vision_config: of the vision model of CLIP, SigLIP or DINOv2; None for a model that does not see.
        speech_projector: name and options of a projector, e.g. {"name": "stack", "stack": 10, "hidden": 256}.
        vision_projector: likewise, e.g. {"name": "pixel_shuffle", "scale": 2, "hidden": 256}.
        audio_token_id: the token in whose places speech features go.
        image_token_id: the token in whose places picture features go.
        vision_layer: index into the vision encoder's hidden states; -2 is the last but one, before any last norm.
        image_mean: per channel, subtracted from pixels on the scale 0 to 1.
        image_std: per channel, what is divided by after that.
        image_size: side of the pictures in pixels; None: the vision encoder's own.
        wave_normalised: whether an encoder of waves takes windows of mean 0 and deviation 1.
    """

    model_type = "caravan"
    sub_configs_defaults = {  # noqa: RUF012  (transformers declares it so)
        "text_config": SubConfigSpec(config_class=AutoConfig, model_type="llama"),
        "speech_config": SubConfigSpec(config_class=AutoConfig, model_type="whisper", optional=True),
        "vision_config": SubConfigSpec(config_class=AutoConfig, model_type="clip_vision_model", optional=True),
    }

    text_config: dict[str, Any] | PreTrainedConfig | None = None
    speech_config: dict[str, Any] | PreTrainedConfig | None = None
    vision_config: dict[str, Any] | PreTrainedConfig | None = None
    speech_projector: dict[str, Any] | None = None
    vision_projector: dict[str, Any] | None = None
    audio_token_id: int | None = None
    image_token_id: int | None = None
    vision_layer: int = -2
    image_mean: list[float] | None = None
    image_std: list[float] | None = None
    image_size: int | None = None
    wave_normalised: bool = False
    tie_word_embeddings: bool = False

    def __post_init__(self, **kwargs: Any) -> None:
        super().__post_init__(**kwargs)  # type: ignore[no-untyped-call]
        # The language model alone knows whether its embeddings are tied.
        self.tie_word_embeddings = bool(getattr(self.text_config, "tie_word_embeddings", False))


# What a config says of each sense.
OF_SENSE: Mapping[Sense, Sequence[str]] = {
    "speech": ("speech_config", "speech_projector", "wave_normalised", "audio_token_id"),
    "vision": (
        "vision_config", "vision_projector", "vision_layer", "image_mean", "image_std", "image_size", "image_token_id",
    ),
}  # fmt: skip


def projector_of(config: CaravanConfig, sense: Sense) -> Projector | None:
    """The projector of a sense, newly built, or None if the model lacks the sense.

    Raises:
        ModelError: it does not fit the encoder.
    """
    encoder: Any = config.speech_config if sense == "speech" else config.vision_config
    if encoder is None:
        return None
    options = config.speech_projector if sense == "speech" else config.vision_projector
    text: Any = config.text_config
    projector = build_projector(sense, options or {}, encoder.hidden_size, text.hidden_size)
    if reads_decoder(config) and sense == "speech" and encoder.model_type != WHISPER:
        raise ModelError(
            "this projector does not fit the speech encoder",
            expected=f"{DECODER64} over whisper, which has a decoder",
            got=encoder.model_type,
            fix="choose another speech_projector, or a Whisper",
        )
    projector.tokens(positions_of(config, sense))
    return projector


def reads_decoder(config: CaravanConfig) -> bool:
    """Whether the speech projector takes the states of Whisper's decoder."""
    return (config.speech_projector or {}).get("name") == DECODER64


def placeholder_of(config: CaravanConfig, sense: Sense) -> int:
    """Id of the token in whose places the features of a sense go.

    Raises:
        ModelError: the config names none.
    """
    token = config.audio_token_id if sense == "speech" else config.image_token_id
    if token is None:
        name = "audio_token_id" if sense == "speech" else "image_token_id"
        raise ModelError(f"the model's config lacks {name}", expected="the id of a placeholder token", got="none")
    return token


def positions_of(config: CaravanConfig, sense: Sense) -> int:
    """Positions that the encoder gives to the projector: of a window of 30 s, or the patches of a picture."""
    if sense == "speech":
        return speech_positions(config.speech_config, reads_decoder(config))
    vision: Any = config.vision_config
    return int(_side(config) // vision.patch_size) ** 2


def input_shape(config: CaravanConfig, sense: Sense) -> tuple[int, ...]:
    """Of one input of an encoder: a window of 30 s, or a picture."""
    speech: Any = config.speech_config
    if sense == "vision":
        return (3, _side(config), _side(config))
    samples = wave_samples(speech)
    return (samples,) if samples else (int(speech.num_mel_bins), WINDOW_FRAMES)


def _side(config: CaravanConfig) -> int:
    vision: Any = config.vision_config
    return int(config.image_size or vision.image_size)


def media_spec(config: PreTrainedConfig) -> dict[str, Any]:
    """The plain values of a `MediaSpec` of a model; those of a sense that it lacks are left out.

    Raises:
        ModelError: the config of a fused model is incomplete.
    """
    spec: dict[str, Any] = {}
    if not isinstance(config, CaravanConfig):
        return spec
    speech: Any = config.speech_config
    if (projector := projector_of(config, "speech")) is not None:
        if samples := wave_samples(speech):
            spec |= {"wave_samples": samples, "wave_normalised": config.wave_normalised}
        else:
            spec["n_mels"] = int(speech.num_mel_bins)
        spec["audio_tokens_per_window"] = projector.tokens(positions_of(config, "speech"))
    if (projector := projector_of(config, "vision")) is not None:
        if not config.image_mean or not config.image_std:
            raise ModelError(
                "the model's config lacks the pixels' mean and deviation", expected="image_mean, image_std"
            )
        spec["image_size"] = _side(config)
        spec["image_tokens"] = projector.tokens(positions_of(config, "vision"))
        spec["image_mean"] = [float(value) for value in config.image_mean]
        spec["image_std"] = [float(value) for value in config.image_std]
    return spec
