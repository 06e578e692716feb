"""Mutators: of bytes, of a wire's tokens, and of records before they are written. Each makes one change."""

from __future__ import annotations

import random
import re
from collections.abc import Callable, Sequence

from harvester.config import Wire
from harvester.datasets import Column
from tests import wires
from tests.fuzz.seeds import DATASETS

_LONGEST = 16_000

NUMBERS = (
    b"0 -0 -1 1 01 +1 1. .5 0.1 1.0 1e5 1E-400 1e999 -1e999 0x10 NaN Infinity -Infinity 2147483648 -2147483649 "
    b"9223372036854775807 9223372036854775808 -9223372036854775808 -9223372036854775809 18446744073709551616 "
    b"9007199254740993 99999999999999999999999999 1_000 true false null"
).split()
TEXTS = (
    *(b"0000-00-00 00:00:00", b"2016-06-20 14:37:47", b"2016-02-30 00:00:00", b"0001-01-01 00:00:00"),
    *(b"9999-12-31 23:59:59", b"10000-01-01 00:00:00", b"2016-06-20 24:00:00", b"2016-06-20 14:37:60"),
    *(b"2016-06-20T14:37:47", b" 5", b"5 ", b"", b" ", b"007", b"1_0", "١٢".encode(), b"5\n"),
)
FOUL = (
    *(b"\0", b"\x01", b"\x0b", b"\x1f", b"\x7f", b"\r", b"\r\n", b"\n", b"\t", b"\xc3", b"\xff", b"\xc0\x80"),
    *(b"\xed\xa0\xbd", b"\xed\xb8\x80", b"\xed\xa0\xbd\xed\xb8\x80", b"\xf0\x9f\x98", b"\xf4\x90\x80\x80"),
    *(b"\xef\xbb\xbf", b"\xef\xb7\x90", b"\xef\xb7\x90ff", b"\xef\xbf\xbe", b"\xef\xbf\xbf", b"\xef\xbf\xbd"),
    *(text.encode() for text in ("\x85", "\u2028", "\u212a", "İ", "ř", "😀", "\U000f0080", "\U0010ffff")),
)
_JSON = (
    *(b"{", b"}", b"[", b"]", b",", b":", b'"', b"\\", b"},{", b"}, {", b'"},{"', b"[]", b"{}", b'""', b"/* */", b"//"),
    *(rb"\u0000", rb"\ud83d", rb"\ude00", rb"\ud83d\ude00", rb"\ude00\ud83d", rb"\ufdd0", rb"\uFDD0ff", rb"\uffff"),
    *(rb"\n", rb"\/", rb"\b", rb"\x41", rb"\u12", rb"\\", rb"\"", rb"\\u0000", rb"\u0065\u0072", rb"\u00e9"),
    *(b'{"a":{"b":[1,2,{"c":null}]}}', b'[[["x"]]]', b'"a":1,', b',"error":"x"', b'"$base64":"AAE="', b"'"),
)
_XML = (
    *(b"<", b">", b"&", b"/", b"</", b"/>", b"&amp;", b"&lt;", b"&quot;", b"&apos;", b"&#0;", b"&#x0;", b"&#13;"),
    *(b"&#xD83D;", b"&#xDE00;", b"&#x1F600;", b"&#xFFFE;", b"&#65;", b"&#x41;", b"&#x110000;", b"&nbsp;", b"&x;"),
    *(b"&#xFDD0;", b"&#xFDD0;ff", b"&#0065;", b"&#", b"&#x;", b"<!--", b"-->", b"<!-- a -->", b"<!-- -- -->"),
    *(b"<![CDATA[", b"]]>", b"<![CDATA[x]]>", b"<![CDATA[<&>]]>", b"<![CDATA[]]]]>", b"<?x y?>", b"<?xml?>", b"?>"),
    *(b"<!DOCTYPE a>", b'<!ENTITY a "b">', b"<value>", b"</value>", b"<value/>", b"<struct>", b"</struct>", b"<nil/>"),
    *(b"<ex:nil/>", b"<struct/>", b"<array><data/></array>", b"<array/>", b"<data>", b"</data>", b"<array>"),
    *(b"<string>", b"</string>", b"<string/>", b"<i4>", b"</i4>", b"<name>", b"</name>", b"<member>", b"</member>"),
    *(b"<i4>5</i4>", b"<double>1.50</double>", b"<boolean>1</boolean>", b"<boolean>2</boolean>", b"<i8>-0</i8>"),
    *(b"<base64>AAE=</base64>", b"<base64>/w==</base64>", b"<base64>A</base64>", b"<string a='b'>", b"<string >"),
    *(b'<string xmlns="urn:x">', b'<n:string xmlns:n="urn:x">', b"<n:string>", b"<answer>", b"</answer>"),
    *(b"<dateTime.iso8601>20160620T14:37:47</dateTime.iso8601>", b"<STRING>", b"</methodResponse>", b"<fault>"),
    *(b"<value><string>a</string></value>", b"<member><name>a</name><value>b</value></member>", b"<params/>"),
)
_ENCODINGS = (b"utf-8", b"UTF8", b"us-ascii", b"iso-8859-1", b"iso-8859-2", b"windows-1250", b"cp1252", b"utf-16", b"x")
_TAGS = b"value struct member name array data string i4 int i8 double boolean nil base64 param params fault x".split()
_TOKENS = {
    Wire.JSON: re.compile(rb'"[^"\\]*(?:\\.[^"\\]*)*"|[][{}:,]|[^][{}:,"\s]+|\s+|"', re.DOTALL),
    Wire.XML: re.compile(rb"<!--.*?-->|<!\[CDATA\[.*?\]\]>|<[^<>]*>|[^<]+|<", re.DOTALL),
}


