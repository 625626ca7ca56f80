"""The parts of the fused model: encoders, projectors, a text backbone, and features in their places."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from transformers import AutoModel, PreTrainedModel
from transformers.cache_utils import Cache
from transformers.modeling_outputs import BaseModelOutputWithPast

from caravan.core.errors import ModelError, PlaceholderError
from caravan.models.bundle import AUTO_MAP, write_code
from caravan.models.config import (
    CaravanConfig,
    input_shape,
    placeholder_of,
    positions_of,
    projector_of,
    reads_decoder,
)
from caravan.models.encoders import hear, new_speech_encoder
from caravan.models.projection import Projector, Sense

# What a batch may hold of media, and the sense that takes it.
MEDIA: dict[str, Sense] = {
    "input_features": "speech",
    "speech_states": "speech",
    "pixel_values": "vision",
    "vision_states": "vision",
}
INPUTS: dict[Sense, str] = {"speech": "input_features", "vision": "pixel_values"}  # of the encoders


class CaravanPreTrainedModel(PreTrainedModel):
    """What both classes of the model tell transformers about themselves."""

    config_class = CaravanConfig
    config: CaravanConfig
    base_model_prefix = "model"
    input_modalities = ["audio", "image", "text"]  # noqa: RUF012
    supports_gradient_checkpointing = True
    _supports_sdpa = True
    _supports_flash_attn = True
    _supports_flex_attn = True
    _supports_attention_backend = True
    _skip_keys_device_placement = ["past_key_values"]  # noqa: RUF012

    @torch.no_grad()
    def _init_weights(self, module: nn.Module) -> None:
        super()._init_weights(module)  # type: ignore[no-untyped-call]
        if isinstance(module, Projector):
            module.initialise()

    def save_pretrained(self, save_directory: str | Path, *args: Any, **kwargs: Any) -> None:  # type: ignore[override]
        """As of any model; with the code that loads it where Caravan is not installed."""
        self.config.auto_map = dict(AUTO_MAP)
        super().save_pretrained(save_directory, *args, **kwargs)
        write_code(save_directory)


class CaravanModel(CaravanPreTrainedModel):
    """Encoders, projectors and the text backbone, without the head."""

    def __init__(self, config: CaravanConfig) -> None:
        super().__init__(config)
        speech: Any = config.speech_config
        self.language_model = AutoModel.from_config(config.text_config)
        self.speech_encoder = new_speech_encoder(speech, reads_decoder(config)) if speech else None
        self.speech_projector = projector_of(config, "speech")
        self.vision_encoder = AutoModel.from_config(config.vision_config) if config.vision_config else None
        self.vision_projector = projector_of(config, "vision")
        self.post_init()  # type: ignore[no-untyped-call]

    def get_input_embeddings(self) -> nn.Module:
        return self.language_model.get_input_embeddings()

    def set_input_embeddings(self, value: nn.Module) -> None:
        self.language_model.set_input_embeddings(value)

    def train(self, mode: bool = True) -> CaravanModel:
        """As of any module, but encoders stay in evaluation: dropout and masks there would only be noise."""
        super().train(mode)
        for encoder in (self.speech_encoder, self.vision_encoder):
            if encoder is not None:
                encoder.train(False)
        return self

    def encode_speech(self, input_features: Tensor) -> Tensor:
        """What the projector takes of the encoder's states [A, P, d]: from what `hear` takes to [A, Q, e]."""
        if self.speech_encoder is None or self.speech_projector is None:
            raise _missing_sense("hear")
        return self.speech_projector.pool(hear(self.speech_encoder, input_features))

    def encode_image(self, pixel_values: Tensor) -> Tensor:
        """What the projector takes of the patches' states at `vision_layer` [I, P, d], the class token left out.

        Raises:
            ModelError: the encoder was wrapped whole, so that transformers does not know it.
        """
        if self.vision_encoder is None or self.vision_projector is None:
            raise _missing_sense("see")
        weight = next(self.vision_encoder.parameters())
        output = self.vision_encoder(pixel_values.to(weight.device, weight.dtype), output_hidden_states=True)
        if output.hidden_states is None:
            raise ModelError(
                "the vision encoder gives no hidden states",
                expected="an encoder of its own class, by whose name transformers records them",
                got=type(self.vision_encoder).__name__,
                fix="let FSDP2 shard the encoder's layers, or the whole model, instead of the encoder as one unit",
            )
        # CLIP's class token comes first, and DINOv2's registers; SigLIP has neither.
        states_IPd = output.hidden_states[self.config.vision_layer][:, -positions_of(self.config, "vision") :]
        return self.vision_projector.pool(states_IPd)

    def project(self, argument: str, media: Tensor) -> Tensor:
        """What the language model gets of media, given as an argument of the forward pass: [N, ...] -> [N, tokens, D].

        Raises:
            ModelError: the model has no such sense.
        """
        if argument == "input_features":
            media = self.encode_speech(media)
        elif argument == "pixel_values":
            media = self.encode_image(media)
        projector = self.speech_projector if MEDIA[argument] == "speech" else self.vision_projector
        if projector is None:
            raise _missing_sense("hear" if MEDIA[argument] == "speech" else "see")
        tokens: Tensor = projector(media.to(next(projector.parameters()).dtype))
        return tokens

    def forward(
        self,
        input_ids: Tensor | None = None,
        position_ids: Tensor | None = None,
        attention_mask: Tensor | None = None,
        input_features: Tensor | None = None,
        pixel_values: Tensor | None = None,
        past_key_values: Cache | None = None,
        inputs_embeds: Tensor | None = None,
        use_cache: bool | None = None,
        speech_states: Tensor | None = None,
        vision_states: Tensor | None = None,
        **kwargs: Any,
    ) -> BaseModelOutputWithPast:
        """Last hidden states [B, T, D]. See `CaravanForConditionalGeneration.forward`."""
        if inputs_embeds is None:
            if input_ids is None:
                raise ModelError("nothing to compute", expected="input_ids or inputs_embeds", got="neither")
            # Past the prompt, a placeholder is only a token that the model happened to say.
            strict = past_key_values is None or past_key_values.get_seq_length() == 0
            inputs_embeds = self.get_input_embeddings()(input_ids)
            media: dict[Sense, tuple[Tensor | None, Tensor | None]] = {
                "speech": (input_features, speech_states),
                "vision": (pixel_values, vision_states),
            }
            for sense, (inputs, states) in media.items():
                inputs_embeds = self._splice(inputs_embeds, input_ids, sense, inputs, states, strict)
        return self.language_model(
            inputs_embeds=inputs_embeds,
            attention_mask=attention_mask,
            position_ids=position_ids,
            past_key_values=past_key_values,
            use_cache=use_cache,
            **kwargs,
        )

    def _splice(
        self,
        embeds_BTD: Tensor,
        input_ids: Tensor,
        sense: Sense,
        inputs: Tensor | None,
        states: Tensor | None,
        strict: bool,
    ) -> Tensor:
        """Put what the projector makes of one sense's media in the places of its placeholder, in order.

        Raises:
            PlaceholderError: there are more or fewer places than features.
        """
        projector = getattr(self, f"{sense}_projector")
        if projector is None:
            if inputs is not None or states is not None:
                raise _missing_sense("hear" if sense == "speech" else "see")
            return embeds_BTD
        if strict and (waiting := self._waiting(sense, inputs, states)):
            embeds_BTD = embeds_BTD + self.touched(sense, waiting).to(embeds_BTD)
        places_BT = input_ids.eq(placeholder_of(self.config, sense))
        places = int(places_BT.sum())
        argument, media = (f"{sense}_states", states) if inputs is None else (INPUTS[sense], inputs)
        if media is None:
            if strict and places:
                raise _mismatch(sense, places, 0)
            return embeds_BTD
        features = self.project(argument, media).to(embeds_BTD)
        if places != features.shape[0] * features.shape[1]:
            raise _mismatch(sense, places, features.shape[0] * features.shape[1])
        return embeds_BTD.masked_scatter(places_BT[..., None], features)

    def _waiting(self, sense: Sense, inputs: Tensor | None, states: Tensor | None) -> list[str]:
        """The parts of a sense that this batch would not run, and that other processes may wait for."""
        idle = [] if inputs is not None else [f"{sense}_encoder"]
        idle += [] if inputs is not None or states is not None else [f"{sense}_projector"]
        return [part for part in idle if waits(getattr(self, part))]

    def touched(self, sense: Sense, parts: Sequence[str]) -> Tensor:
        """Zero, as a scalar that depends on every parameter of these parts.

        A batch without media adds it, so that gradients, and weights that are spread over processes, are gathered for
        the same modules in all of them, and none waits for ever.
        """
        encoder: Any = getattr(self.config, f"{sense}_config")
        projector = getattr(self, f"{sense}_projector")
        weight = next(projector.parameters())
        if f"{sense}_encoder" in parts:
            inputs = torch.ones(1, *input_shape(self.config, sense), device=weight.device)
            states = self.encode_speech(inputs) if sense == "speech" else self.encode_image(inputs)
        else:
            positions = positions_of(self.config, sense)
            states = projector.pool(weight.new_zeros(1, positions, encoder.hidden_size))
        if f"{sense}_projector" in parts:
            states = self.project(f"{sense}_states", states)
        return states.sum() * 0.0


def waits(part: nn.Module) -> bool:
    """Whether processes that train together run a part together, or wait: it learns, or is spread over them.

    FSDP2 keeps a shard of each weight in a DTensor, which has placements; ZeRO-3 marks its own with an id.
    """
    learns = torch.is_grad_enabled() and any(weight.requires_grad for weight in part.parameters())
    return learns or any(hasattr(weight, "placements") or hasattr(weight, "ds_id") for weight in part.parameters())


def _missing_sense(verb: str) -> ModelError:
    return ModelError(
        f"this model does not {verb}",
        expected="text alone",
        got="a clip" if verb == "hear" else "a picture",
        fix="use a model that was composed with that encoder",
    )


def _mismatch(sense: Sense, places: int, features: int) -> PlaceholderError:
    return PlaceholderError(
        f"placeholders and {sense} features do not match",
        expected=f"{places} features for {places} placeholders",
        got=f"{features} features",
        fix="render each medium's placeholder as often as it has tokens (MediaSpec), and pass every medium",
    )
