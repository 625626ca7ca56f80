"""What is taken for personal data, and what looks like it and is not."""

from __future__ import annotations

from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from caravan.curate.national_ids import IDS, is_valid
from caravan.curate.privacy import PrivacyStep
from caravan.recipe.privacy import COUNTRIES, PrivacyConfig

FOUND = [
    ("en", "Write to Ann.Lee+news@mail.co.uk today.", "Write to <EMAIL> today."),
    ("zh", "邮箱是wang_li@qq.com。", "邮箱是<EMAIL>。"),
    ("ar", "البريد: info@shop.com.sa", "البريد: <EMAIL>"),
    ("en", "Blocked: 81.27.104.9, 2a00:1450:4001:81b::200e", "Blocked: <IP>, <IP>"),
    ("de", "Server 8.8.8.8 antwortet", "Server <IP> antwortet"),
    ("en", "logged in from http://81.27.104.9/admin", "logged in from http://<IP>/admin"),
    # Telephone numbers: of any country with a +, else as they are written where the language is spoken.
    ("en", "Call +49 30 901820 or 0044 20 7946 0018.", "Call <PHONE> or <PHONE>."),
    ("en", "(212) 736-5000, 212-736-5000", "<PHONE>, <PHONE>"),
    ("de", "Tel.: 030 / 901820, mobil 0171 2345678", "Tel.: <PHONE>, mobil <PHONE>"),
    ("fr", "au 01 42 68 53 00 ou 06.12.34.56.78", "au <PHONE> ou <PHONE>"),
    ("es", "Teléfono: 912 582 852", "Teléfono: <PHONE>"),
    ("pt", "Ligue (11) 96123-4567 ou 11 2345-6789", "Ligue <PHONE> ou <PHONE>"),
    ("it", "cellulare 347 1234567", "cellulare <PHONE>"),
    ("nl", "bel 020-6241111", "bel <PHONE>"),
    ("pl", "tel. 22 694 12 34", "tel. <PHONE>"),
    ("ru", "Звоните 8 (495) 123-45-67, 8-916-123-45-67", "Звоните <PHONE>, <PHONE>"),
    ("ar", "هاتف ٠١٠٠١٢٣٤٥٦٧", "هاتف <PHONE>"),
    ("tr", "Telefon: 0532 123 45 67", "Telefon: <PHONE>"),
    ("he", "נייד 052-2345678", "נייד <PHONE>"),
    ("ja", "電話090-1234-5678まで", "電話<PHONE>まで"),
    ("ko", "연락처 010-9592-9917", "연락처 <PHONE>"),
    ("th", "โทร. 02-273-9020 หรือ ๐๒-๒๗๓-๙๐๒๐", "โทร. <PHONE> หรือ <PHONE>"),
    ("vi", "điện thoại 0912 345 678", "điện thoại <PHONE>"),
    ("id", "Telp. (021) 5760617", "Telp. <PHONE>"),
    ("zh", "手机13812345678，电话010-62345678", "手机<PHONE>，电话<PHONE>"),
    # Ids: by their written form, or after their name.
    ("zh", "身份证11010519491231002X", "身份证<ID>"),
    ("en", "SSN 536-90-4399, NHS number 943 476 5919", "SSN <ID>, NHS number <ID>"),
    ("es", "DNI 12345678Z, 12345678-Z y X1234567L; CURP BOXW310820HNERXN09; RUT 12.531.909-2",
     "DNI <ID>, <ID> y <ID>; CURP <ID>; RUT <ID>"),
    ("fr", "n° 2 95 10 99 126 111 93", "n° <ID>"),
    ("pt", "CPF 390.533.447-05, NIF 123456789", "CPF <ID>, NIF <ID>"),
    ("de", "Steuer-ID 36574261809, AHV 756.9217.0769.85", "Steuer-ID <ID>, AHV <ID>"),
    ("it", "codice fiscale RCCMNL83S18D969H", "codice fiscale <ID>"),
    ("nl", "BSN: 111222333", "BSN: <ID>"),
    ("pl", "PESEL 44051401359", "PESEL <ID>"),
    ("ru", "ИНН 500100732259", "ИНН <ID>"),
    ("tr", "T.C. kimlik no 17291716060", "T.C. kimlik no <ID>"),
    ("he", "ת.ז. 039337423", "ת.ז. <ID>"),
    ("ja", "マイナンバーは621498320257", "マイナンバーは<ID>"),
    ("ko", "주민등록번호 971013-9019902", "주민등록번호 <ID>"),
    ("th", "เลขประจำตัวประชาชน 1-2345-45678-78-1", "เลขประจำตัวประชาชน <ID>"),
    ("id", "NIK 3171011708450001", "NIK <ID>"),
]  # fmt: skip

