"""The pool of `caravan.text.instructions` for speech translation, by the language that is asked for."""

from __future__ import annotations

# Each language asks for itself: "translate what is said into English" stands in English.
TRANSLATE = """
zh 请把这段话翻译成中文。
zh 用中文说出录音的意思。
zh 这段录音用中文怎么说？
zh 请写出这段话的中文译文。
en Translate what is said into English.
en Give the English translation of this recording.
en How would you say this in English?
en Please translate this speech into English.
ru Переведи сказанное на русский язык.
ru Дай перевод этой записи на русский.
ru Как сказать это по-русски?
ru Напиши по-русски, что здесь говорится.
es Traduce al español lo que se dice.
es Da la traducción al español de esta grabación.
es ¿Cómo se dice esto en español?
es Escribe en español lo que significa esta grabación.
fr Traduis en français ce qui est dit.
fr Donne la traduction française de cet enregistrement.
fr Comment dit-on cela en français ?
fr Écris en français le sens de cet enregistrement.
pt Traduza para o português o que é dito.
pt Dê a tradução desta gravação em português.
pt Como se diz isto em português?
pt Escreva em português o sentido desta gravação.
de Übersetze das Gesagte ins Deutsche.
de Gib die deutsche Übersetzung dieser Aufnahme an.
de Wie sagt man das auf Deutsch?
de Schreib auf Deutsch, was diese Aufnahme bedeutet.
it Traduci in italiano quello che viene detto.
it Dai la traduzione italiana di questa registrazione.
it Come si dice questo in italiano?
it Scrivi in italiano il significato di questa registrazione.
nl Vertaal wat er gezegd wordt naar het Nederlands.
nl Geef de Nederlandse vertaling van deze opname.
nl Hoe zeg je dit in het Nederlands?
nl Schrijf in het Nederlands wat deze opname betekent.
pl Przetłumacz na polski to, co zostało powiedziane.
pl Podaj polskie tłumaczenie tego nagrania.
pl Jak to powiedzieć po polsku?
pl Napisz po polsku, co znaczy to nagranie.
ar ترجم ما قيل إلى العربية.
ar أعط ترجمة هذا التسجيل بالعربية.
ar كيف يقال هذا بالعربية؟
ar اكتب معنى هذا التسجيل بالعربية.
tr Söylenenleri Türkçeye çevir.
tr Bu kaydın Türkçe çevirisini ver.
tr Bu Türkçede nasıl söylenir?
tr Bu kaydın anlamını Türkçe yaz.
he תרגם לעברית את מה שנאמר.
he תן את התרגום של ההקלטה הזאת לעברית.
he איך אומרים את זה בעברית?
he כתוב בעברית את משמעות ההקלטה הזאת.
ja 話された内容を日本語に訳してください。
ja この録音の日本語訳を書いてください。
ja これは日本語で何と言いますか。
ja この音声の意味を日本語で書いてください。
ko 말한 내용을 한국어로 옮겨 주세요.
ko 이 녹음의 한국어 번역을 써 주세요.
ko 이것을 한국어로 어떻게 말하나요?
ko 이 음성의 뜻을 한국어로 적어 주세요.
th แปลสิ่งที่พูดเป็นภาษาไทย
th เขียนคำแปลภาษาไทยของเสียงบันทึกนี้
th สิ่งนี้พูดเป็นภาษาไทยว่าอย่างไร
th เขียนความหมายของเสียงนี้เป็นภาษาไทย
vi Hãy dịch điều được nói sang tiếng Việt.
vi Viết bản dịch tiếng Việt của đoạn ghi âm này.
vi Điều này nói bằng tiếng Việt như thế nào?
vi Hãy viết ý nghĩa của đoạn ghi âm này bằng tiếng Việt.
id Terjemahkan apa yang diucapkan ke bahasa Indonesia.
id Berikan terjemahan bahasa Indonesia dari rekaman ini.
id Bagaimana mengatakan ini dalam bahasa Indonesia?
id Tulis arti rekaman ini dalam bahasa Indonesia.
"""