def body(wire: Wire, text: bytes, other: bytes, chance: random.Random) -> bytes:
    """The body with one more change; ``other`` is what may be taken from."""
    if chance.random() < 0.45:
        changed = raw(text, other, chance)
    elif chance.random() < 0.5:
        changed = _inserted(wire, text, chance)
    else:
        changed = _tokens(wire, text, other, chance)
    return changed[:_LONGEST]


def raw(text: bytes, other: bytes, chance: random.Random) -> bytes:
    """Bytes flipped, put in, left out, doubled, moved, cut off, or taken from elsewhere."""
    if not text:
        return other
    place = chance.randrange(len(text))
    at, to = sorted((place, chance.randint(0, len(text))))
    near = min(len(text), at + chance.randint(1, 24))
    theirs = chance.randint(0, len(other))
    piece = other[theirs : theirs + chance.randint(1, 200)]
    changed = (
        text[:place] + bytes([text[place] ^ (1 << chance.randrange(8))]) + text[place + 1 :],
        text[:place] + bytes([chance.randrange(256)]) + text[place + 1 :],
        text[:at] + bytes([chance.randrange(256)]) + text[at:],
        text[:at] + text[near:],
        text[:near] + text[at:near] * chance.randint(1, 3) + text[near:],
        text[:at],
        text[at:],
        text[:at] + text[to:],
        text[:to] + text[at:],
        text[:at] + piece + text[at:],
        text[:at] + other[theirs:],
    )
    return chance.choice(changed)


def _inserted(wire: Wire, text: bytes, chance: random.Random) -> bytes:
    """Something that the wire's grammar knows, or that no text holds, anywhere or in place of something like it."""
    if wire is Wire.XML and chance.random() < 0.05:
        return b'<?xml version="1.0" encoding="%s"?>' % chance.choice(_ENCODINGS) + text[text.find(b"?>") + 2 :]
    piece = chance.choice(chance.choice([_JSON if wire is Wire.JSON else _XML, NUMBERS, TEXTS, FOUL]))
    at = chance.randint(0, len(text))
    if chance.random() < 0.5:  # at a border between tokens rather than anywhere
        at = max(text.find(b'"' if wire is Wire.JSON else b">", at), 0) + chance.randint(0, 1)
    return text[:at] + piece + text[at + (chance.random() < 0.3) * chance.randint(1, 5) :]