NOT_PERSONAL = [
    ("en", "On 12/31/2019 08:30, 2019-12-31 and 31.12.2019 it rained."),
    ("de", "vom 01.02.2019 bis 28.02.2019, 1990-2000, 1990–2000"),
    ("fr", "né le 06-12-1984, soit 1984-12-06 12:34:56"),
    ("en", "Version 4.18.21.30, release v10.15.7.1, Chrome/91.0.4472.124, section 11.2.2.2, python>=3.10.12.1"),
    ("en", "hosts 127.0.0.1, 192.168.10.20, 10.20.30.40, network 20.203.41.96/28, 300.20.30.40"),
    ("en", "ISBN 0-306-40615-2, ISBN-13: 978-3-16-148410-0, ISBN 0306406152"),
    ("de", "ISBN 0306406152 oder 3-446-19313-8, EAN 4006381333931"),
    ("en", "Prices: $1234567.89, 12 345 678 €, €0612345678, 1,234,567 and 1.234.567,89"),
    ("pl", "koszt 123 456 789 zł, 612 345 678 osób"),
    ("es", "47 351 567 habitantes en 2019, 912 582 852 votos"),
    ("en", "pi is 3.14159265358979, e 2.718281828, 0.0612345678"),
    ("fr", "la valeur 0.612345678 et 3,0612345678"),
    ("en", "commit 3f786850e387550fdab836ed7e6dc881de23001b, id 550e8400-e29b-41d4-a716-446655440000, 0x8004de40"),
    ("en", "timestamp 1609459200, in ms 1609459200000, order #0612345678, SKU-0612345678"),
    ("en", "see https://example.com/item/0612345678/010-62345678 and doi:10.1000/182.0612345678"),
    ("de", "Artikel 01234567890, Konto 0000 0000 0000, Code 0101 0101"),
    ("de", "Artikelnummer 0306123456"),
    ("en", "coordinates 52.5200066, 13.404954; 40.7127753,-74.0059728"),
    ("en", "the card 4111 1111 1111 1111, the number 123456789012"),
    ("en", "score 101-99-103-98, numbers 1234567 and 7654321, 555 12 34"),
    ("zh", "编号20191231123456789，共1234567890元，图13-14-15，公元1990-2000年"),
    ("ja", "2019/12/31、1234567円、03-04-05"),
    ("ko", "2019.12.31 12:30, 1234567890원"),
    ("th", "พ.ศ. 2562-2563, 1234567.89 บาท, 14/03/2566"),
    ("en", "a@b, @user, user@localhost, name@example.com, me@site.example, x@sub.example.org, a..b@mail.com"),
    ("en", "matrix @ other, foo@2.0, array[1]@x"),
    ("en", "2:55:00 PM, 12:30:45, std::vector, a::b, fe80::1, ::1, 2001:db8::1, 2001::/32"),
    ("en", "ids 39053344705, 44051401359, 123-45-67890, 000-12-3456"),
    ("pt", "valor 39053344705 e 390533447-05"),
    ("nl", "nummer 111222333"),
    ("it", "modello ABCDEF12G34H567X"),
    ("en", "tel: 123, phone 1234567890123"),
]


def masked(language: str, *texts: str, **settings: Any) -> tuple[list[str], list[str | None]]:
    step = PrivacyStep(PrivacyConfig(**settings), {"text": "language"})
    verdict = step.judge(pa.record_batch({"text": list(texts), "language": [language] * len(texts)}))
    assert verdict.reason.null_count == len(texts)
    return verdict.columns["text"].to_pylist(), verdict.columns["masked"].to_pylist()


@pytest.mark.parametrize(("language", "text", "expected"), FOUND)
def test_personal_data_gives_way_to_placeholders(language: str, text: str, expected: str) -> None:
    assert masked(language, text)[0] == [expected]


@pytest.mark.parametrize(("language", "text"), NOT_PERSONAL)
def test_what_looks_like_personal_data_stays(language: str, text: str) -> None:
    assert masked(language, text) == ([text], [None])


def test_kinds_are_counted_in_each_text() -> None:
    texts = ["nothing", "a@b.de, c@d.de, +49 30 901820", "81.27.104.9"]
    assert masked("en", *texts) == (
        ["nothing", "<EMAIL>, <EMAIL>, <PHONE>", "<IP>"], [None, "email 2, phone 1", "ip 1"],
    )  # fmt: skip


def test_each_kind_has_its_placeholder_or_none() -> None:
    text = "a@b.de +49 30 901820 192.168.10.20 536-90-4399"
    assert masked("en", text, email="[mail]", phone=None, private_ips=True)[0] == ["[mail] +49 30 901820 <IP> <ID>"]
    off = dict.fromkeys(("email", "phone", "ip", "id"))
    assert masked("en", text, **off) == ([text], [None])


def test_countries_are_added_by_language() -> None:
    text = "phone 01 42 68 53 00"
    assert masked("en", text)[0] == [text]
    assert masked("en", text, countries={"en": ["FR"]})[0] == ["phone <PHONE>"]
    assert PrivacyConfig(countries={"en": ["FR"]}).countries["de"] == COUNTRIES["de"]


def test_sides_of_pairs_are_masked_each_in_its_language() -> None:
    step = PrivacyStep(PrivacyConfig(), {"source_text": "source_language", "target_text": "target_language"})
    batch = pa.record_batch(
        {
            "source_text": ["電話090-1234-5678"],
            "source_language": ["ja"],
            "target_text": ["a@b.de"],
            "target_language": ["en"],
        }
    )
    columns = step.judge(batch).columns
    assert [columns[name].to_pylist() for name in ("source_text", "target_text", "masked")] == [
        ["電話<PHONE>"], ["<EMAIL>"], ["email 1, phone 1"],
    ]  # fmt: skip


@settings(max_examples=60, deadline=None, derandomize=True)
@given(st.text(), st.text(), st.sampled_from(sorted(COUNTRIES)))
def test_around_a_placeholder_every_character_stays(before: str, after: str, language: str) -> None:
    (text,), (told,) = masked(language, f"{before} | someone@mail.de | {after}")
    assert " | <EMAIL> | " in text
    if told == "email 1":
        assert text == f"{before} | <EMAIL> | {after}"


def test_every_module_of_the_ids_is_there() -> None:
    assert set(IDS) < set(COUNTRIES)
    assert not any(is_valid(kind.module, "0") for kinds in IDS.values() for kind in kinds)
    assert not is_valid("cn.ric", "710000199001010016")
