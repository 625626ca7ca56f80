"""Answers that refuse, and answers that deny a sense ("I am an AI and cannot hear"), in each of the languages."""

from __future__ import annotations

import re
from collections.abc import Mapping

_REFUSALS: Mapping[str, str] = {
    "en": r"as an ai\b|ai language model|i'?m sorry,? but|i (?:cannot|can't|am unable|am not able)"
    r"|i do(?:n't| not) have (?:access|enough)",
    "zh": "作为一个?(?:人工智能|AI|语言模型)|我是一个?(?:人工智能|AI)|(?:很?抱歉|对不起)[，,]?我?(?:无法|不能)|我无法",
    "ru": r"как (?:ии|языковая модель)|я не могу|извините, но|к сожалению, я",
    "es": r"como (?:una? )?(?:ia\b|modelo de lenguaje)|lo siento, pero|no puedo",
    "fr": r"en tant qu[e'’] ?(?:ia\b|modèle de langage)|je suis désolée?, mais|je ne peux pas",
    "pt": r"como (?:uma? )?(?:ia\b|modelo de linguagem)|(?:desculpe|sinto muito), mas|não posso",
    "de": r"als (?:ki\b|sprachmodell|künstliche)|es tut mir leid, aber|ich kann (?:leider )?nicht",
    "it": r"come (?:ia\b|modello linguistico)|mi dispiace, ma|non posso",
    "nl": r"als (?:ai\b|taalmodel)|het spijt me, maar|ik kan (?:helaas )?niet",
    "pl": r"jako (?:ai\b|model językowy)|przykro mi, ale|nie mogę",
    "ar": "كنموذج لغ|بصفتي (?:نموذج|ذكاء)|(?:عذر|آسف).{0,12}لا (?:يمكنني|أستطيع)|لا أستطيع",
    "tr": r"bir (?:yapay zek[aâ]|dil modeli) olarak|üzgünüm,? ancak|yapamam",
    "he": "כמודל שפה|כבינה מלאכותית|אני מצטער.{0,6}אבל|איני יכול|אני לא יכול",
    "ja": "(?:AI|人工知能|言語モデル)(?:として|なので|である)|申し訳(?:ありません|ございません)が|できません",
    "ko": "(?:AI|인공지능|언어 모델)(?:로서|이기)|죄송하지만|할 수 없습니다",
    "th": "ในฐานะ(?: ?AI|ปัญญาประดิษฐ์|โมเดลภาษา)|ขออภัย.{0,8}ไม่สามารถ|ฉันไม่สามารถ",
    "vi": r"(?:là|với tư cách là) (?:một )?(?:ai\b|mô hình ngôn ngữ|trí tuệ)|xin lỗi,? nhưng|tôi không thể",
    "id": r"sebagai (?:ai\b|model bahasa)|maaf,? (?:tetapi|tapi|saya)|saya tidak (?:bisa|dapat)",
}
_DENIALS: Mapping[str, str] = {
    "en": r"(?:cannot|can't|can not|unable to|not able to|not capable of)\s(?:\w+\s){0,3}"
    r"(?:hear|listen|see|view|watch|play|process|access)",
    "zh": "(?:无法|不能|没有能力|没办法).{0,8}(?:听|看|播放|识别|处理)|听不[到见]|看不[到见]",
    "ru": r"не (?:могу|способ\w+|умею|в состоянии) (?:\w+ ){0,3}(?:у?слыш|слуш|прослуш|у?вид|просм|воспр|обраб)",
    "es": r"no (?:puedo|soy capaz de|tengo la capacidad de) (?:\w+ ){0,3}(?:oír|escuchar|ver|reproducir|procesar)",
    "fr": r"ne (?:peux|suis) pas (?:\w+ ){0,4}(?:d[e'’] ?)?(?:entendre|écouter|voir|lire|traiter)",
    "pt": r"não (?:posso|consigo|sou capaz de|tenho a capacidade de) (?:\w+ ){0,3}"
    r"(?:ouvir|escutar|ver|reproduzir|processar)",
    "de": r"(?:kann\b.{0,30}\b(?:nicht|keine?n?)|nicht in der lage)\b.{0,30}"
    r"(?:hören|sehen|ansehen|abspielen|verarbeiten)",
    "it": r"non (?:posso|sono in grado di|riesco a) (?:\w+ ){0,3}"
    r"(?:sentire|ascoltare|udire|vedere|riprodurre|elaborare)",
    "nl": r"kan\b.{0,20}\b(?:niet|geen)\b.{0,30}(?:horen|luisteren|zien|bekijken|afspelen|verwerken)",
    "pl": r"nie (?:mogę|potrafię|jestem w stanie) (?:\w+ ){0,3}(?:u?słysz|słuch|odsłuch|widz|zobacz|odtw|przetw)",
    "ar": "لا (?:يمكنني|أستطيع|أقدر).{0,20}(?:سماع|أسمع|الاستماع|أستمع|رؤية|أرى|مشاهدة|معالجة)",
    "tr": r"\w*(?:duya|dinleye|göre|işleye|izleye)(?:mem|miyorum)\b|(?:duyma|dinleme|görme) yeteneğim yok",
    "he": "(?:לא יכול|לא יכולה|איני יכול|אינני יכול|לא מסוגל).{0,20}(?:לשמוע|להאזין|להקשיב|לראות|לצפות|לעבד)",
    "ja": "(?:聞く|聴く|聞き取る|再生する|見る|処理する)こと[がは]でき(?:ません|ない)"
    "|(?:聞こえ|聞け|聴け|見え|見られ)(?:ません|ない)",
    "ko": "(?:들을|청취할|재생할|볼|처리할) 수(?:는|가)? 없|듣거나 볼 수|(?:들리|보이)지 않|(?:듣|보)지 못",
    "th": "ไม่สามารถ.{0,12}(?:ฟัง|ได้ยิน|เห็น|ดู|เล่น|ประมวลผล)|ไม่ได้ยิน|มองไม่เห็น",
    "vi": r"(?:không thể|không có khả năng) (?:\w+ ){0,2}(?:nghe|thấy|nhìn|xem|phát|xử lý)",
    "id": r"tidak (?:bisa|dapat|mampu) (?:\w+ ){0,2}(?:mendengar|melihat|memutar|memproses|menonton)",
}
# A refusal opens its answer; later on the words may be about something else. What is denied follows an apology.
OPENING, DENIAL = 80, 200


def refuses(answer: str, language: str) -> bool:
    """Whether an answer opens with a refusal, in its language or in English."""
    return _found(_REFUSALS, answer[:OPENING], language)


def denies_senses(answer: str, language: str) -> bool:
    """Whether an answer says that its writer cannot hear or see, in its language or in English."""
    return _found(_DENIALS, answer[:DENIAL], language)


def _found(patterns: Mapping[str, str], opening: str, language: str) -> bool:
    wanted = {patterns["en"], patterns.get(language, patterns["en"])}
    return any(re.search(pattern, opening, re.IGNORECASE) for pattern in wanted)
