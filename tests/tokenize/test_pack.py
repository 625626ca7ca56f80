from __future__ import annotations

from pathlib import Path

import pytest
from tokenizers import Tokenizer

from caravan.core.artifact import Artifact
from caravan.core.errors import ModelError
from caravan.recipe.tokenize import TokenizeConfig
from caravan.text.indexed import IndexedDataset
from caravan.text.tokens import END_OF_TEXT
from caravan.tokenize.corpus import Corpus
from caravan.tokenize.pack import load_fast, pack
from caravan.tokenize.vocabulary import make_tokenizer
from tests.tokenize.conftest import texts, write


@pytest.fixture(scope="module")
def tokenizer(corpus: Artifact, tmp_path_factory: pytest.TempPathFactory) -> Tokenizer:
    folder = tmp_path_factory.mktemp("tokenizer")
    make_tokenizer(TokenizeConfig(vocab_size=600), Corpus(corpus.path, 0.05), None, folder)
    return load_fast(folder)


def decoded(tokenizer: Tokenizer, path: Path) -> list[str]:
    data = IndexedDataset(path)
    return [tokenizer.decode(data[index].tolist(), skip_special_tokens=False) for index in range(len(data))]


def test_documents_end_with_the_end_of_text_and_held_out_ones_stand_apart(
    corpus: Artifact, tokenizer: Tokenizer, tmp_path: Path
) -> None:
    tokens = pack(Corpus(corpus.path, 0.05), tokenizer, END_OF_TEXT, tmp_path)
    documents = [text + END_OF_TEXT for text in texts("zh")]
    held = decoded(tokenizer, tmp_path / "heldout" / "zh")
    assert held == documents[19::20]
    assert decoded(tokenizer, tmp_path / "zh") == [text for text in documents if text not in held]
    assert tokens["zh"] == IndexedDataset(tmp_path / "zh").lengths.sum()
    assert set(tokens) == {"en", "de", "zh", "pair-en-zh"}


def test_parallel_text_alternates_between_its_languages_and_has_no_end(
    corpus: Artifact, tokenizer: Tokenizer, tmp_path: Path
) -> None:
    pack(Corpus(corpus.path, 0.05), tokenizer, END_OF_TEXT, tmp_path)
    sentences = decoded(tokenizer, tmp_path / "pair-en-zh")
    assert sentences[0::2] == texts("en")[:30]
    assert sentences[1::2] == texts("zh")[:30]


def test_special_tokens_that_stand_in_text_are_plain_text(tokenizer: Tokenizer, tmp_path: Path) -> None:
    write(tmp_path / "kept" / "en" / "0.parquet", text=["an <|endoftext|> inside", "and <|user|> too"])
    pack(Corpus(tmp_path, 0.9), tokenizer, END_OF_TEXT, tmp_path / "packed")
    first = IndexedDataset(tmp_path / "packed" / "en")[0].tolist()
    assert first.count(0) == 1
    assert first[-1] == 0


def test_finished_files_are_not_written_again(corpus: Artifact, tokenizer: Tokenizer, tmp_path: Path) -> None:
    before = pack(Corpus(corpus.path, 0.05), tokenizer, END_OF_TEXT, tmp_path)
    (tmp_path / "de.idx").unlink()
    times = {path.name: path.stat().st_mtime_ns for path in tmp_path.glob("*.bin")}
    assert pack(Corpus(corpus.path, 0.05), tokenizer, END_OF_TEXT, tmp_path) == before
    changed = {path.name for path in tmp_path.glob("*.bin") if path.stat().st_mtime_ns != times[path.name]}
    assert changed == {"de.bin"}


def test_a_tokenizer_without_that_end_is_an_error(corpus: Artifact, tokenizer: Tokenizer, tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="not in the vocabulary"):
        pack(Corpus(corpus.path, 0.05), tokenizer, "<|nothing|>", tmp_path)
