"""Documents and pairs: pure functions of their number, labelled damage, nothing held out."""

from __future__ import annotations

import itertools
import random
import re

from hypothesis import given, settings
from hypothesis import strategies as st

from caravan import samples
from caravan.recipe.samples import SamplesConfig
from caravan.records import LANGUAGES
from caravan.samples.questions import chat_turn
from caravan.samples.text import document, pair
from caravan.samples.words import words
from caravan.samples.world import COLOURS, COMBINATIONS, NUMBERS


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 10**6), st.integers(0, 5))
def test_a_document_depends_on_its_number_alone(number: int, seed: int) -> None:
    first, second = document(seed, number, LANGUAGES), document(seed, number, LANGUAGES)
    assert first == second
    assert first.text
    assert first.language in LANGUAGES
    assert document(seed + 1, number, LANGUAGES).text != first.text


def test_a_million_documents_stream() -> None:
    stream = samples.documents(SamplesConfig(documents=1_000_000), 0)
    assert len(list(itertools.islice(stream, 50))) == 50


def test_damage_is_labelled_at_the_stated_rates() -> None:
    sources = [doc.source for doc in samples.documents(SamplesConfig(documents=3000), 1)]
    assert 0.07 < sum("junk" in source for source in sources) / 3000 < 0.13
    assert 0.05 < sum("dup" in source for source in sources) / 3000 < 0.11
    assert {source.split("/")[-1] for source in sources} == {
        "clean", "mojibake", "symbols", "repeat", "urls", "language", "short", "exact", "near",
    }  # fmt: skip


def test_an_exact_duplicate_repeats_an_earlier_document() -> None:
    documents = list(samples.documents(SamplesConfig(documents=400, languages=["en"]), 1))
    copies = [doc for doc in documents if doc.source == "samples/dup/exact"]
    # The original may itself have been damaged where it stood; most were not.
    clean = {doc.text for doc in documents if doc.source == "samples/clean"}
    assert copies
    assert sum(copy.text in clean for copy in copies) >= 0.6 * len(copies)


def test_shares_of_languages_are_uneven() -> None:
    languages = [doc.language for doc in samples.documents(SamplesConfig(documents=2000), 2)]
    assert set(languages) == set(LANGUAGES)
    assert languages.count("en") > 5 * languages.count("he")


def test_documents_and_pairs_never_show_what_is_held_out() -> None:
    documents = list(samples.documents(SamplesConfig(documents=2500, languages=["en", "es"]), 3))
    texts = [doc.text for doc in documents]
    texts += [text for row in samples.pairs(SamplesConfig(pairs=1500, languages=["en", "es"]), 3)
              for text in (row.source_text, row.target_text)]  # fmt: skip
    everything = "\n".join(texts).lower()
    for code in ("en", "es"):
        language = words(code)
        assert all(language.objects[combination] not in everything for combination in COMBINATIONS["test"])
        assert any(language.objects[combination] in everything for combination in COMBINATIONS["train"])
        # Any colour stands beside things that are never drawn, those that a shape lacks too.
        assert all(language.objects[colour, "house"] in everything for colour in COLOURS)
        assert all(f" {language.numbers[n]}." not in everything for n in NUMBERS["test"])
        for forms in language.questions.values():
            held_out = re.escape(forms[-1].lower())
            assert not re.search(re.sub(r"\\\{\w+\\\}", ".{1,20}", held_out), everything)


@given(st.integers(0, 10**6))
def test_a_pair_has_two_languages_and_two_texts(number: int) -> None:
    row = pair(0, number, LANGUAGES)
    assert row.source_language != row.target_language
    assert row.source_text
    assert row.target_text
    assert row == pair(0, number, LANGUAGES)


def test_a_pair_says_the_same_twice() -> None:
    rows = samples.pairs(SamplesConfig(pairs=400, languages=["en", "de"]), 0)
    sums = [row for row in rows if row.source_language == "en" and " plus " in row.source_text]
    english, german = words("en"), words("de")
    assert sums
    for row in sums:
        told = row.source_text.lower().rstrip(".").split()
        addends = [english.numbers.index(told[0]), english.numbers.index(told[2])]
        assert [german.numbers.index(word) for word in row.target_text.lower().split()[0:3:2]] == addends


def test_one_language_has_no_pairs() -> None:
    assert list(samples.pairs(SamplesConfig(pairs=10, languages=["en"]), 0)) == []


def test_a_question_is_answered_on_the_next_line_in_the_words_of_chat() -> None:
    rng, english = random.Random(0), words("en")
    answers = {turn.question: turn.answer for turn in (chat_turn(rng, english, "train") for _ in range(5000))}
    found = 0
    for text in (doc.text for doc in samples.documents(SamplesConfig(documents=300, languages=["en"]), 4)):
        lines = text.split("\n")
        for question, answer in itertools.pairwise(lines):
            if question in answers and answer != question and not question.startswith(("Hello", "Hi")):
                found += answer == answers[question]
    assert found > 300
