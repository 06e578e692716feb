"""Bytes that are not text: sent as they are over either wire, and told by the truth as a lake should hold them."""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Iterator
from datetime import datetime
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from harvester.config import Wire
from harvester.datasets import BOUNCES, CATALOGUE, EXTRA, MESSAGES, SENDS, Dataset, Kind
from harvester.simulator import Account, AccountSpec, Behaviour, Fault, Numbers, Shape, digest, equal, expected, summary
from harvester.simulator.foul import FOUL, around, escaped_halves, half, kept, raw, shown, uncovered, value
from harvester.simulator.styles import JsonStyle, XmlStyle
from tests.test_simulator import FIRST, client
from tests.test_simulator_faults import ask

SPEC = AccountSpec(sends=equal(2, 1500), failed=0.3, opened=0.6, foul=True, awkward=True)
ESCAPE = re.compile(rb'\\(?:u([0-9a-f]{4})|(["\\bfnrt/]))')
SIMPLE = {b"b": b"\b", b"f": b"\f", b"n": b"\n", b"r": b"\r", b"t": b"\t"}


def json_bytes(body: bytes) -> list[dict[str, bytes]]:
    """Each record's values as bytes: a reader of compact JSON of strings alone that asks for no valid text."""
    found: list[dict[str, bytes]] = [{}]
    for name, text, end in re.findall(rb'"([^"]*)":"((?:[^"\\]|\\.)*)"(\})?', body, re.DOTALL):
        found[-1][name.decode()] = unescaped(text)
        if end:
            found.append({})
    return found[:-1]


def unescaped(text: bytes) -> bytes:
    """JSON's escapes undone, halves of pairs as three bytes each; two that belong together as one character."""

    def undone(found: re.Match[bytes]) -> bytes:
        if found[1] is None:
            return SIMPLE.get(found[2], found[2])
        return chr(int(found[1], 16)).encode("utf-8", "surrogatepass")

    whole = re.sub(
        rb"\\u(d[89ab][0-9a-f]{2})\\u(d[c-f][0-9a-f]{2})",
        lambda pair: bytes.fromhex((pair[1] + pair[2]).decode()).decode("utf-16-be").encode(),
        text,
    )
    return ESCAPE.sub(undone, whole)


def xml_bytes(body: bytes) -> list[dict[str, bytes]]:
    """Each record's values as bytes, by a reader that asks for no valid text either."""
    found = []
    for struct in re.findall(rb"<struct>(.*?)</struct>", body, re.DOTALL):
        members = re.findall(rb"<name>([^<]*)</name><value><(\w+)>([^<]*)</\2></value>", struct)
        found.append({name.decode(): undone(text) for name, _, text in members})
    return found


def undone(text: bytes) -> bytes:
    text = re.sub(rb"&#(\d+);", lambda found: chr(int(found[1])).encode(), text)
    return text.replace(b"&lt;", b"<").replace(b"&gt;", b">").replace(b"&amp;", b"&")


def as_held(dataset: Dataset, records: list[dict[str, bytes]]) -> Iterator[tuple[dict[str, str], dict[str, Any]]]:
    """The rule of the lake, once more and from the bytes: the text columns of each record, and what is extra."""
    kinds = {spelling: column for column in dataset.fields for spelling in column.spellings}
    for record in records:
        columns: dict[str, str] = {}
        extra: dict[str, Any] = {}
        for name, sent in record.items():
            try:
                text = None if b"\x00" in sent else sent.decode()
            except UnicodeDecodeError:
                text = None
            if text is None:
                extra[name] = {"$base64": base64.b64encode(sent).decode()}
            if kinds[name.lower()].kind is Kind.TEXT:
                shown_text = sent.decode("utf-8", "replace").replace("\x00", "\ufffd") if text is None else text
                columns[kinds[name.lower()].name] = shown_text
        yield columns, extra


@pytest.mark.anyio
@pytest.mark.parametrize("wire", Wire)
@pytest.mark.parametrize("ascii_only", [False, True])
async def test_what_is_sent_is_what_the_truth_tells(wire: Wire, ascii_only: bool) -> None:
    shape = Shape(ascii=ascii_only)
    spec = AccountSpec(sends=equal(1, 1500), failed=0.3, opened=0.6, foul=True, awkward=True, shape=shape)
    async with client(spec, Behaviour(gzip=False)) as api:
        for dataset in CATALOGUE.values():
            body = (await ask(api, wire, dataset, ID_send=FIRST)).body
            records = json_bytes(body) if wire is Wire.JSON else xml_bytes(body)
            told = expected(api.server.account, dataset, FIRST).to_pylist()
            if dataset is BOUNCES:
                assert len(records) == len(told)
                continue
            assert [len(record) for record in records] == [len(dataset.fields)] * len(told)
            for (columns, extra), row in zip(as_held(dataset, records), told, strict=True):
                assert columns.items() <= row.items()
                objects = {name: held for name, held in extra_of(row).items() if isinstance(held, dict)}
                assert objects == extra


