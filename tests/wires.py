"""The same records over both wires: small renderers, which share nothing with the codecs, and strategies for them."""

from __future__ import annotations

import json
import random
import re
from base64 import b64encode
from collections.abc import Sequence
from typing import TypeAlias

from hypothesis import strategies as st

from harvester.datasets import BOUNCES

KEY = "ID_SEND_MESSAGE"
NAMES = [column.api_name for column in BOUNCES.fields if column.api_name != KEY]
UNKNOWN = ["NEW_FIELD", "žluťoučký", "<&>", "a\x01b", ""]

Value: TypeAlias = "bytes | int | bool | list[Value] | dict[bytes, Value] | None"
"""A value as it is meant: a text is its bytes, UTF-8 or not."""

Record = dict[str, Value]

AWKWARD = [
    *(text.encode() for text in ["<", ">", "&", '"', "'", "]]>", "&amp;lt;", "&#0;", "<![CDATA[x]]>", "<!-- ", "\\"]),
    *(
        text.encode()
        for text in ["\r\n", "\r", "\t", " ", "\0", "\x01", "\x7f", "\ufdd0", "\ufdd0ff", "\ufffe", "\uffff"]
    ),
    *(text.encode() for text in ["ř", "😀", "null", "007", "-0", "},{", "</string></value></member></struct></value>"]),
    *(b"\xff", b"\xc3", b"\xed\xa0\xbd", b"\xf0\x9f\x98", b"\xed\xa0\xbd\xed\xb8\x80", b"2016-06-20 14:37:47"),
]
texts = st.one_of(
    st.sampled_from([b"", b"5.1.1", *AWKWARD]),
    st.lists(st.sampled_from(AWKWARD), max_size=4).map(b"".join),
    st.text(max_size=6).map(str.encode),
    st.binary(max_size=4),
)
plain_texts = st.sampled_from([b"", b"5.1.1", b"a & b", b"<x>", "žluť".encode(), b"a]]>b", b"\r\n"])
ids = st.integers(-(2**63), 2**63 - 1) | st.integers(2**53, 2**53 + 3)
nested = st.recursive(
    texts | st.integers(-(2**40), 2**40) | st.booleans() | st.none(),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(texts, inner, max_size=2),
    max_leaves=4,
)
cased = st.sampled_from([str.upper, str.lower, str.title])


@st.composite
def alike(draw: st.DrawFn) -> list[Record]:
    """Records as the API sends them: the same fields in each, in the same order; seldom one that is foul."""
    kinds: dict[str, st.SearchStrategy[Value]] = {KEY: ids}
    case = draw(cased)
    for name in draw(st.lists(st.sampled_from(NAMES), unique=True)):
        kinds[case(name)] = draw(st.sampled_from([plain_texts, plain_texts | ids, plain_texts | st.none(), texts]))
    for name in draw(st.lists(st.sampled_from(UNKNOWN), unique=True, max_size=2)):
        kinds[name] = draw(st.sampled_from([plain_texts, plain_texts | st.none(), st.booleans()]))
    return draw(st.lists(st.fixed_dictionaries(kinds), min_size=2, max_size=6))


@st.composite
def unlike(draw: st.DrawFn) -> list[Record]:
    """Records of the same spelling in which fields are missing and change places."""
    records = draw(alike())
    chance = draw(st.randoms(use_true_random=False))
    kept = [[name for name in record if name == KEY or chance.random() < 0.8] for record in records]
    for names in kept:
        if chance.random() < 0.3:
            chance.shuffle(names)
    return [{name: record[name] for name in names} for names, record in zip(kept, records, strict=True)]


@st.composite
def anything(draw: st.DrawFn) -> list[Record]:
    """Records that agree in nothing, not even in how they spell a field."""
    names = st.builds(lambda name, case: case(name), st.sampled_from([KEY, *NAMES]), cased) | st.sampled_from(UNKNOWN)
    return draw(st.lists(st.dictionaries(names, nested, max_size=6), min_size=2, max_size=4))


records = alike() | unlike() | anything()


def json_body(records: Sequence[Record], chance: random.Random) -> bytes:
    """The records as a JSON list; what may be written in two ways is written by chance."""
    objects = [
        b"{"
        + b",".join(json_text(name.encode(), chance) + b":" + json_value(value, chance) for name, value in r.items())
        + b"}"
        for r in records
    ]
    between = chance.choice([b",", b",\n ", b" , "])
    return b"[" + between.join(objects) + b"]"


def json_value(value: Value, chance: random.Random, *, nested: bool = False) -> bytes:
    if isinstance(value, bytes):
        return json_text(value, None if nested else chance)
    if isinstance(value, list):
        return b"[" + b",".join(json_value(inner, chance, nested=True) for inner in value) + b"]"
    if isinstance(value, dict):
        pairs = (json_text(name, None) + b":" + json_value(inner, chance, nested=True) for name, inner in value.items())
        return b"{" + b",".join(pairs) + b"}"
    literal = json.dumps(value)
    return f'"{literal}"'.encode() if type(value) is int and not nested and chance.random() < 0.5 else literal.encode()


