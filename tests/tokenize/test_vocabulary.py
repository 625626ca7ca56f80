from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

from caravan.core.artifact import Artifact
from caravan.core.errors import DataError, ModelError
from caravan.recipe.tokenize import TokenizeConfig
from caravan.records import Message
from caravan.text.chat import load_tokenizer, prompt_text
from caravan.text.tokens import CHAT_TEMPLATE, SPECIAL_TOKENS
from caravan.tokenize.corpus import Corpus
from caravan.tokenize.learn import learn
from caravan.tokenize.sampling import sample, shares
from caravan.tokenize.vocabulary import make_tokenizer, save_learnt

SIZES = st.dictionaries(st.sampled_from(["en", "de", "zh", "th"]), st.integers(1, 10**6), min_size=1)


@settings(max_examples=60, deadline=None, derandomize=True)
@given(SIZES, st.floats(0, 1), st.integers(1, 10**6))
def test_shares_fill_the_budget_in_proportion_to_the_power_of_the_share(
    sizes: dict[str, int], alpha: float, budget: int
) -> None:
    often = shares(sizes, alpha, budget)
    shown = {language: often[language] * sizes[language] for language in sizes}
    total = sum(sizes.values())
    assert sum(shown.values()) == pytest.approx(min(budget, total))
    first, last = min(sizes), max(sizes)
    assert shown[first] / shown[last] == pytest.approx((sizes[first] / sizes[last]) ** alpha)


def lines(corpus: Artifact, alpha: float) -> Counter[str]:
    config = TokenizeConfig(alpha=alpha, vocab_size=600)
    return Counter(line for batch in sample(config, Corpus(corpus.path, 0.01)) for line in batch)


def test_alpha_lifts_small_languages_and_each_line_comes_about_equally_often(corpus: Artifact) -> None:
    as_is, level = lines(corpus, 1.0), lines(corpus, 0.0)
    german = [line for line in as_is if line.startswith("Die")]
    assert set(as_is.values()) <= {1, 2}
    assert sum(level[line] for line in german) > 1.3 * sum(as_is[line] for line in german)
    times = [level[line] for line in german]
    assert max(times) - min(times) <= 1


def test_sampling_is_deterministic(corpus: Artifact) -> None:
    assert lines(corpus, 0.3) == lines(corpus, 0.3)


@pytest.fixture(scope="module")
def learnt(corpus: Artifact) -> Tokenizer:
    return learn(TokenizeConfig(vocab_size=600), Corpus(corpus.path, 0.01))


def test_special_tokens_have_the_first_ids_and_bytes_all_their_own(learnt: Tokenizer) -> None:
    assert [learnt.id_to_token(index) for index in range(len(SPECIAL_TOKENS))] == list(SPECIAL_TOKENS)
    assert set(pre_tokenizers.ByteLevel.alphabet()) <= set(learnt.get_vocab())


def test_a_corpus_that_gives_fewer_tokens_than_asked_is_said(
    corpus: Artifact, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    make_tokenizer(TokenizeConfig(vocab_size=30_000), Corpus(corpus.path, 0.01), None, tmp_path)
    assert "fewer than the 30,000 asked for" in caplog.text


@given(st.text(st.characters(exclude_categories=["Cs"]), max_size=60))
@settings(max_examples=60, deadline=None, derandomize=True)
def test_any_text_comes_back_from_its_ids(learnt: Tokenizer, text: str) -> None:
    learnt.encode_special_tokens = True
    assert learnt.decode(learnt.encode(text).ids, skip_special_tokens=False) == text


def test_digits_stand_alone(learnt: Tokenizer) -> None:
    digits = [token for token in learnt.encode("in 2024, 1234567").tokens if any(map(str.isdigit, token))]
    assert digits == list("20241234567")


def test_the_folder_loads_as_a_hugging_face_tokenizer(learnt: Tokenizer, tmp_path: Path) -> None:
    save_learnt(learnt, tmp_path)
    tokenizer = load_tokenizer(tmp_path)
    assert (tokenizer.bos_token_id, tokenizer.eos_token_id, tokenizer.pad_token_id) == (0, 0, 1)
    assert tokenizer.all_special_ids == list(range(len(SPECIAL_TOKENS)))
    assert prompt_text(tokenizer, [Message.of("user", "hi")]) == "<|user|>hi<|end|><|assistant|>"
    assert tokenizer("<|user|>a", add_special_tokens=False)["input_ids"][0] == SPECIAL_TOKENS.index("<|user|>")


def foreign(folder: Path) -> Path:
    """A tokenizer of another make: own tokens for beginning and end, no padding, no chat template."""
    from transformers import PreTrainedTokenizerFast

    backend = Tokenizer(models.BPE())
    backend.pre_tokenizer = pre_tokenizers.ByteLevel()
    backend.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=280,
        special_tokens=["<s>", "</s>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    backend.train_from_iterator(["the other tokenizer"], trainer)
    PreTrainedTokenizerFast(tokenizer_object=backend, bos_token="<s>", eos_token="</s>").save_pretrained(folder)
    return folder


def test_an_existing_tokenizer_keeps_its_ids_and_gets_what_it_lacks(corpus: Artifact, tmp_path: Path) -> None:
    before = load_tokenizer(foreign(tmp_path / "theirs"))
    out = tmp_path / "out"
    make_tokenizer(TokenizeConfig(), Corpus(corpus.path, 0.01), str(tmp_path / "theirs"), out)
    after = load_tokenizer(out)
    assert {token: after.get_vocab()[token] for token in before.get_vocab()} == before.get_vocab()
    assert set(SPECIAL_TOKENS) <= set(after.all_special_tokens)
    assert (after.bos_token, after.eos_token, after.pad_token) == ("<s>", "</s>", "<|pad|>")
    assert after.chat_template == CHAT_TEMPLATE
    assert len(after) == len(before) + len(SPECIAL_TOKENS)
    assert not (out / "work").exists()


def test_a_tokenizer_that_is_not_there_is_an_error(
    corpus: Artifact, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    with pytest.raises(ModelError, match="no tokenizer can be loaded"):
        make_tokenizer(TokenizeConfig(), Corpus(corpus.path, 0.01), str(tmp_path / "none"), tmp_path / "out")


def test_an_empty_corpus_says_so(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="the corpus is empty"):
        learn(TokenizeConfig(), Corpus(tmp_path, 0.01))
