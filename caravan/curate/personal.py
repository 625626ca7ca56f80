"""Whether what stands at a place in a text is personal data: an email address, IP address, telephone number or id.

Telephone numbers are checked by libphonenumber (github.com/daviddrysdale/python-phonenumbers). Most numbers of eight to
ten digits are valid somewhere, so that one must also be written as a telephone number, or be called one.
"""

from __future__ import annotations

import ipaddress
import re
import unicodedata
from collections.abc import Sequence
from typing import NamedTuple

import phonenumbers
from phonenumbers import Leniency, PhoneNumberMatcher, PhoneNumberType

from caravan.curate import spans
from caravan.curate.national_ids import is_national_id, is_valid
from caravan.recipe.privacy import PrivacyConfig

# RFC 2606: names that belong to nobody.
EXAMPLES = re.compile(r"(^|\.)(example(\.(com|net|org|edu))?|test|invalid|localhost)$", re.IGNORECASE)

VERSION = re.compile(
    r"(version|versión|versão|versione|wersja|sürüm|верси[яию]|버전|バージョン|版本|\bver\.?|\bv\.?|[§=~])\W{0,3}$",
    re.IGNORECASE,
)
NETWORK = re.compile(r"/\d")
ADDRESS = re.compile(r"\b(ip|ipv4|host|server|addr(ess)?)\W{0,3}$", re.IGNORECASE)

# What stands before a telephone number.
CALLED = re.compile(
    r"(\btel(\b|[eé]f)|phone|\bfax|mobil|\bcell\b|whatsapp|hotline|\bcall\b|☎|📞|电话|電話|手机|手機|传真|ファックス|携帯"
    r"|전화|연락처|휴대폰|팩스|\bтел|факс|\bзвон|هاتف|جوال|موبايل|فاكس|\bטל|נייד|פקס|โทร|เบอร์|แฟกซ์|điện thoại"
    r"|\bsđt\b|\bđt\b|hubungi|\bhp\b|móvil|celular|cellulare|portable"
    r"|\bappel|\bllam|\bligue|zadzwo|\bkom\.|\bcep\b|\bgsm\b|\bbel\b)\D{0,12}$",
    re.IGNORECASE,
)
# How telephone numbers are written and little else is: an area code in brackets, the 0 or the 8 before one, three
# groups with hyphens or dots (North America), a mobile number of China, and one of Brazil.
WRITTEN = re.compile(
    r"\(\d{2,5}\) ?\d.*|0[1-9][\d ()/.-]*|8[ (-]+\d{3}\)?[ -]?\d{3}[ -]\d\d[ -]\d\d|\d{3}([-.])\d{3}\1\d{4}"
    r"|1[3-9]\d([ -]?\d{4}){2}|\d{2} 9?\d{4}-\d{4}"
)
YEAR = r"(1[89]|20|25)\d\d"
DATE = re.compile(rf"(\d{{1,2}}[./-]\d{{1,2}}[./-]{YEAR}|{YEAR}[./-]\d{{1,2}}[./-]\d{{1,2}})(\D.*)?")
DECIMAL = re.compile(r"\d+\.\d+")
# A number that is part of a word, an amount, a time, a path or an ISBN is none by itself.
NOT_BEFORE = re.compile(r"([\w#$€£¥₹₽฿%^\\]|\d[.,:]|\w[-/+]|isbn\W{0,3}(1[03])?\W{0,3})$", re.ASCII | re.IGNORECASE)
NOT_AFTER = re.compile(r"[A-Za-z_%°]|[.,:]\d|[-/]\w| ?[€$£₽฿]", re.ASCII)
FEWEST_DIFFERENT = 4  # digits: 0000 0000 and 0101 0101 are no numbers of anybody
IN_ORDER = "01234567890123456789"
MOBILE = (PhoneNumberType.MOBILE, PhoneNumberType.FIXED_LINE_OR_MOBILE)
DIGITS_OF_ALL = {zero + value: str(value) for zero in (0x660, 0x6F0, 0xE50) for value in range(10)}


