"""The fused model as a Hugging Face model: encoders, projectors, a text backbone, and features in their places.

LLaVA-shaped: `model` holds the parts, `lm_head` stands beside it, so that saving, tying, generation, PEFT, TRL and
sharding treat it as any other model of transformers.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional
from transformers import AutoModel, GenerationMixin, PreTrainedModel
from transformers.cache_utils import Cache
from transformers.modeling_outputs import BaseModelOutputWithPast, CausalLMOutputWithPast
from transformers.modeling_utils import slice_logits_to_keep

from caravan.core.errors import ModelError, PlaceholderError
from caravan.models.bundle import AUTO_MAP, write_code
from caravan.models.config import CaravanConfig, placeholder_of, positions_of, projector_of, reads_decoder
from caravan.models.encoders import hear, new_speech_encoder
from caravan.models.projection import Projector, Sense, touch

IGNORED = -100  # transformers' label of what is not learnt

# What a batch may hold of media, and the sense that takes it.
MEDIA: dict[str, Sense] = {
    "input_features": "speech",
    "speech_states": "speech",
    "pixel_values": "vision",
    "vision_states": "vision",
}


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
        """As of any module, but frozen encoders stay in evaluation: dropout there would only be noise."""
        super().train(mode)
        for encoder in (self.speech_encoder, self.vision_encoder):
            if encoder is not None and not any(parameter.requires_grad for parameter in encoder.parameters()):
                encoder.train(False)
        return self

    def encode_speech(self, input_features: Tensor) -> Tensor:
        """What the projector takes of the encoder's states [A, P, d]: from what `hear` takes to [A, Q, e]."""
        if self.speech_encoder is None or self.speech_projector is None:
            raise _missing_sense("hear")
        return self.speech_projector.pool(hear(self.speech_encoder, input_features))

    def encode_image(self, pixel_values: Tensor) -> Tensor:
        """What the projector takes of the patches' states at `vision_layer` [I, P, d], the class token left out."""
        if self.vision_encoder is None or self.vision_projector is None:
            raise _missing_sense("see")
        weight = next(self.vision_encoder.parameters())
        output = self.vision_encoder(pixel_values.to(weight.device, weight.dtype), output_hidden_states=True)
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
            if input_features is not None:
                speech_states = self.encode_speech(input_features)
            if pixel_values is not None:
                vision_states = self.encode_image(pixel_values)
            # Past the prompt, a placeholder is only a token that the model happened to say.
            strict = past_key_values is None or past_key_values.get_seq_length() == 0
            inputs_embeds = self.get_input_embeddings()(input_ids)
            inputs_embeds = self._splice(inputs_embeds, input_ids, "speech", speech_states, strict)
            inputs_embeds = self._splice(inputs_embeds, input_ids, "vision", vision_states, strict)
        return self.language_model(
            inputs_embeds=inputs_embeds,
            attention_mask=attention_mask,
            position_ids=position_ids,
            past_key_values=past_key_values,
            use_cache=use_cache,
            **kwargs,
        )

    def _splice(
        self, embeds_BTD: Tensor, input_ids: Tensor, sense: Sense, states: Tensor | None, strict: bool
    ) -> Tensor:
        """Put the projected states of one sense in the places of its placeholder, in order.

        Raises:
            PlaceholderError: there are more or fewer places than features.
        """
        projector = self.speech_projector if sense == "speech" else self.vision_projector
        if projector is None:
            if states is not None:
                raise _missing_sense("hear" if sense == "speech" else "see")
            return embeds_BTD
        places_BT = input_ids.eq(placeholder_of(self.config, sense))
        places = int(places_BT.sum())
        if states is None:
            if strict and places:
                raise _mismatch(sense, places, 0)
            return embeds_BTD + self._touched(sense, projector).to(embeds_BTD) if _trains(projector) else embeds_BTD
        features = self.project(f"{sense}_states", states).to(embeds_BTD)
        if places != features.shape[0] * features.shape[1]:
            raise _mismatch(sense, places, features.shape[0] * features.shape[1])
        return embeds_BTD.masked_scatter(places_BT[..., None], features)

    def _touched(self, sense: Sense, projector: Projector) -> Tensor:
        encoder: Any = self.config.speech_config if sense == "speech" else self.config.vision_config
        return touch(projector, positions_of(self.config, sense), encoder.hidden_size)


