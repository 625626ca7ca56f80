"""Written text as it is said: numbers, dates, times, units, money and percent as words, in each of the languages.

Numbers come from num2words (Chinese ones from here), names of units, currencies and months from Babel's CLDR.
"""

from __future__ import annotations

import datetime
import math
import re
from collections.abc import Callable, Mapping
from functools import cache, partial
from typing import Any

from caravan.core.errors import MissingDependencyError

_UNITS: Mapping[str, str] = {
    "km": "length-kilometer", "m": "length-meter", "cm": "length-centimeter", "mm": "length-millimeter",
    "kg": "mass-kilogram", "g": "mass-gram", "mg": "mass-milligram", "l": "volume-liter", "ml": "volume-milliliter",
    "km/h": "speed-kilometer-per-hour", "h": "duration-hour", "min": "duration-minute", "s": "duration-second",
    "km²": "area-square-kilometer", "m²": "area-square-meter", "°C": "temperature-celsius",
    "°F": "temperature-fahrenheit", "%": "concentr-percent", "W": "power-watt", "kW": "power-kilowatt",
    "GB": "digital-gigabyte", "MB": "digital-megabyte",
}  # fmt: skip
_CURRENCIES = {
    "$": "USD", "US$": "USD", "€": "EUR", "£": "GBP", "¥": "JPY", "₩": "KRW", "₽": "RUB", "₪": "ILS", "฿": "THB",
    "₫": "VND", "元": "CNY",
}  # fmt: skip
_DATES = {
    "en": "MMMM d y", "ja": "y年M月d日", "ko": "y년 M월 d일", "es": "d 'de' MMMM 'de' y", "pt": "d 'de' MMMM 'de' y",
    "he": "d בMMMM y", "vi": "'ngày' d MMMM 'năm' y",
}  # fmt: skip
# What CLDR lacks.
_PERCENT = {"ko": "{0} 퍼센트", "vi": "{0} phần trăm", "ar": "{0} بالمئة", "zh": "百分之{0}"}
# Babel 2.18 finds no Chinese names of units.
_CHINESE_UNITS = {
    "km": "公里", "m": "米", "cm": "厘米", "mm": "毫米", "kg": "公斤", "g": "克", "mg": "毫克", "l": "升", "ml": "毫升",
    "km/h": "公里每小时", "h": "小时", "min": "分钟", "s": "秒", "km²": "平方公里", "m²": "平方米", "°C": "摄氏度",
    "°F": "华氏度", "W": "瓦", "kW": "千瓦", "GB": "吉字节", "MB": "兆字节",
}  # fmt: skip
# num2words says their fractions in hundredths.
_POINT_WORDS = {"ar": "فاصلة", "tr": "virgül", "vi": "phẩy"}
# Where it has none for numbers below zero.
_MINUS = {"pl": "minus", "vi": "âm"}
# Languages that say 1984 otherwise than a count.
_YEARS = frozenset({"en", "de"})
YEARS = range(1100, 2100)
# Languages that write 1.234,5; the others write 1,234.5.
_DECIMAL_COMMA = frozenset({"ru", "es", "fr", "pt", "de", "it", "nl", "pl", "tr", "vi", "id"})
_CHINESE = "零一二三四五六七八九"
_NUMBER = r"\d+(?:[.,\u00a0\u202f ]\d{3})*(?:[.,]\d+)?|\d+"
# Numbers within words, such as covid19, stay; scripts without spaces write theirs between letters.
_BEFORE, _AFTER = r"(?<![A-Za-z\u00c0-\u024f\u0400-\u04ff\d.,_])", r"(?![A-Za-z\u00c0-\u024f\u0400-\u04ff\d_])"
_PATTERNS = (
    ("year", re.compile(r"(?<!\d)\d{4}(?=年)")),
    ("date", re.compile(r"(?<!\d)(\d{4})-(\d{1,2})-(\d{1,2})(?!\d)")),
    ("time", re.compile(r"(?<![\d:])([01]?\d|2[0-3]):([0-5]\d)(?![\d:])")),
    ("money", re.compile(rf"(US\$|[$€£¥₩₽₪฿₫])\s?({_NUMBER})(?![\w%])|{_BEFORE}({_NUMBER})\s?([€£₩₽₪฿₫元])")),
    (
        "unit",
        re.compile(
            rf"{_BEFORE}({_NUMBER})\s?({'|'.join(map(re.escape, sorted(_UNITS, key=len, reverse=True)))})(?![\w/²])"
        ),
    ),
    ("number", re.compile(rf"{_BEFORE}[-−]?(?:{_NUMBER}){_AFTER}")),
)


