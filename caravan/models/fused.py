"""The fused model as a Hugging Face model: the parts, a head beside them, loss and generation.

LLaVA-shaped: `model` holds the parts, `lm_head` stands beside it, so that saving, tying, generation, PEFT, TRL and
sharding treat it as any other model of transformers.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional
from transformers import GenerationMixin
from transformers.cache_utils import Cache
from transformers.modeling_outputs import CausalLMOutputWithPast
from transformers.modeling_utils import slice_logits_to_keep

from caravan.models.backbone import MEDIA, CaravanModel, CaravanPreTrainedModel
from caravan.models.config import CaravanConfig, placeholder_of

IGNORED = -100  # transformers' label of what is not learnt


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