class CaravanForConditionalGeneration(CaravanPreTrainedModel, GenerationMixin):
    """The fused model with its head."""

    accepts_loss_kwargs = True

    def __init__(self, config: CaravanConfig) -> None:
        super().__init__(config)
        text: Any = config.text_config
        self.model = CaravanModel(config)
        embeddings = self.model.get_input_embeddings()
        name = next(name for name, module in self.model.named_modules() if module is embeddings)
        self._tied_weights_keys = {"lm_head.weight": f"model.{name}.weight"}
        self.lm_head = nn.Linear(text.hidden_size, text.vocab_size, bias=False)
        self.post_init()  # type: ignore[no-untyped-call]

    def get_input_embeddings(self) -> nn.Module:
        return self.model.get_input_embeddings()

    def set_input_embeddings(self, value: nn.Module) -> None:
        self.model.set_input_embeddings(value)

    def get_output_embeddings(self) -> nn.Module:
        return self.lm_head

    def forward(
        self,
        input_ids: Tensor | None = None,
        position_ids: Tensor | None = None,
        attention_mask: Tensor | None = None,
        input_features: Tensor | None = None,
        pixel_values: Tensor | None = None,
        labels: Tensor | None = None,
        use_cache: bool | None = None,
        past_key_values: Cache | None = None,
        inputs_embeds: Tensor | None = None,
        logits_to_keep: int | Tensor = 0,
        speech_states: Tensor | None = None,
        vision_states: Tensor | None = None,
        **kwargs: Any,
    ) -> CausalLMOutputWithPast:
        """Logits [B, T, vocabulary], and the loss if there are labels; in training with labels the loss alone.

        Packed documents: pass `position_ids` that start again from 0 with each document, and neither attention mask
        nor cache; transformers then masks documents from each other (an attention mask switches that off silently).
        With labels, `use_cache` is False unless it is asked for.

        Args:
            input_ids: [B, T]; every audio and image placeholder token stands for one feature.
            position_ids: [B, T].
            attention_mask: [B, T], ones where there are tokens; for padding only.
            input_features: log-mel windows [A, n_mels, 3000] of all clips, or for an encoder of waves their samples
                [A, N], in the order of their placeholders.
            pixel_values: [I, 3, S, S] of all pictures, in the order of their placeholders.
            labels: [B, T], the ids to predict, not shifted; -100 where nothing is learnt.
            speech_states: from `model.encode_speech`, instead of input_features (encoders are frozen while projectors
                train, so that states can be kept).
            vision_states: from `model.encode_image`, instead of pixel_values.

        Raises:
            PlaceholderError: placeholders and features differ in number.
            ModelError: media are passed to a model without that sense.
        """
        if use_cache is None and labels is not None:
            use_cache = False
        output = self.model(
            input_ids=input_ids,
            position_ids=position_ids,
            attention_mask=attention_mask,
            input_features=input_features,
            pixel_values=pixel_values,
            past_key_values=past_key_values,
            inputs_embeds=inputs_embeds,
            use_cache=use_cache,
            speech_states=speech_states,
            vision_states=vision_states,
            **kwargs,
        )
        hidden_BTD = output.last_hidden_state
        logits = loss = None
        if labels is not None and self.training:
            loss = self._learnt_loss(hidden_BTD, labels, **kwargs)
        else:
            logits = self.lm_head(slice_logits_to_keep(hidden_BTD, logits_to_keep))
            if labels is not None:
                loss = self.loss_function(logits=logits, labels=labels, vocab_size=logits.shape[-1], **kwargs)
        return CausalLMOutputWithPast(
            loss=loss,
            logits=logits,
            past_key_values=output.past_key_values,
            hidden_states=output.hidden_states,
            attentions=output.attentions,
        )

    def _learnt_loss(self, hidden_BTD: Tensor, labels_BT: Tensor, **kwargs: Any) -> Tensor:
        """The loss from the positions alone that predict a learnt token: most of a dialogue is question and media."""
        next_BT = functional.pad(labels_BT, (0, 1), value=IGNORED)[:, 1:]
        learnt_BT = next_BT != IGNORED
        if not learnt_BT.any():
            return hidden_BTD.sum() * 0.0
        logits_NV = self.lm_head(hidden_BTD[learnt_BT])
        return self.loss_function(
            logits=logits_NV, labels=None, shift_labels=next_BT[learnt_BT], vocab_size=logits_NV.shape[-1], **kwargs
        )

    def prepare_inputs_for_generation(  # type: ignore[override]
        self,
        input_ids: Any,
        past_key_values: Cache | None = None,
        inputs_embeds: Any = None,
        input_features: Tensor | None = None,
        pixel_values: Tensor | None = None,
        speech_states: Tensor | None = None,
        vision_states: Tensor | None = None,
        is_first_iteration: bool | None = False,
        **kwargs: Any,
    ) -> dict[str, Any]:
        """Media go in with the prompt, and again at every step only if there is no cache."""
        inputs: dict[str, Any] = super().prepare_inputs_for_generation(  # type: ignore[misc]
            input_ids,
            past_key_values=past_key_values,
            inputs_embeds=inputs_embeds,
            is_first_iteration=is_first_iteration,
            **kwargs,
        )
        if is_first_iteration or not kwargs.get("use_cache", True):
            media = {
                "input_features": input_features,
                "pixel_values": pixel_values,
                "speech_states": speech_states,
                "vision_states": vision_states,
            }
            inputs.update(media)
        return inputs

    def _expand_inputs_for_generation(
        self, expand_size: int = 1, is_encoder_decoder: bool = False, input_ids: Any = None, **kwargs: Any
    ) -> tuple[Any, dict[str, Any]]:
        """Several answers to a prompt: all media of a row are repeated together, where transformers would repeat
        each medium by itself and so change their order."""
        media = {name: kwargs.pop(name) for name in MEDIA if kwargs.get(name) is not None}
        if expand_size > 1:
            for name, value in media.items():
                places_B = input_ids.eq(placeholder_of(self.config, MEDIA[name])).sum(dim=1)
                tokens = max(int(places_B.sum()) // len(value), 1)
                rows = value.split((places_B // tokens).tolist())
                media[name] = torch.cat([row for row in rows for _ in range(expand_size)])
        expand: Any = super()._expand_inputs_for_generation  # type: ignore[misc]
        input_ids, kwargs = expand(expand_size, is_encoder_decoder, input_ids, **kwargs)
        return input_ids, kwargs | media


def _trains(projector: Projector) -> bool:
    return torch.is_grad_enabled() and any(parameter.requires_grad for parameter in projector.parameters())


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