def extra_of(row: dict[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(row[EXTRA] or "{}")
    return found


def test_every_foul_text_comes_up_and_every_kind_of_column_holds_some() -> None:
    rows = expected(Account(SPEC), MESSAGES, FIRST).to_pylist()
    foul = [(name, held["$base64"]) for row in rows for name, held in extra_of(row).items() if isinstance(held, dict)]
    met = {base64.b64decode(text) for _, text in foul}
    assert {text for text in map(value, FOUL) if isinstance(text, bytes)} <= met
    texts = {text for row in rows for text in row.values() if isinstance(text, str)}
    assert {text for text in map(value, FOUL) if isinstance(text, str)} <= texts
    assert {"ID_email", "email_date", "email", "custom_1"} <= {re.sub(r"_\d+$", "_1", name) for name, _ in foul}
    assert all(row["id_email"] is None for row in rows if isinstance(extra_of(row).get("ID_email"), dict))
    assert len([row for row in rows if "$base64" in (row[EXTRA] or "")]) < len(rows)
    assert all(isinstance(row["email_date"], datetime | None) for row in rows)


@pytest.mark.anyio
@pytest.mark.parametrize("wire", Wire)
async def test_the_bytes_that_break_readers_are_on_the_wire(wire: Wire) -> None:
    async with client(SPEC, Behaviour(gzip=False, script=(None, Fault.TRUNCATE))) as api:
        body = (await ask(api, wire)).body
        with pytest.raises(UnicodeDecodeError):
            body.decode()
        common = [b"Jos\xe9 Nov\xe1k", b"\xff\xfe start", b"\xed\xa0\xbd\xed\xb3\xa7", b"\xef\xbf\xbe \xef\xbf\xbf"]
        json_own = [rb"x\ud83dy", rb"a\u0000b", rb"controls \u0001 \b \u000b", rb"\\ud83d"]
        xml_own = [b"x\xed\xa0\xbdy", b"a\x00b", b"controls \x01 \x08 \x0b", b"&#13;"]
        for text in common + (json_own if wire is Wire.JSON else xml_own):
            assert text in body, text
        assert uncovered(body) == body
        assert body.startswith((await ask(api, wire)).body)


@pytest.mark.anyio
async def test_lists_have_foul_names_and_odd_shapes_foul_notes() -> None:
    shape = Shape(numbers=Numbers.MIXED, unknown=True)
    spec = AccountSpec(sends=equal(64, 40), sends_per_campaign=64, foul=True, shape=shape)
    async with client(spec, Behaviour(gzip=False)) as api:
        account = api.server.account
        names = (await ask(api, Wire.JSON, SENDS, ID_message=account.id_message(0), range_from="2016-01-01")).body
        assert len(json.loads(names.decode("utf-8", "replace"))) == 64
        assert b"Jos\xe9 Nov\xe1k" in (await ask(api, Wire.JSON)).body
        notes = [extra_of(row).get("X_note") for row in expected(account, MESSAGES, FIRST).to_pylist()]
        assert {"$base64": base64.b64encode(b"Jos\xe9 Nov\xe1k").decode()} in notes


def test_a_digest_sees_the_bytes() -> None:
    account = Account(SPEC)
    for dataset in CATALOGUE.values():
        table = expected(account, dataset, FIRST)
        told = summary(account, dataset, FIRST).digest
        assert told == digest(dataset, [table])
        extras = table[EXTRA].to_pylist()
        row = next(number for number, extra in enumerate(extras) if "$base64" in (extra or ""))
        extras[row] = str(extras[row]).replace('{"$base64":"', '{"$base64":"A')
        place = table.schema.get_field_index(EXTRA)
        assert told != digest(dataset, [table.set_column(place, EXTRA, pa.array(extras, pa.string()))])


@given(st.binary())
def test_bytes_become_text_and_bytes_again(sent: bytes) -> None:
    assert uncovered(raw(sent).encode()) == sent
    told = value(raw(sent))
    assert (told if isinstance(told, bytes) else told.encode()) == sent
    assert isinstance(told, str) == (b"\x00" not in sent and shown(told).encode() == sent)
    back = kept(told)
    assert back == told if isinstance(back, str) else base64.b64decode(back["$base64"]) == sent


@given(st.lists(st.text() | st.binary().map(raw) | st.integers(0xD800, 0xDFFF).map(half)), st.booleans())
def test_what_stands_for_bytes_is_never_escaped(parts: list[str], ascii_only: bool) -> None:
    text = "a".join(parts)
    assert around(text, lambda part: part) == text
    written = uncovered(JsonStyle(ascii_only).escaped(text).encode())
    assert unescaped(written) == uncovered(text.encode())
    assert undone(uncovered(XmlStyle(ascii_only).escaped(text).encode())) == uncovered(text.encode())
    assert escaped_halves(half(0xDABC)) == r"\udabc"
