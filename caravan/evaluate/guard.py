"""The decoding guard: an answer that runs away is ended, and its loop cut down to one unit; others stay as they are."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from transformers import PreTrainedModel, StoppingCriteria, StoppingCriteriaList

from caravan.evaluate.predictions import Answer
from caravan.text.repetition import cut_loop, loop


class LoopGuard(StoppingCriteria):
    """Ends each answer of a batch whose new ids end in a loop."""

    def __init__(self) -> None:
        self.prompt: int | None = None

    def __call__(self, input_ids: Tensor, scores: Any, **kwargs: Any) -> Tensor:
        # Asked first after the first new token of every answer.
        self.prompt = input_ids.shape[1] - 1 if self.prompt is None else self.prompt
        ended = [loop(ids) is not None for ids in input_ids[:, self.prompt :].tolist()]
        return torch.tensor(ended, device=input_ids.device)


class Guarded:
    """A model whose `generate` has the guard; all else is the model's own."""

    def __init__(self, model: PreTrainedModel) -> None:
        self._model: Any = model

    def __getattr__(self, name: str) -> Any:
        return getattr(self._model, name)

    def generate(self, **given: Any) -> Any:
        """As the model's, with LoopGuard among the criteria for its end."""
        return self._model.generate(stopping_criteria=StoppingCriteriaList([LoopGuard()]), **given)


def without_loop(answer: Answer) -> Answer:
    """The same answers, their loops cut down to one unit."""
    return lambda rows: [cut_loop(text).strip() for text in answer(rows)]
