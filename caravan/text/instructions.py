"""What a user says beside a clip or a picture: four ways a language and task, drawn by a pure hash.

Add a language by adding lines `code sentence` to each pool.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Literal, get_args

from caravan.text.translate_into import TRANSLATE

Wish = Literal["transcribe", "caption", "picture", "speech", "translate"]

_TRANSCRIBE = """
zh 请把这段录音写成文字。
zh 写下你听到的话。
zh 这段录音里说了什么？请写出来。
zh 请听写这段语音。
en Write down what is said.
en Transcribe this recording.
en Please turn this speech into text.
en Write exactly what you hear.
ru Запиши, что здесь сказано.
ru Расшифруй эту запись.
ru Переведи эту речь в текст.
ru Напиши дословно то, что слышишь.
es Escribe lo que se dice.
es Transcribe esta grabación.
es Pasa esta voz a texto, por favor.
es Escribe exactamente lo que oyes.
fr Écris ce qui est dit.
fr Transcris cet enregistrement.
fr Mets cette parole par écrit, s'il te plaît.
fr Écris exactement ce que tu entends.
pt Escreva o que é dito.
pt Transcreva esta gravação.
pt Passe esta fala para texto, por favor.
pt Escreva exatamente o que você ouve.
de Schreib auf, was gesagt wird.
de Transkribiere diese Aufnahme.
de Bitte bring diese Worte in Textform.
de Schreib genau, was du hörst.
it Scrivi quello che viene detto.
it Trascrivi questa registrazione.
it Metti per iscritto queste parole, per favore.
it Scrivi esattamente ciò che senti.
nl Schrijf op wat er gezegd wordt.
nl Transcribeer deze opname.
nl Zet deze spraak om in tekst, alsjeblieft.
nl Schrijf precies op wat je hoort.
pl Zapisz, co zostało powiedziane.
pl Przepisz to nagranie.
pl Zamień tę mowę na tekst.
pl Napisz dokładnie to, co słyszysz.
ar اكتب ما قيل.
ar فرّغ هذا التسجيل كتابةً.
ar حوّل هذا الكلام إلى نص من فضلك.
ar اكتب ما تسمعه تمامًا.
tr Söylenenleri yaz.
tr Bu kaydı yazıya dök.
tr Lütfen bu konuşmayı metne çevir.
tr Duyduğunu aynen yaz.
he כתוב את מה שנאמר.
he תמלל את ההקלטה הזאת.
he הפוך את הדיבור הזה לטקסט, בבקשה.
he כתוב בדיוק מה שאתה שומע.
ja 話された内容を書いてください。
ja この録音を文字にしてください。
ja この音声を書き起こしてください。
ja 聞こえたとおりに書いてください。
ko 말한 내용을 적어 주세요.
ko 이 녹음을 받아 적어 주세요.
ko 이 음성을 글로 옮겨 주세요.
ko 들리는 그대로 적어 주세요.
th เขียนสิ่งที่พูด
th ถอดเสียงบันทึกนี้
th ช่วยแปลงเสียงพูดนี้เป็นข้อความ
th เขียนตามที่ได้ยิน
vi Hãy viết lại điều được nói.
vi Chép lại đoạn ghi âm này.
vi Hãy chuyển lời nói này thành văn bản.
vi Viết chính xác những gì bạn nghe được.
id Tuliskan apa yang diucapkan.
id Transkripsikan rekaman ini.
id Tolong ubah ucapan ini menjadi teks.
id Tulis persis apa yang kamu dengar.
"""

_CAPTION = """
zh 请描述这张图片。
zh 图片上画的是什么？
zh 说说你看到了什么。
zh 给这张图片写个简短的说明。
en Describe this picture.
en What does the picture show?
en Say what you see.
en Write a short caption for this image.
ru Опиши эту картинку.
ru Что изображено на картинке?
ru Скажи, что ты видишь.
ru Придумай короткую подпись к изображению.
es Describe esta imagen.
es ¿Qué muestra la imagen?
es Di lo que ves.
es Escribe un pie breve para esta imagen.
fr Décris cette image.
fr Que montre l'image ?
fr Dis ce que tu vois.
fr Écris une courte légende pour cette image.
pt Descreva esta imagem.
pt O que a imagem mostra?
pt Diga o que você vê.
pt Escreva uma legenda curta para esta imagem.
de Beschreibe dieses Bild.
de Was zeigt das Bild?
de Sag, was du siehst.
de Schreib eine kurze Bildunterschrift.
it Descrivi questa immagine.
it Che cosa mostra l'immagine?
it Di' quello che vedi.
it Scrivi una breve didascalia per l'immagine.
nl Beschrijf deze afbeelding.
nl Wat laat de afbeelding zien?
nl Zeg wat je ziet.
nl Schrijf een kort bijschrift bij deze afbeelding.
pl Opisz ten obrazek.
pl Co przedstawia obrazek?
pl Powiedz, co widzisz.
pl Napisz krótki podpis do tego obrazka.
ar صف هذه الصورة.
ar ماذا تُظهر الصورة؟
ar قل ما تراه.
ar اكتب تعليقًا قصيرًا لهذه الصورة.
tr Bu resmi anlat.
tr Resimde ne gösteriliyor?
tr Ne gördüğünü söyle.
tr Bu görsel için kısa bir açıklama yaz.
he תאר את התמונה הזאת.
he מה מראה התמונה?
he אמור מה אתה רואה.
he כתוב כיתוב קצר לתמונה.
ja この絵を説明してください。
ja 絵には何が描かれていますか。
ja 見えるものを言ってください。
ja この画像に短い説明を付けてください。
ko 이 그림을 설명해 주세요.
ko 그림에 무엇이 있나요?
ko 보이는 것을 말해 주세요.
ko 이 이미지에 짧은 설명을 써 주세요.
th อธิบายภาพนี้
th ภาพนี้แสดงอะไร
th บอกสิ่งที่คุณเห็น
th เขียนคำบรรยายสั้น ๆ ให้ภาพนี้
vi Hãy mô tả bức tranh này.
vi Bức tranh cho thấy gì?
vi Hãy nói bạn nhìn thấy gì.
vi Viết một chú thích ngắn cho hình ảnh này.
id Jelaskan gambar ini.
id Apa yang ditunjukkan gambar ini?
id Katakan apa yang kamu lihat.
id Tulis keterangan singkat untuk gambar ini.
"""

_PICTURE = """
zh 这叫什么？
zh 图中的东西叫什么名字？
zh 这张图片是什么？
zh 请说出图中事物的名称。
en What is this called?
en What is the name of the thing in the picture?
en What is this a picture of?
en Name the thing in the picture.
ru Как это называется?
ru Как называется то, что на картинке?
ru Что это за картинка?
ru Назови то, что изображено.
es ¿Cómo se llama esto?
es ¿Cuál es el nombre de lo que aparece en la imagen?
es ¿De qué es esta imagen?
es Nombra lo que aparece en la imagen.
fr Comment cela s'appelle-t-il ?
fr Quel est le nom de ce qui est sur l'image ?
fr De quoi est-ce l'image ?
fr Nomme ce qui est sur l'image.
pt Como isto se chama?
pt Qual é o nome do que está na imagem?
pt Esta é uma imagem de quê?
pt Diga o nome do que está na imagem.
de Wie heißt das?
de Wie nennt man das, was auf dem Bild ist?
de Wovon ist das ein Bild?
de Benenne, was auf dem Bild ist.
it Come si chiama questo?
it Qual è il nome di ciò che è nell'immagine?
it Di che cosa è questa immagine?
it Di' il nome di ciò che è nell'immagine.
nl Hoe heet dit?
nl Wat is de naam van wat er op de afbeelding staat?
nl Waarvan is dit een afbeelding?
nl Benoem wat er op de afbeelding staat.
pl Jak to się nazywa?
pl Jaka jest nazwa tego, co jest na obrazku?
pl Co to za obrazek?
pl Nazwij to, co jest na obrazku.
ar ما اسم هذا؟
ar ما اسم الشيء الذي في الصورة؟
ar صورة ماذا هذه؟
ar سمِّ ما في الصورة.
tr Bunun adı ne?
tr Resimdeki şeyin adı nedir?
tr Bu neyin resmi?
tr Resimdeki şeyin adını söyle.
he איך קוראים לזה?
he מה השם של מה שבתמונה?
he של מה התמונה הזאת?
he נקוב בשם של מה שבתמונה.
ja これは何と言いますか。
ja 絵の中のものの名前は何ですか。
ja これは何の絵ですか。
ja 絵の中のものの名前を言ってください。
ko 이것을 뭐라고 부르나요?
ko 그림 속 대상의 이름은 무엇인가요?
ko 이것은 무슨 그림인가요?
ko 그림 속 대상의 이름을 말해 주세요.
th สิ่งนี้เรียกว่าอะไร
th สิ่งที่อยู่ในภาพชื่ออะไร
th นี่คือภาพของอะไร
th บอกชื่อสิ่งที่อยู่ในภาพ
vi Cái này gọi là gì?
vi Tên của thứ trong hình là gì?
vi Đây là hình của cái gì?
vi Hãy gọi tên thứ trong hình.
id Ini namanya apa?
id Apa nama benda di dalam gambar?
id Ini gambar apa?
id Sebutkan nama benda di dalam gambar.
"""

_SPEECH = """
zh 你听到了什么？
zh 说的是什么？
zh 录音里说的是哪个词？
zh 请告诉我你听到的内容。
en What do you hear?
en What was said?
en Which words are spoken?
en Tell me what you hear.
ru Что ты слышишь?
ru Что было сказано?
ru Какие слова произнесены?
ru Скажи, что ты слышишь.
es ¿Qué oyes?
es ¿Qué se ha dicho?
es ¿Qué palabras se pronuncian?
es Dime qué oyes.
fr Qu'entends-tu ?
fr Qu'est-ce qui a été dit ?
fr Quels mots sont prononcés ?
fr Dis-moi ce que tu entends.
pt O que você ouve?
pt O que foi dito?
pt Que palavras são faladas?
pt Diga-me o que você ouve.
de Was hörst du?
de Was wurde gesagt?
de Welche Worte werden gesprochen?
de Sag mir, was du hörst.
it Che cosa senti?
it Che cosa è stato detto?
it Quali parole vengono pronunciate?
it Dimmi che cosa senti.
nl Wat hoor je?
nl Wat werd er gezegd?
nl Welke woorden worden uitgesproken?
nl Vertel me wat je hoort.
pl Co słyszysz?
pl Co zostało powiedziane?
pl Jakie słowa są wypowiadane?
pl Powiedz mi, co słyszysz.
ar ماذا تسمع؟
ar ماذا قيل؟
ar ما الكلمات المنطوقة؟
ar أخبرني بما تسمعه.
tr Ne duyuyorsun?
tr Ne söylendi?
tr Hangi sözler söyleniyor?
tr Bana ne duyduğunu söyle.
he מה אתה שומע?
he מה נאמר?
he אילו מילים נאמרות?
he אמור לי מה אתה שומע.
ja 何が聞こえますか。
ja 何と言いましたか。
ja どんな言葉が話されていますか。
ja 聞こえたことを教えてください。
ko 무엇이 들리나요?
ko 뭐라고 말했나요?
ko 어떤 말이 들리나요?
ko 들은 것을 말해 주세요.
th คุณได้ยินอะไร
th พูดว่าอะไร
th คำที่พูดคือคำว่าอะไร
th บอกฉันว่าคุณได้ยินอะไร
vi Bạn nghe thấy gì?
vi Điều gì đã được nói?
vi Những từ nào được nói ra?
vi Hãy cho tôi biết bạn nghe thấy gì.
id Apa yang kamu dengar?
id Apa yang diucapkan tadi?
id Kata apa yang diucapkan?
id Beri tahu aku apa yang kamu dengar.
"""


def _pool(text: str) -> Mapping[str, tuple[str, ...]]:
    lines = [line.split(" ", 1) for line in text.strip().splitlines()]
    return {code: tuple(sentence for other, sentence in lines if other == code) for code, _ in lines}


INSTRUCTIONS: Mapping[Wish, Mapping[str, tuple[str, ...]]] = dict(
    zip(get_args(Wish), map(_pool, (_TRANSCRIBE, _CAPTION, _PICTURE, _SPEECH, TRANSLATE)), strict=True)
)


def draw(choices: int, *key: object) -> int:
    """A number below `choices` that depends on nothing but `key`: not on the order or number of earlier draws."""
    digest = hashlib.blake2b("\x1f".join(map(str, key)).encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big") % choices


def instruction(wish: Wish, language: str, *key: object) -> tuple[str, bool]:
    """The instruction for a row, and whether it stands before the medium."""
    pool = INSTRUCTIONS[wish][language]
    return pool[draw(len(pool), "words", *key)], draw(2, "place", *key) == 0