def _tokens(wire: Wire, text: bytes, other: bytes, chance: random.Random) -> bytes:
    """Tokens left out, doubled, swapped, replaced; an element renamed; many put in one another."""
    tokens = _TOKENS[wire].findall(text)
    if not tokens:
        return other
    at, to = sorted((chance.randrange(len(tokens)), chance.randrange(len(tokens))))
    match chance.randrange(8):
        case 0:
            del tokens[at : at + chance.randint(1, 3)]
        case 1:
            tokens[at:at] = tokens[at : at + chance.randint(1, 8)]
        case 2:
            tokens[at], tokens[to] = tokens[to], tokens[at]
        case 3:
            theirs = _TOKENS[wire].findall(other)
            tokens[at] = chance.choice(theirs) if theirs else b""
        case 4:
            tokens[at] = _value(wire, tokens[at], chance)
        case 5:
            tokens[to:to] = tokens[at : at + 12]
        case 6 if wire is Wire.XML:
            old, new = chance.choice(_TAGS), chance.choice(_TAGS)
            names = [number for number, token in enumerate(tokens) if token.strip(b"</> ") == old]
            pair = slice(None) if chance.random() < 0.2 else slice(place := chance.randrange(len(names) + 1), place + 2)
            for number in names[pair]:
                tokens[number] = tokens[number].replace(old, new)
        case _:
            depth = chance.choice([1, 2, 5, 60, 70, 300, 3000])
            before, after = (b"[", b"]") if wire is Wire.JSON else (b"<array><data><value>", b"</value></data></array>")
            tokens[at] = before * depth + tokens[at] + after * depth
    return b"".join(tokens)


def _value(wire: Wire, token: bytes, chance: random.Random) -> bytes:
    """Another value in place of one."""
    piece = chance.choice(chance.choice([NUMBERS, TEXTS, FOUL]))
    if wire is Wire.JSON:
        return piece if chance.random() < 0.5 else b'"' + piece.replace(b"\n", rb"\n") + b'"'
    if token.startswith(b"<") and not token.startswith(b"</"):
        return token + piece
    return piece


def records(sent: Sequence[wires.Record], dataset: str, chance: random.Random) -> list[wires.Record]:
    """Records with changes: fields and rows left out, doubled, renamed, in another order, with other values."""
    rows = [dict(record) for record in sent]
    fields = DATASETS[dataset].fields
    for _ in range(chance.choice([0, 1, 2, 4])):
        if not rows:
            break
        change = chance.choice(_CHANGES)
        if chance.random() < 0.3:
            common = chance.getrandbits(32)  # the same change to all
            for row in rows:
                change(row, fields, random.Random(common))
        else:
            change(chance.choice(rows), fields, chance)
    if chance.random() < 0.15 and rows:
        rows = rows * chance.randint(2, 4)
    return rows[: chance.randint(0, 3)] if chance.random() < 0.1 else rows


def _dropped(row: wires.Record, _: Sequence[Column], chance: random.Random) -> None:
    if row:
        del row[chance.choice(list(row))]


def _renamed(row: wires.Record, _: Sequence[Column], chance: random.Random) -> None:
    if row:
        name = chance.choice(list(row))
        row[chance.choice([name.upper(), name.lower(), name.title(), name + "x", "error", ""])] = row.pop(name)


def _added(row: wires.Record, fields: Sequence[Column], chance: random.Random) -> None:
    name = chance.choice(fields).api_name
    row[chance.choice([name, name.upper(), name.lower(), name.swapcase(), "NEW", "a b"])] = value(chance)


def _changed(row: wires.Record, _: Sequence[Column], chance: random.Random) -> None:
    if row:
        row[chance.choice(list(row))] = value(chance)


def _shuffled(row: wires.Record, _: Sequence[Column], chance: random.Random) -> None:
    items = list(row.items())
    chance.shuffle(items)
    row.clear()
    row.update(items)


_CHANGES: Sequence[Callable[[wires.Record, Sequence[Column], random.Random], None]] = (
    _dropped,
    _renamed,
    _added,
    _changed,
    _changed,
    _shuffled,
)


def value(chance: random.Random, depth: int = 0) -> wires.Value:
    """Any value: a text, UTF-8 or not, a number, a boolean, nothing; up to two deep."""
    kind = chance.randrange(9 if depth < 2 else 7)
    if kind < 3:
        return b"".join(chance.choices([*wires.AWKWARD, *FOUL, *TEXTS, *NUMBERS, b"a"], k=chance.choice([1, 1, 2, 4])))
    if kind < 5:
        return chance.choice([0, 1, -1, 2**31, 2**53 + 1, 2**63 - 1, 2**63, -(2**63), -(2**64), chance.getrandbits(40)])
    if kind < 7:
        return chance.choice([True, False, None])
    if kind == 7:
        return [value(chance, depth + 1) for _ in range(chance.randint(0, 2))]
    return {
        chance.choice([b"a", b"b", b"\xff", b"error"]): value(chance, depth + 1) for _ in range(chance.randint(0, 2))
    }


__all__ = ["body", "raw", "records", "value"]
