"""The small byte-level vocabularies that the encoders' text sides have of their own."""

from __future__ import annotations

from collections.abc import Iterable

from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast

START, STOP, FILL = "<|start|>", "<|stop|>", "<|fill|>"


def learn_vocabulary(texts: Iterable[str], size: int) -> PreTrainedTokenizerFast:
    """A byte-level BPE of at most `size` entries; any text can be said in it."""
    raw = Tokenizer(models.BPE())
    raw.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    raw.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=size,
        special_tokens=[FILL, START, STOP],
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    raw.train_from_iterator(texts, trainer)
    return PreTrainedTokenizerFast(tokenizer_object=raw, pad_token=FILL, bos_token=START, eos_token=STOP)


def encode(tokenizer: PreTrainedTokenizerFast, text: str, most: int) -> list[int]:
    """Ids of a text between start and stop, at most `most` of them."""
    ids = tokenizer(text, add_special_tokens=False)["input_ids"]
    return [int(tokenizer.bos_token_id), *ids[: most - 2], int(tokenizer.eos_token_id)]
