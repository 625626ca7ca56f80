from __future__ import annotations

import ipaddress

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from caravan.curate import spans
from caravan.curate.spans import DIGITS, EMAIL, HEX, QUAD, TOKEN, find_spans

ALPHABET = "ab@.+-_/:#()0123456789 \n\t٣۴๕３éЖ語ไ–\u00a0\u202fa0b1"


def found(text: str) -> list[tuple[int, str]]:
    return [(kind, text.encode()[start:end].decode()) for _, kind, start, end in find_spans(pa.array([text])).tolist()]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("mail to (ann.b+c@mail.example.org).", [(EMAIL, "ann.b+c@mail.example.org")]),
        ("请写信到ann@b.cn，谢谢", [(EMAIL, "ann@b.cn")]),
        ("12345678@b.com", [(EMAIL, "12345678@b.com")]),
        ("@home a@b user@host @c.de x@y.z1", []),
        ("at 10.1.2.33:80, not 1.2.3.4.5 or 1.2.3", [(QUAD, "10.1.2.33")]),
        ("[2001:db8::1] 2001:0db8:0:0:0:0:0:1 2:55:00 3000:1:2",
         [(HEX, "2001:db8::1"), (HEX, "2001:0db8:0:0:0:0:0:1")]),
        ("+49 (30) 901-820 or (0)30/901820", [(DIGITS, "+49 (30) 901-820"), (DIGITS, "(0)30/901820")]),
        ("هاتف ٠١٠٠١٢٣٤٥٦٧ โทร ๐๒-๑๒๓-๔๕๖๗", [(DIGITS, "٠١٠٠١٢٣٤٥٦٧"), (DIGITS, "๐๒-๑๒๓-๔๕๖๗")]),
        ("０９０−１２３４−５６７８ 電話090-1234-5678まで", [(DIGITS, "090-1234-5678")]),
        ("12 345, 67 890", []),
        ("1234 - 5678", [(DIGITS, "1234 - 5678")]),
        ("0612345678 0698765432 and 061234567 81.27.104.9",
         [(DIGITS, "0612345678"), (DIGITS, "0698765432"), (DIGITS, "061234567"), (QUAD, "81.27.104.9")]),
        ("DNI 12345678Z, 12345678-Z, 12345678-Zorro", [(TOKEN, "12345678Z"), (TOKEN, "12345678-Z")]),
        ("a1234567 abcdefghi0123456789", []),
        ("first 1234567\nsecond 7654321", [(DIGITS, "1234567"), (DIGITS, "7654321")]),
    ],
)  # fmt: skip
def test_places_are_found(text: str, expected: list[tuple[int, str]]) -> None:
    assert found(text) == expected


@settings(deadline=None, derandomize=True)
@given(st.lists(st.text(ALPHABET, max_size=60), min_size=1, max_size=5))
def test_places_are_pieces_of_their_text_that_do_not_overlap(texts: list[str]) -> None:
    places = find_spans(pa.array(texts)).tolist()
    assert [row for row, *_ in places] == sorted(row for row, *_ in places)
    last = dict.fromkeys(range(len(texts)), 0)
    for row, kind, start, end in places:
        piece = texts[row].encode()[start:end].decode()
        assert last[row] <= start < end <= len(texts[row].encode())
        last[row] = end
        if kind == EMAIL:
            assert piece.count("@") == 1
        if kind in (DIGITS, TOKEN):
            assert sum(character.isdecimal() for character in piece) >= 6


@settings(deadline=None, derandomize=True)
@given(
    st.ip_addresses(v=4),
    st.sampled_from(["", " ", "(", "語", "\n", "http://"]),
    st.sampled_from(["", " ", ")", "。", ":80"]),
)
def test_every_address_of_version_4_is_found(address: ipaddress.IPv4Address, before: str, after: str) -> None:
    assert found(f"{before}{address}{after}") == [(QUAD, str(address))]


@settings(deadline=None, derandomize=True)
@given(st.ip_addresses(v=6, network="2000::/3"), st.booleans())
def test_every_public_address_of_version_6_is_found(address: ipaddress.IPv6Address, whole: bool) -> None:
    written = address.exploded if whole else address.compressed
    assert found(f"see [{written}]:80") == [(HEX, written)]


def test_more_places_than_there_was_room_for(monkeypatch: pytest.MonkeyPatch) -> None:
    text = " ".join(f"{number:08d}," for number in range(1, 40))
    whole = find_spans(pa.array([text, text]))
    monkeypatch.setattr(spans, "ROOM", 3)
    np.testing.assert_array_equal(find_spans(pa.array([text, text])), whole)
    assert len(whole) == 78


def test_slices_and_nothing() -> None:
    assert find_spans(pa.array(["1234567", "no", "7654321"]).slice(1)).tolist() == [[1, DIGITS, 0, 7]]
    assert find_spans(pa.array([], pa.string())).shape == (0, 4)
