from __future__ import annotations

import pytest

from caravan.instruct.speakable import uninformative, unspeakable
from caravan.records import LANGUAGES

QUESTIONS = {
    "zh": "你能告诉我怎么做一份番茄炒蛋吗？", "en": "What's the best way to learn to swim - as an adult?",
    "ru": "Как лучше всего научиться плавать?", "es": "¿Cómo puedo aprender a nadar?", "fr": "Où est l'école ?",
    "pt": "Você pode me explicar a fotossíntese?", "de": "Wie groß ist der Mond?", "it": "Perché il cielo è blu?",
    "nl": "Hoe laat is het in Tokio?", "pl": "Dlaczego niebo jest niebieskie?", "ar": "كيف أتعلم السباحة؟",
    "tr": "Gökyüzü neden mavi?", "he": "איך לומדים לשחות?", "ja": "泳ぎ方を教えてください。",
    "ko": "수영을 어떻게 배우나요?",
    "th": "ทำไมท้องฟ้าถึงเป็นสีฟ้า", "vi": "Tại sao bầu trời lại xanh?", "id": "Mengapa langit berwarna biru?",
}  # fmt: skip


@pytest.mark.parametrize("language", LANGUAGES)
def test_a_plain_question_can_be_said_in_every_language(language: str) -> None:
    assert unspeakable(QUESTIONS[language], language, 400) is None


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("Fix this:\n```python\nprint(1)\n```", "code"),
        ("What does def f(x): return x + 1 mean?\ndef f(x): return x", "code"),
        ("Explain <div class='a'>hello</div> to me", "code"),
        ("Why is a != b here?", "code"),
        ("let x = 5\nwhat is x", "code"),
        ("from math import pi\nwhat is it", "code"),
        ("SELECT name FROM people\nexplain", "code"),
        ("What is `ls -la`?", "code"),
        ("Sum it up:\n| a | b |\n| 1 | 2 |", "table"),
        ("name\tage\tcity\nAnn\t3\tRome", "table"),
        ("# Title\nplease rewrite", "markup"),
        ("Sort these:\n- pear\n- apple\n- fig", "markup"),
        ("See https://example.org and tell me", "address"),
        ("Write to ann@example.org for me", "address"),
        ("Solve \\frac{1}{2} + x", "formula"),
        ("What is the sum of $x^2$?", "formula"),
        ("?!?! ...", "unreadable"),
        ("I am happy 😀 today", "symbols"),
        ("a@b#c^d*e~f", "symbols"),
        ("Переведи это предложение", "another script"),
        ("word " * 100, "too long"),
    ],
)
def test_what_cannot_be_said_has_its_reason(text: str, reason: str) -> None:
    assert unspeakable(text, "en", 400) == reason


@pytest.mark.parametrize(
    ("text", "language"),
    [
        ("什么是chatterbot", "zh"),
        ("Is C++ hard?", "en"),
        ("レオ・トルストイ", "ja"),
        ("let me ask: what is it?", "en"),
        ("from now on (and always), who are you?", "en"),
        ("class begins at nine; is that early?", "en"),
    ],
)
def test_a_foreign_word_or_a_sign_that_is_said_is_no_reason(text: str, language: str) -> None:
    assert unspeakable(text, language, 400) is None


def test_length_counts_more_where_a_character_is_a_syllable() -> None:
    assert unspeakable("好" * 134, "zh", 400) == "too long"
    assert unspeakable("好" * 133, "zh", 400) is None


REFUSALS = {
    "zh": "作为一个人工智能，我没有感情。", "en": "I'm sorry, but I can't help.", "ru": "К сожалению, я этого не знаю.",
    "es": "Lo siento, pero no lo sé.", "fr": "Je suis désolé, mais je l'ignore.", "pt": "Desculpe, mas não sei.",
    "de": "Als KI habe ich keine Gefühle.", "it": "Mi dispiace, ma non lo so.", "nl": "Het spijt me, maar nee.",
    "pl": "Przykro mi, ale nie wiem.", "ar": "عذرًا، لا يمكنني المساعدة.", "tr": "Bir yapay zeka olarak duygum yok.",
    "he": "כמודל שפה אין לי רגשות.", "ja": "申し訳ございませんが、わかりません。", "ko": "죄송하지만 모르겠습니다.",
    "th": "ขออภัย ฉันไม่สามารถช่วยได้", "vi": "Xin lỗi, nhưng tôi không biết.", "id": "Maaf, saya tidak tahu.",
}  # fmt: skip


@pytest.mark.parametrize("language", LANGUAGES)
def test_a_refusal_is_known_in_every_language(language: str) -> None:
    assert uninformative(REFUSALS[language], "?", language) == "refusal"
    assert uninformative(QUESTIONS[language], "?", language) is None


@pytest.mark.parametrize(
    ("language", "answer", "reason"),
    [
        ("en", "As an AI language model, I have no taste.", "refusal"),
        ("zh", "很抱歉，我无法回答这个问题。", "refusal"),
        ("zh", "As an AI language model, I cannot.", "refusal"),
        ("de", "Es tut mir leid, aber das weiß ich nicht.", "refusal"),
        ("ja", "申し訳ありませんが、わかりません。", "refusal"),
        ("en", "...", "empty answer"),
        ("en", "N/A", "empty answer"),
        ("en", "what is it?", "repeats the question"),
        ("en", "Paris.", None),
        ("en", "Practise every day. " * 6 + "I cannot stress this enough.", None),
    ],
)
def test_what_tells_nothing_has_its_reason(language: str, answer: str, reason: str | None) -> None:
    assert uninformative(answer, "What is it?", language) == reason