_SHORT = {8: b"\\b", 9: b"\\t", 10: b"\\n", 12: b"\\f", 13: b"\\r", 34: b'\\"', 92: b"\\\\"}


def json_text(value: bytes, chance: random.Random | None) -> bytes:
    """A text: bytes as they are, half a pair as they are or escaped. Without ``chance`` always the same way."""

    def escaped(found: re.Match[bytes]) -> bytes:
        char = found[0]
        if len(char) == 6:
            return char  # two escapes would be a whole pair, which is another text
        if len(char) == 3:
            if chance is None or chance.random() < 0.5:
                return char
            return b"\\u%04x" % ord(char.decode("utf-8", "surrogatepass"))
        if char in b'"\\' or chance is None or chance.random() < 0.5:
            return _SHORT.get(char[0], b"\\u%04x" % char[0])
        return char

    return (
        b'"'
        + re.sub(
            rb'[\x00-\x1f"\\]|\xed[\xa0-\xaf][\x80-\xbf]\xed[\xb0-\xbf][\x80-\xbf]|\xed[\xa0-\xbf][\x80-\xbf]',
            escaped,
            value,
        )
        + b'"'
    )


class Style:
    """How XML is written: the whitespace between elements, and what is done by chance."""

    def __init__(self, chance: random.Random) -> None:
        self.chance = chance
        self.space = chance.choice([b"", b"", b"\n", b"\r\n  "])
        self.inner = chance.choice([b"", b"", self.space])
        self.untyped = chance.random() < 0.3
        self.odd = chance.random() < 0.3  # comments, CDATA and references here and there


def xml_body(records: Sequence[Record], chance: random.Random, style: Style | None = None) -> bytes:
    """The records as a method response."""
    style = style or Style(chance)
    structs = (
        b"<value>" + style.inner + xml_struct([(n.encode(), v) for n, v in r.items()], style) + b"</value>"
        for r in records
    )
    return response(b"<array>" + b"<data>" + style.space.join([b"", *structs, b""]) + b"</data></array>", style.space)


def response(value: bytes, space: bytes = b"") -> bytes:
    parts = [b'<?xml version="1.0" encoding="utf-8"?>', b"<methodResponse>", b"<params>", b"<param>"]
    return space.join([*parts, b"<value>" + value + b"</value>", b"</param>", b"</params>", b"</methodResponse>", b""])


def xml_struct(members: list[tuple[bytes, Value]], style: Style) -> bytes:
    parts = [b"<struct>"]
    for name, value in members:
        parts += [b"<member>", b"<name>" + xml_text(name, style) + b"</name>"]
        parts += [b"<value>" + xml_value(value, style) + b"</value>", b"</member>"]
    return style.space.join([*parts, b"</struct>"])


def xml_value(value: Value, style: Style) -> bytes:
    chance = style.chance
    if isinstance(value, bytes):
        if style.odd and chance.random() < 0.2:
            return style.inner + b"<base64>" + b64encode(value) + b"</base64>" + style.inner
        if not value and chance.random() < 0.5:
            return style.inner + b"<string/>" + style.inner
        if style.untyped and chance.random() < 0.3:
            return xml_text(value, style)
        inner = b"<string>" + xml_text(value, style) + b"</string>"
    elif isinstance(value, bool):
        inner = b"<boolean>%d</boolean>" % value
    elif isinstance(value, int):
        inner = b"<i4>%d</i4>" % value if -(2**31) <= value < 2**31 else b"<i8>%d</i8>" % value
    elif value is None:
        inner = b"<nil/>"
    elif isinstance(value, list):
        values = b"".join(b"<value>" + xml_value(inner, style) + b"</value>" for inner in value)
        inner = b"<array><data>" + values + b"</data></array>"
    else:
        inner = xml_struct(list(value.items()), style)
    return style.inner + inner + style.inner


_ESCAPES = {b"&": b"&amp;", b"<": b"&lt;", b">": b"&gt;", b"\r": b"&#13;", b'"': b"&quot;", b"'": b"&#39;"}


def xml_text(value: bytes, style: Style) -> bytes:
    """A text; what XML forbids is in it raw, or as a reference."""

    def escaped(found: re.Match[bytes]) -> bytes:
        char = found[0]
        if char in b"&<" or (char in _ESCAPES and style.chance.random() < 0.5):
            return _ESCAPES[char]
        if style.odd and style.chance.random() < 0.3:
            return b"&#x%X;" % ord(char.decode("utf-8", "surrogatepass"))
        return char

    if style.odd and b"]]>" not in value and style.chance.random() < 0.1:
        return b"<![CDATA[" + value + b"]]>"
    text = re.sub(rb"[\x00-\x1f&<>\"']|\xed[\xa0-\xbf][\x80-\xbf]|\xef\xbf[\xbe\xbf]|\xef\xb7\x90", escaped, value)
    return text + b"<!-- \xff & -->" if style.odd and style.chance.random() < 0.05 else text


def pieces(body: bytes, chance: random.Random) -> list[bytes]:
    """The body split anywhere."""
    most = chance.choice([1, 7, 100, len(body) + 1])
    found: list[bytes] = []
    place = 0
    while place < len(body):
        size = chance.randint(1, most)
        found.append(body[place : place + size])
        place += size
    return found
