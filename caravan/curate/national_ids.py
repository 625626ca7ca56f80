"""National ids of people that python-stdnum (arthurdejong.org/python-stdnum) knows, by the language of the text.

Check digits alone let one in ten to one in a hundred random numbers pass. An id therefore counts if it is valid and
also written as nothing else is, or stands after its name.
"""

from __future__ import annotations

import functools
import importlib
import re
from dataclasses import dataclass
from types import ModuleType


@dataclass(frozen=True)
class NationalId:
    """A kind of id.

    Attributes:
        module: of stdnum.
        form: how it is written where that suffices without its name; "" if nothing does.
        name: what stands before it.
        named_form: how it is written after its name; by default any way that stdnum reads.
    """

    module: str
    form: str
    name: str
    named_form: str = ".*"

    def here(self, text: str, before: str) -> bool:
        """Whether this is such an id, given what stands before it."""
        known = bool(self.form) and re.fullmatch(self.form, text) is not None
        named = re.search(self.name, before, re.IGNORECASE) and re.fullmatch(self.named_form, text)
        return bool(known or named) and is_valid(self.module, text)


SWISS = NationalId("ch.ssn", r"756\.\d{4}\.\d{4}\.\d{2}", r"\b(AVS|AHV)\b")
BELGIAN = NationalId("be.nn", r"\d{2}\.\d{2}\.\d{2}-\d{3}\.\d{2}", r"registre national|rijksregister")

IDS: dict[str, tuple[NationalId, ...]] = {
    "zh": (NationalId("cn.ric", r"\d{17}[\dXx]", "身份证|身分證|公民身份"),),
    "en": (
        NationalId("us.ssn", r"\d{3}-\d{2}-\d{4}", r"\bSSN\b|social security"),
        NationalId("gb.nhs", "", r"\bNHS\b"),
        NationalId("ca.sin", "", r"\bSIN\b|social insurance"),
        NationalId("au.tfn", "", r"\bTFN\b|tax file"),
        NationalId("in_.aadhaar", "", r"aadhaar"),
        NationalId("ie.pps", "", r"\bPPS"),
    ),
    "ru": (NationalId("ru.inn", "", r"ИНН", r"\d{12}"),),
    "es": (
        NationalId("es.dni", r"\d{8}-?[A-Z]", r"\b(DNI|NIF)\b"),
        NationalId("es.nie", r"[XYZ]-?\d{7}-?[A-Z]", r"\bNIE\b"),
        NationalId("mx.curp", r"[A-Z]{4}\d{6}[A-Z0-9]{8}", r"\bCURP\b"),
        NationalId("ar.cuit", r"2[0347]-\d{8}-\d", r"\bCUI[LT]\b"),
        NationalId("cl.rut", r"\d{1,2}\.\d{3}\.\d{3}-[\dkK]", r"\bRU[TN]\b"),
    ),
    "fr": (
        NationalId("fr.nir", r"[12] ?\d\d ?\d\d ?\d\d ?\d{3} ?\d{3} ?\d\d", r"sécurité sociale|\bNIR\b"),
        BELGIAN,
        SWISS,
    ),
    "pt": (
        NationalId("br.cpf", r"\d{3}\.\d{3}\.\d{3}-\d{2}", r"\bCPF\b"),
        NationalId("pt.nif", "", r"\bNIF\b|contribuinte", r"[123]\d{8}"),
    ),
    "de": (
        NationalId("de.idnr", r"\d{2} \d{3} \d{3} \d{3}", r"steuer-?id|identifikationsnummer|\bIdNr"),
        NationalId("at.vnr", "", r"versicherungsnummer|\bSVNR\b"),
        SWISS,
    ),
    "it": (NationalId("it.codicefiscale", r"[A-Z]{6}[0-9A-Z]{10}", r"codice fiscale", r"\w{16}"), SWISS),
    "nl": (NationalId("nl.bsn", "", r"\bBSN\b|burgerservicenummer"), BELGIAN),
    "pl": (NationalId("pl.pesel", "", r"PESEL"),),
    "tr": (NationalId("tr.tckimlik", "", r"kimlik|\bTCKN\b"),),
    "he": (NationalId("il.idnr", "", r"ת\.? ?ז|תעודת זהות|מספר זהות"),),
    "ja": (NationalId("jp.in_", "", "マイナンバー|個人番号"),),
    "ko": (NationalId("kr.rrn", r"\d{6}-\d{7}", "주민"),),
    "th": (NationalId("th.pin", r"\d-\d{4}-\d{5}-\d{2}-\d", "ประชาชน"),),
    "id": (NationalId("id.nik", "", r"\b(NIK|KTP)\b"),),
}


@functools.cache
def _module(name: str) -> ModuleType:
    return importlib.import_module(f"stdnum.{name}")


def is_valid(module: str, text: str) -> bool:
    """Whether stdnum takes this for a valid number of that kind."""
    try:
        return bool(_module(module).is_valid(text))
    except KeyError:  # a Chinese district without counties, which stdnum 2.2 stumbles over
        return False


def is_national_id(text: str, before: str, language: str) -> bool:
    """Whether this is an id of a country where this language is spoken."""
    return any(kind.here(text, before) for kind in IDS.get(language, ()))
