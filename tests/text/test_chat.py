from __future__ import annotations

import json
from pathlib import Path

import pytest
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from caravan.core.errors import ModelError, PlaceholderError, TokenizerMismatchError, UnsupervisedError
from caravan.records import AudioPart, Dialogue, ImagePart, Media, Message
from caravan.text.chat import check_vocabulary, encode, load_tokenizer, prompt_text, render
from caravan.text.tokens import AUDIO_PAD, CHAT_TEMPLATE, END, IMAGE_PAD, SPECIAL_TOKENS

CLIP, PICTURE = AudioPart(Media(b"clip")), ImagePart(Media(b"picture"))


@pytest.fixture(scope="module")
def tokenizer() -> PreTrainedTokenizerFast:
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocabulary = {token: index for index, token in enumerate((*SPECIAL_TOKENS, *alphabet))}
    backend = Tokenizer(models.BPE(vocab=vocabulary, merges=[]))
    backend.add_special_tokens(list(SPECIAL_TOKENS))
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = decoders.ByteLevel()
    made = PreTrainedTokenizerFast(tokenizer_object=backend, eos_token=END, pad_token="<|pad|>")
    made.chat_template = CHAT_TEMPLATE
    return made


def dialogue(*messages: Message) -> Dialogue:
    return Dialogue("d7", "en", "chat", messages)


def learnt(tokenizer: PreTrainedTokenizerFast, *messages: Message, audio: tuple[int, ...] = ()) -> str:
    rendered = render(tokenizer, dialogue(*messages), audio_tokens=audio)
    assert len(rendered.ids) == len(rendered.loss_mask)
    return tokenizer.decode([i for i, keep in zip(rendered.ids, rendered.loss_mask, strict=True) if keep])


def test_only_answers_and_their_end_carry_loss(tokenizer: PreTrainedTokenizerFast) -> None:
    turns = (
        Message.of("system", "be brief"),
        Message.of("user", "hi"),
        Message.of("assistant", "hello"),
        Message.of("user", "more"),
        Message.of("assistant", "no"),
    )
    assert learnt(tokenizer, *turns) == f"hello{END}no{END}"


def test_training_and_prompt_agree(tokenizer: PreTrainedTokenizerFast) -> None:
    user = Message.of("user", PICTURE, "what?", CLIP)
    prompt = encode(tokenizer, prompt_text(tokenizer, [user]), [3], [2])
    rendered = render(tokenizer, dialogue(user, Message.of("assistant", "x")), [3], [2])
    assert rendered.ids[: len(prompt)] == prompt
    assert rendered.loss_mask.index(True) == len(prompt)


def test_each_medium_has_its_own_count(tokenizer: PreTrainedTokenizerFast) -> None:
    user = Message.of("user", CLIP, "and", CLIP, PICTURE)
    rendered = render(tokenizer, dialogue(user, Message.of("assistant", "x")), [2, 5], [4])
    audio, image = (tokenizer.convert_tokens_to_ids(pad) for pad in (AUDIO_PAD, IMAGE_PAD))
    assert rendered.ids.count(audio) == 7
    assert rendered.ids.count(image) == 4
    first = rendered.ids.index(audio)
    assert rendered.ids[first : first + 3] == [audio, audio, tokenizer.convert_tokens_to_ids("<|audio_end|>")]


@pytest.mark.parametrize("counts", [[], [1, 1]])
def test_media_and_placeholders_must_match(tokenizer: PreTrainedTokenizerFast, counts: list[int]) -> None:
    turns = (Message.of("user", CLIP), Message.of("assistant", "x"))
    with pytest.raises(PlaceholderError, match="do not match") as caught:
        render(tokenizer, dialogue(*turns), audio_tokens=counts)
    assert caught.value.expected == "1 media"
    assert caught.value.got == str(len(counts))
    assert caught.value.where == "dialogue d7"


@pytest.mark.parametrize("token", [AUDIO_PAD, IMAGE_PAD, END])
def test_text_cannot_smuggle_special_tokens(tokenizer: PreTrainedTokenizerFast, token: str) -> None:
    with pytest.raises(PlaceholderError, match="special token"):
        prompt_text(tokenizer, [Message.of("user", f"look {token}")])
    with pytest.raises(PlaceholderError, match="special token"):
        prompt_text(tokenizer, [Message.of("user", f"look {token[:4]}", token[4:])])
    assert prompt_text(tokenizer, [Message.of("user", token[:4], CLIP, token[4:])])


def test_no_answer_is_an_error_that_names_the_dialogue(tokenizer: PreTrainedTokenizerFast) -> None:
    with pytest.raises(UnsupervisedError, match="d7"):
        render(tokenizer, dialogue(Message.of("user", "hi")))


def test_a_template_that_rewrites_is_refused(tokenizer: PreTrainedTokenizerFast) -> None:
    rewriting = "{% for m in messages %}{{ loop.length }}{{ m['content'][0]['text'] }}{% endfor %}"
    tokenizer.chat_template = rewriting
    try:
        with pytest.raises(ModelError, match="rewrites"):
            render(tokenizer, dialogue(Message.of("user", "hi"), Message.of("assistant", "x")))
    finally:
        tokenizer.chat_template = CHAT_TEMPLATE


def test_tokenizer_and_model_must_match(tokenizer: PreTrainedTokenizerFast) -> None:
    check_vocabulary(tokenizer, len(tokenizer))
    with pytest.raises(TokenizerMismatchError, match="does not match"):
        check_vocabulary(tokenizer, len(tokenizer) - 1)


def test_a_tokenizer_beside_code_is_loaded_without_a_question(
    tokenizer: PreTrainedTokenizerFast, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As in the folder of a fused model, of whose classes nothing was imported yet."""
    tokenizer.save_pretrained(tmp_path)
    config = {"model_type": "unheard_of", "auto_map": {"AutoConfig": "configuration.Config"}}
    (tmp_path / "config.json").write_text(json.dumps(config))
    asked: list[str] = []
    monkeypatch.setattr("builtins.input", lambda question: asked.append(question) or "n")
    assert load_tokenizer(tmp_path).get_vocab() == tokenizer.get_vocab()
    assert not asked