def say(text: str, language: str) -> str:
    """A text with its numbers and signs as words of the language; what has no such words stays as it is."""
    for kind, pattern in _PATTERNS:
        text = pattern.sub(partial(_READERS[kind], language), text)
    return re.sub(r"[ \t]{2,}", " ", text)


def number_words(value: float, language: str, *, year: bool = False) -> str:
    """A number in words; digits where the language's library has none for it.

    Raises:
        MissingDependencyError: num2words is not installed.
    """
    if language == "zh":
        return chinese_number(value)
    words = _num2words()
    if value < 0 and language in _MINUS:
        return f"{_MINUS[language]} {number_words(-value, language)}"
    if isinstance(value, float) and language in _POINT_WORDS:
        whole, _, fraction = repr(abs(value)).partition(".")
        said = [number_words(int(digit), language) for digit in fraction]
        return " ".join([number_words(int(math.copysign(int(whole), value)), language), _POINT_WORDS[language], *said])
    try:
        return str(words(value, lang=language, to="year" if year and language in _YEARS else "cardinal"))
    except (NotImplementedError, OverflowError, TypeError, ValueError, KeyError, IndexError, AttributeError):
        return str(value)


def chinese_number(value: float) -> str:
    """A number as Mandarin says it, up to 10^16 beyond which its digits are said one by one."""
    whole, _, fraction = repr(abs(value)).partition(".") if isinstance(value, float) else (str(abs(value)), "", "")
    sign = "负" if value < 0 else ""
    digits = "".join(_CHINESE[int(digit)] for digit in fraction) if fraction not in ("", "0") else ""
    if not whole.isdigit():
        return str(value)
    said = _chinese_whole(int(whole)) if len(whole) <= 16 else "".join(_CHINESE[int(digit)] for digit in whole)
    said = said[1:] if said.startswith("一十") else said
    return f"{sign}{said}{'点' + digits if digits else ''}"


def _chinese_whole(value: int) -> str:
    for unit, name in ((10**8, "亿"), (10**4, "万")):
        if value >= unit:
            high, low = divmod(value, unit)
            # A gap of zeros within the number is one 零.
            gap = "零" if 0 < low < unit // 10 else ""
            return _chinese_whole(high) + name + gap + (_chinese_whole(low) if low else "")
    return _chinese_group(value) if value else _CHINESE[0]


def _chinese_group(value: int) -> str:
    said, pending = "", False
    for unit, name in ((1000, "千"), (100, "百"), (10, "十"), (1, "")):
        digit = value // unit % 10
        if digit:
            said += ("零" if pending and said else "") + _CHINESE[digit] + name
            pending = False
        else:
            pending = True
    return said


def parsed(number: str, language: str) -> float:
    """A written number's value: an integer where it has no fraction."""
    plain = re.sub(r"[\u00a0\u202f ]", "", number.replace("−", "-"))
    point, group = (",", ".") if language in _DECIMAL_COMMA else (".", ",")
    # 3.5 is three and a half everywhere, and 1,234 a thousand: groups have three digits.
    if re.fullmatch(rf"-?\d{{1,3}}(?:{re.escape(group)}\d{{3}})+(?:{re.escape(point)}\d+)?", plain):
        plain = plain.replace(group, "")
    elif re.fullmatch(rf"-?\d+{re.escape(group)}\d+", plain):
        plain = plain.replace(group, point)
    plain = plain.replace(point, ".")
    return float(plain) if "." in plain else int(plain)


