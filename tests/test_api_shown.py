"""What is shown of an answer that could not be used: enough to know it by, and no personal data beyond ids."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harvester.api.shown import LOOKED_AT, MOST_SHOWN, shown
from harvester.model import Secret

MD5 = "0123456789abcdef0123456789abcdef"


@pytest.mark.parametrize(
    ("body", "outline"),
    [
        (b'[{"ID_message":"32443","email":"jan@example.com","ID_se', '[{"ID_message":"32443","email":"…","…'),
        (b'{"ID_SEND":5,"EMAIL":"jan', '{"ID_SEND":5,"EMAIL":"…'),
        (b'[{"phone":"420777123456","zip":"66902","custom_1":7}]', '[{"phone":"…","zip":"…","custom_1":…}]'),
        (b'{"jan@example.com":"1","a b":true,"id_x":"","y":null}', '{"…":"…","…":true,"id_x":"","y":null}'),
        (b'{"error_status":0,"error":"no jan@example.com"}', '{"error_status":0,"error":"no …"}'),
        (b'["Jan","Novak",7,{"ID_send":["1"]}]', '["…","…",…,{"ID_send":["…"]}]'),
        (b'"Jan Novak"', '"…"'),
        (b"<html><head><title>502 Bad\n Gateway</title></head><body>x", "502 Bad Gateway"),
        (b"<HTML><style>p{}</style><h1>Down</h1> ask jan@example.com </HTML>", "Down ask …"),
        (b"<p>call +420 777 123 456 now", "call … now"),
        (b"\xef\xbb\xbf upstream\x1b[31m connect\r\nerror", "upstream [31m connect error"),
        (b"user=jan%40example.com is away", "… is away"),
        (b'om","first_name":"Jan","last_name":"Nov', None),
        (b"<methodResponse><params><value><string>Jan</string>", "<methodResponse><params><value><string>…</string>"),
        (
            b"<name>ID_send</name><value><i4>7</i4><name>zip</name><i4>9</i4>",
            "<name>ID_send</name><value><i4>7</i4><name>zip</name><i4>…</i4>",
        ),
        (b'<?xml version="1.0"?>\n<array email="jan"><!-- Jan --><![CDATA[Jan]]><a', "<array><…><…><a>"),
        (b"<name>jan@example.com</name><string>Jan", "<name>…</name><string>…"),
        (b"<name>faultString</name><string>no jan@x.cz", "<name>faultString</name><string>no …"),
        (b"", ""),
        (b" \n", ""),
    ],
)
def test_an_answer_is_shown_by_its_outline(body: bytes, outline: str | None) -> None:
    text = shown(body)
    if outline is not None:
        assert text == outline
    assert not any(word in text for word in ("jan", "Jan", "Nov", "777", "66902"))


def test_it_is_short_and_on_one_line() -> None:
    text = shown(b"word\n" * 1000)
    assert text.startswith("word word")
    assert len(text) <= MOST_SHOWN + 1
    assert "\n" not in text


@pytest.mark.parametrize("before", range(LOOKED_AT - 40, LOOKED_AT + 4))
@pytest.mark.parametrize("filler", [" ", "x "])
def test_a_secret_is_hidden_before_anything_is_cut(before: int, filler: str) -> None:
    body = (filler * LOOKED_AT)[:before] + MD5 + " " + MD5.upper()
    assert MD5[:6] not in shown(body.encode(), Secret(MD5).hidden_in).lower()
    assert MD5[:6] not in shown(("down " + body).encode(), Secret(MD5).hidden_in).lower()


PERSON = st.fixed_dictionaries(
    {
        "ID_send": st.integers(1, 2**60).map(str),
        "email": st.just("zuzana@zz.cz"),
        "first_name": st.sampled_from(["Zuzana", 'Zu"zana', "Zu\\zana", "Zu<zana>", "Zu,zana"]),
        "phone": st.just("420777123456"),
    }
)


@given(st.lists(PERSON, min_size=1, max_size=3), st.integers(0, 40), st.integers(30, 400))
def test_no_part_of_a_list_of_people_shows_them(people: list[dict[str, str]], start: int, length: int) -> None:
    text = shown(json.dumps(people).encode()[start : start + length]).lower()
    assert not any(part in text for part in ("zana", "zuz", "@", "zz.cz", "777123"))


@given(st.binary(max_size=200))
def test_any_bytes_can_be_shown(body: bytes) -> None:
    text = shown(body)
    assert text.isprintable()
    assert len(text) <= MOST_SHOWN + 1
