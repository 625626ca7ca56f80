"""Rows for the tokens that a model's tokenizer has got, before anything is trained."""

from __future__ import annotations

from pathlib import Path

from huggingface_hub import snapshot_download
from tokenizers import Tokenizer
from transformers import AutoModelForCausalLM, PreTrainedTokenizerBase

from caravan.models.grow import CONFIG, NewRows, grow
from caravan.models.load import load_whole
from caravan.text.chat import complete, load_tokenizer


def pieces_of(tokenizer: PreTrainedTokenizerBase, own: PreTrainedTokenizerBase) -> dict[int, list[int]]:
    """Ids of the old tokens as which each new one was read."""
    backend: Tokenizer = own.backend_tokenizer
    backend.encode_special_tokens = True
    old, special = own.get_vocab(), tokenizer.get_added_vocab()
    pieces = {}
    for token, index in tokenizer.get_vocab().items():
        if token in special and token not in old:
            pieces[index] = list(backend.encode(token, add_special_tokens=False).ids)
        elif token not in old:
            pieces[index] = [part.id for part in backend.model.tokenize(token)]
    return pieces


def grown(name: str, work: Path, rows: int, new: NewRows) -> str:
    """The folder of the model with rows for new tokens; made once, whatever comes between."""
    out = work / "grown"
    if not (out / CONFIG).is_file():
        source = Path(name) if Path(name).is_dir() else Path(snapshot_download(name))
        if not any(source.glob("*.safetensors")):
            load_whole(AutoModelForCausalLM.from_pretrained, name).save_pretrained(work / "converted")
            source = work / "converted"
        grow(source, out, rows, new)
    return str(out)


def made_to_chat(name: str, work: Path) -> tuple[str, PreTrainedTokenizerBase]:
    """A model from elsewhere with the special tokens and the chat template that it lacks, and its tokenizer.

    Rows of new tokens start at the mean of the old ones, as LLaSM's do.
    """
    own, tokenizer = load_tokenizer(name), load_tokenizer(name)
    complete(tokenizer)
    old, ids = own.get_vocab(), tokenizer.get_vocab()
    pieces: dict[int, list[int]] = {index: [] for token, index in ids.items() if token not in old}
    if pieces:
        name = grown(name, work, max(pieces) + 1, NewRows(pieces, max(old.values()) + 1, start="mean"))
    return name, tokenizer