def _number(language: str, match: re.Match[str]) -> str:
    text = match[0]
    digits = text.lstrip("-−")
    # Telephone numbers and codes are said digit by digit; so is what begins with a zero.
    if len(digits) > 1 and digits.isdigit() and (digits[0] == "0" or len(digits) > 12):
        return " ".join(number_words(int(digit), language) for digit in digits)
    try:
        year = digits.isdigit() and int(digits) in YEARS
        return number_words(parsed(text, language), language, year=year)
    except ValueError:
        return text


def _year(language: str, match: re.Match[str]) -> str:
    """Chinese says the digits of a year one by one."""
    return "".join(_CHINESE[int(digit)] for digit in match[0]) if language == "zh" else match[0]


def _date(language: str, match: re.Match[str]) -> str:
    try:
        day = datetime.date(int(match[1]), int(match[2]), int(match[3]))
    except ValueError:
        return match[0]
    if language == "zh":
        return f"{''.join(_CHINESE[int(digit)] for digit in str(day.year))}年{day.month}月{day.day}日"
    written = str(_babel().dates.format_date(day, _DATES.get(language, "d MMMM y"), locale=_locale(language)))
    if language in ("en", "de"):
        ordinal = str(_num2words()(day.day, lang=language, to="ordinal")) + ("r" if language == "de" else "")
        written = re.sub(rf"\b{day.day}\b", ordinal, written, count=1)
    return written


def _time(language: str, match: re.Match[str]) -> str:
    hours, minutes = int(match[1]), int(match[2])
    if language in ("zh", "ja", "ko"):
        hour, minute = {"zh": ("点", "分"), "ja": ("時", "分"), "ko": ("시", "분")}[language]
        return f"{hours}{hour}{f'{minutes}{minute}' if minutes else ''}"
    said = number_words(hours, language)
    return f"{said} {number_words(minutes, language)}" if minutes else said


def _money(language: str, match: re.Match[str]) -> str:
    sign, number = (match[1], match[2]) if match[1] else (match[4], match[3])
    value = parsed(number, language)
    name = _babel().numbers.get_currency_name(_CURRENCIES[sign], value, locale=_locale(language))
    return _joined(number_words(value, language), str(name), language)


def _unit(language: str, match: re.Match[str]) -> str:
    value, unit = parsed(match[1], language), _UNITS[match[2]]
    said = number_words(value, language)
    if unit == "concentr-percent" and language in _PERCENT:
        return _PERCENT[language].format(said)
    if language == "zh":
        return said + _CHINESE_UNITS[match[2]]
    written = _babel().units.format_unit(value, unit, length="long", locale=_locale(language))
    # The word's form follows the number, which is said instead of its digits.
    found = re.search(r"[-−]?\d[\d.,\u00a0\u202f\u066b\u066c ]*\d|\d", written)
    if not found:
        return str(written)
    before, after = written[: found.start()].strip(), written[found.end() :].strip()
    return _joined(before, _joined(said, after, language), language)


def _joined(first: str, second: str, language: str) -> str:
    return "".join((first, second)) if language in ("zh", "ja") else " ".join(filter(None, (first, second)))


def _locale(language: str) -> str:
    """CLDR's name of a language: what it says of Chinese stands under the script."""
    return {"zh": "zh_Hans"}.get(language, language)


_READERS: Mapping[str, Callable[[str, re.Match[str]], str]] = {
    "year": _year, "date": _date, "time": _time, "money": _money, "unit": _unit, "number": _number,
}  # fmt: skip


@cache
def _num2words() -> Any:
    try:
        from num2words import num2words
    except ImportError as error:
        raise MissingDependencyError("num2words", "data", needed_for="saying numbers aloud") from error
    return num2words


@cache
def _babel() -> Any:
    try:
        import babel
        import babel.dates
        import babel.numbers
        import babel.units
    except ImportError as error:
        raise MissingDependencyError("babel", "data", needed_for="saying dates and units aloud") from error
    return babel
