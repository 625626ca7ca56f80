from __future__ import annotations

import pytest

from caravan.records import LANGUAGES
from caravan.text.refusals import denies_senses, refuses

DENIALS = {
    "en": "I'm an AI and cannot hear audio.",
    "zh": "我是人工智能，听不到声音，无法播放音频。",
    "ru": "Я искусственный интеллект и не могу прослушать аудио.",
    "es": "Soy una IA y no puedo escuchar audios.",
    "fr": "Je suis une IA et je ne peux pas écouter de son.",
    "pt": "Sou uma IA e não consigo ouvir áudios.",
    "de": "Ich bin eine KI und kann leider keine Aufnahmen anhören.",
    "it": "Sono un'IA e non posso ascoltare l'audio.",
    "nl": "Ik ben een AI en kan geen geluid horen.",
    "pl": "Jestem sztuczną inteligencją i nie mogę usłyszeć nagrania.",
    "ar": "أنا ذكاء اصطناعي ولا أستطيع سماع الصوت.",
    "tr": "Ben bir yapay zekayım ve sesleri duyamıyorum.",
    "he": "אני בינה מלאכותית ואיני יכול לשמוע קול.",
    "ja": "私はAIなので、音声を聞くことができません。",
    "ko": "저는 인공지능이라 소리를 들을 수 없습니다.",
    "th": "ฉันเป็นปัญญาประดิษฐ์และไม่สามารถฟังเสียงได้",
    "vi": "Tôi là trí tuệ nhân tạo và không thể nghe âm thanh.",
    "id": "Saya adalah AI dan tidak dapat mendengar suara.",
}
PLAIN = {
    "en": "You can hear a bird and see a red circle.",
    "zh": "录音里说的是十二月。",
    "ru": "На картинке виден красный круг.",
    "es": "Se oye un pájaro y se ve un círculo rojo.",
    "fr": "On entend un oiseau et on voit un cercle rouge.",
    "pt": "Ouve-se um pássaro e vê-se um círculo vermelho.",
    "de": "Man kann einen Vogel hören und einen roten Kreis sehen.",
    "it": "Si sente un uccello e si vede un cerchio rosso.",
    "nl": "Je kan een vogel horen en een rode cirkel zien.",
    "pl": "Słychać ptaka i widać czerwone koło.",
    "ar": "يمكنك سماع طائر ورؤية دائرة حمراء.",
    "tr": "Bir kuş duyuluyor ve kırmızı bir daire görülüyor.",
    "he": "אפשר לשמוע ציפור ולראות עיגול אדום.",
    "ja": "鳥の声が聞こえ、赤い丸が見えます。",
    "ko": "새소리가 들리고 빨간 원이 보입니다.",
    "th": "ได้ยินเสียงนกและเห็นวงกลมสีแดง",
    "vi": "Có thể nghe tiếng chim và thấy hình tròn đỏ.",
    "id": "Terdengar suara burung dan terlihat lingkaran merah.",
}


@pytest.mark.parametrize("language", LANGUAGES)
def test_who_says_that_it_cannot_hear_is_told_in_every_language(language: str) -> None:
    assert denies_senses(DENIALS[language], language)
    assert denies_senses(DENIALS["en"], language), "an English denial is one everywhere"
    assert not denies_senses(PLAIN[language], language)
    assert not refuses(PLAIN[language], language)


def test_only_the_opening_counts() -> None:
    assert not refuses("The clip says a lot about whales. " * 4 + "I cannot tell more.", "en")
    assert not denies_senses("The clip tells of whales. " * 9 + "They cannot hear us.", "en")