class Place(NamedTuple):
    """A place in a text of which a pass over the bytes says that personal data may stand there.

    Attributes:
        kind: as in `spans`.
        before, after: a little of what stands around it.
    """

    kind: int
    text: str
    before: str
    after: str
    language: str


def is_email(place: Place) -> bool:
    name, _, domain = place.text.partition("@")
    whole = not place.before.endswith("@") and not name.endswith(".") and ".." not in place.text
    return whole and not EXAMPLES.search(domain)


def is_address(place: Place, private: bool) -> bool:
    """Whether this is an IP address; `private`: also one that is not reachable from everywhere."""
    try:
        address = ipaddress.ip_address(place.text)
    except ValueError:
        return False
    if NETWORK.match(place.after) or (place.kind == spans.QUAD and not _is_quad(place)):
        return False
    return private or address.is_global


def _is_quad(place: Place) -> bool:
    """Version and section numbers look like addresses, mostly of small numbers."""
    if re.search(r"[\w.,/-]$", place.before, re.ASCII) and not place.before.endswith("//"):
        return False
    if ADDRESS.search(place.before):
        return True
    return not VERSION.search(place.before) and sum(len(number) > 1 for number in place.text.split(".")) > 1


def is_phone(place: Place, countries: Sequence[str]) -> bool:
    """Whether this is a telephone number, of any country after a +, else of these."""
    text = place.text
    digits = re.sub(r"\D", "", text)
    if "+" in text[:2]:
        return _number(text, None) is not None
    called = CALLED.search(place.before) is not None
    if not called and (len(set(digits)) < FEWEST_DIFFERENT or digits in IN_ORDER or is_valid("isbn", digits)):
        return False
    if text.startswith("00"):
        return _number(f"+{text[2:]}", None) is not None
    if not called and not WRITTEN.fullmatch(text):
        return False
    return any(_is_national(text, country, only_mobile=not called and text == digits) for country in countries)


def _number(text: str, country: str | None) -> phonenumbers.PhoneNumber | None:
    """The valid number that this is, if any."""
    try:
        number = phonenumbers.parse(text, country)
    except phonenumbers.NumberParseException:
        return None
    return number if phonenumbers.is_valid_number(number) else None


def _is_national(text: str, country: str, *, only_mobile: bool) -> bool:
    """Whether all of it is a valid number of a country, in groups as they are usual there or in one.

    Args:
        only_mobile: where nothing but its digits tells of a telephone, as with article numbers that begin with 0.
    """
    number = _number(text, country)
    if number is None or (only_mobile and phonenumbers.number_type(number) not in MOBILE):
        return False
    found = next(iter(PhoneNumberMatcher(text, country, leniency=Leniency.STRICT_GROUPING)), None)
    return found is not None and len(found.raw_string) >= len(text.strip("() "))


def is_loose(place: Place) -> bool:
    """Whether a number is one by itself, not part of a word, an amount or a path, and neither date nor decimal."""
    return not (
        DATE.fullmatch(place.text)
        or NOT_BEFORE.search(place.before)
        or NOT_AFTER.match(place.after)
        or DECIMAL.fullmatch(place.text)
    )


def plain(text: str) -> str:
    """Digits of all scripts, blanks and hyphens as ASCII has them."""
    if text.isascii():
        return text
    return re.sub("[‐-―]", "-", unicodedata.normalize("NFKC", text)).translate(DIGITS_OF_ALL)


def kind_of_data(place: Place, config: PrivacyConfig) -> str | None:
    """Which kind of personal data stands at a place: email, ip, phone or id; None for none."""
    if place.kind == spans.EMAIL:
        return "email" if is_email(place) else None
    if place.kind in (spans.QUAD, spans.HEX):
        return "ip" if is_address(place, config.private_ips) else None
    place = place._replace(text=plain(place.text))
    if not is_loose(place):
        return None
    if is_national_id(place.text, place.before, place.language):
        return "id"
    countries = config.countries.get(place.language, [])
    return "phone" if place.kind == spans.DIGITS and is_phone(place, countries) else None
