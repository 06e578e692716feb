"""Servers that mean harm: each answer ends in a named error, in bounded time and memory, and the other sends go on."""

from __future__ import annotations

import gzip
import json
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from itertools import count
from pathlib import Path
from typing import Any

import pytest

from harvester.api import bounds, discovery
from harvester.api.bounds import DEEPEST
from harvester.api.client import Client
from harvester.config import Wire
from harvester.datasets import BOUNCES, MESSAGES, SENDS, Dataset
from harvester.errors import AttemptFailed, Cut, NotData, NotTheApi, OutOfOrder, OverCap, TimedOut
from harvester.harvest.proof import checked_keys
from harvester.model import Page, Query
from tests.harvesting import QUICK, settings_for_nothing
from tests.hostile import (
    Call,
    Reply,
    body,
    chunk,
    endless,
    head,
    hostile,
    packed,
    raw,
    record,
    records,
    stream,
    xml,
    xml_list,
    xml_record,
    zeros,
)
from tests.thorough import thorough

pytestmark = pytest.mark.anyio

MIB = 2**20
CAP = 4 * MIB
PERSON = "zuzana@example.org"
IN_TIME_S = 30.0
"""The longest that any of these may take, on a busy machine."""

Case = tuple[Reply, type[AttemptFailed]]


def headers() -> Iterator[bytes]:
    """Header lines for ever, each of another name."""
    return (b"X-%d: y\r\n" % number for number in count())


LINE = b"HTTP/1.1 200 OK\r\n"
CHUNKED = head("Transfer-Encoding: chunked")
UNDER_HTTP: dict[str, Case] = {
    "a body of packed zeros": (packed(zeros(64 * MIB)), OverCap),
    "packed zeros in many parts": (packed(zeros(3 * MIB) * 2), OverCap),
    "a hundred thousand empty parts": (packed(gzip.compress(b"") * 100_000), OverCap),
    "zeros packed twice": (packed(gzip.compress(zeros(64 * MIB))), NotData),
    "zeros packed twice, and said so": (body(gzip.compress(zeros(64 * MIB)), "Content-Encoding: gzip, gzip"), NotData),
    "an endless body": (endless(head(), b"[" * 65536), OverCap),
    "an endless body in chunks": (endless(CHUNKED, chunk(b"[" * 65536)), OverCap),
    "an endless packed body": (endless(head("Content-Encoding: gzip"), zeros(MIB)), OverCap),
    "a length beyond the cap": (raw(head("Content-Length: 99999999999")), OverCap),
    "an endless status line": (endless(b"HTTP/1.1 200 ", b"O" * 65536), NotData),
    "a giant header": (raw(head("X: " + "y" * MIB, "Content-Length: 2"), b"[]"), NotData),
    "an endless header": (endless(LINE + b"X: ", b"y" * 65536), NotData),
    "endless headers": (stream(lambda: (LINE, *(next(headers()) for _ in range(50_000)))), NotData),
    "headers without end": (endless(LINE, b"".join(b"X-%d: y\r\n" % n for n in range(5000))), NotData),
    "trailers without end": (
        endless(CHUNKED + chunk(b"[]") + b"0\r\n", b"".join(b"X-%d: y\r\n" % n for n in range(5000))),
        NotData,
    ),
    "a length that is too long": (raw(head("Content-Length: 200"), b"[]"), Cut),
    "a length that is too short": (raw(head("Content-Length: 1"), b"[{}]"), AttemptFailed),
    "a negative length": (raw(head("Content-Length: -1"), b"[]"), NotData),
    "a length that is no number": (raw(head("Content-Length: 2x"), b"[]"), NotData),
    "a length beyond 64 bits": (raw(head("Content-Length: 99999999999999999999999"), b"[]"), NotData),
    "two lengths": (raw(head("Content-Length: 2", "Content-Length: 3"), b"[]"), NotData),
    "chunks and a length": (
        raw(head("Content-Length: 2", "Transfer-Encoding: chunked"), chunk(b"[]") + b"0\r\n\r\n"),
        NotData,
    ),
    "a chunk of negative size": (raw(CHUNKED, b"-2\r\n[]\r\n0\r\n\r\n"), NotData),
    "a chunk beyond 64 bits": (raw(CHUNKED, b"f" * 40 + b"\r\n[]"), NotData),
    "a switch of protocols": (endless(head(status="101 Switching Protocols"), b"[" * 65536), NotTheApi),
}


async def asked(
    reply: Reply, wire: Wire = Wire.JSON, dataset: Dataset = MESSAGES, limit: int | None = 25, **changes: Any
) -> Page:
    """The page that an attempt at a hostile server's answer ends with, if it does."""
    tuning = replace(QUICK, body_cap_bytes=CAP)
    async with hostile(reply) as url:
        settings = settings_for_nothing(
            **({"endpoint": url, "wire": wire, "timeout_s": IN_TIME_S, "rate": 1000.0, "tuning": tuning} | changes)
        )
        async with Client.open(settings) as client:
            query = Query(dataset, 601, limit=limit if dataset.paged else None)
            return await client.attempt(query, await client.limiter.acquire())


async def refused(reply: Reply, error: type[AttemptFailed], wire: Wire = Wire.JSON, **changes: Any) -> str:
    """The error's text: it came in time, is one line, short, and shows nobody."""
    began = time.monotonic()
    with pytest.raises(error) as caught:
        await asked(reply, wire, **changes)
    assert time.monotonic() - began < IN_TIME_S
    told = str(caught.value)
    assert len(told) < 400
    assert told.isprintable()
    assert PERSON not in told
    return told


@pytest.mark.parametrize("wire", Wire)
@pytest.mark.parametrize("name", UNDER_HTTP)
async def test_what_http_can_be_misused_for(name: str, wire: Wire) -> None:
    reply, error = UNDER_HTTP[name]
    early = wire is Wire.XML and "zeros" in name  # it is read while it is unpacked, and is no XML
    await refused(reply, NotData if early else error, wire)


async def test_a_byte_now_and_then_is_bounded_in_all_and_in_between() -> None:
    drip = endless(head(), b" ", pause_s=0.005)
    assert "within 0.3 s" in await refused(drip, TimedOut, timeout_s=0.3)
    silent = replace(QUICK, silence_s=0.05)
    assert "silent" in await refused(endless(head() + b"[", b" ", pause_s=IN_TIME_S), TimedOut, tuning=silent)
    assert "within 0.3 s" in await refused(endless(LINE, b"X: y\r\n", pause_s=0.1), TimedOut, timeout_s=0.3)
    assert "within 0.3 s" in await refused(endless(b"", b"HTTP/1.1 100 Continue\r\n\r\n"), TimedOut, timeout_s=0.3)
    assert "within 0.3 s" in await refused(endless(CHUNKED + b"1;", b"x" * 9999), TimedOut, timeout_s=0.3)


async def test_chunks_of_one_byte_take_no_more_memory_than_the_body() -> None:
    parts = [chunk(b" ")] * 3000 + [chunk(b"[]"), b"0\r\n\r\n"]
    page = await asked(stream(lambda: [CHUNKED, *parts]))
    assert page.batch.num_rows == 0


@pytest.mark.parametrize("wire", Wire)
@pytest.mark.parametrize(
    "status", ["301 Moved", "302 Found", "303 See Other", "307 Temporary", "308 Permanent", "200 OK"]
)
async def test_a_server_elsewhere_hears_nothing_of_a_redirect(status: str, wire: Wire) -> None:
    heard: list[Call] = []
    async with hostile(body(b"[]"), heard) as elsewhere:
        content = f'<html><meta http-equiv="refresh" content="0;url={elsewhere}"></html>'.encode()
        headers = (
            f"Location: {elsewhere}/json.fcgi",
            f"Refresh: 0; url={elsewhere}",
            f"Link: <{elsewhere}>; rel=preload",
        )
        await refused(body(content, *headers, status=status), NotData, wire)
    assert heard == []


# --- what the body itself says

DEEP = 100_000
KEY = b'"id_send_message"'


def within(content: bytes) -> bytes:
    """A list of one record that has a key and this."""
    return b"[{" + KEY + b":1," + content + b"}]"


def cased(name: bytes, number: int) -> bytes:
    """A name in one of its letter cases."""
    return bytes(code - 32 * (number >> place & 1) for place, code in enumerate(name))


MANY_CASES = b",".join(b'"%b":1' % cased(b"preview", n) for n in range(128))
JSON_BODIES: dict[str, tuple[bytes, type[AttemptFailed]]] = {
    "lists within lists": (b"[" * DEEP + b"]" * DEEP, NotData),
    "lists within lists without end": (b"[" * DEEP, Cut),
    "objects within objects": (b'{"a":' * DEEP + b"1" + b"}" * DEEP, NotData),
    "a deep value in a record": (within(b'"x":' + b"[" * DEEP + b"]" * DEEP), NotData),
    "a value that is a little too deep": (within(b'"x":' + b"[" * (DEEPEST + 1) + b"]" * (DEEPEST + 1)), NotData),
    "a deep value in an error": (b'{"error":' + b"[" * DEEP + b"]" * DEEP + b"}", NotData),
    "a million numbers": (b"[" + b"1," * MIB + b"1]", OverCap),
    "a million texts": (b"[" + b'"",' * MIB + b'""]', OverCap),
    "a million empty records": (b"[" + b"{}," * MIB + b"{}]", OverCap),
    "a hundred thousand keys": (b"[" + b",".join([b"{%b:1}" % KEY] * 100_001) + b"]", OverCap),
    "a million fields": (within(b",".join(b'"f%d":1' % n for n in range(300_000))), OverCap),
    "thousands of fields": (within(b",".join(b'"f%d":1' % n for n in range(2000))), OverCap),
    "a new field in each record": (
        b"[" + b",".join(b'{%b:%d,"f%d":1}' % (KEY, n + 1, n) for n in range(2000)) + b"]",
        OverCap,
    ),
    "a field's name of a megabyte": (within(b'"' + b"n" * MIB + b'":1'), OverCap),
    "no text, by the million": (within(b'"email":"' + b"\xff" * (MIB + 1) + b'"'), OverCap),
    "numbers among records": (b"[{" + KEY + b":1},2,3]", NotData),
    "an error that goes on": (b'{"error":"' + PERSON.encode() + b" " * MIB + b'"}', NotData),
    "a status that goes on": (b'{"error_status":[' + b"[]," * MIB + b"1]}", OverCap),
}


@pytest.mark.parametrize("name", JSON_BODIES)
async def test_what_json_can_be_misused_for(name: str) -> None:
    content, error = JSON_BODIES[name]
    await refused(packed(gzip.compress(content, 1)), error)


async def test_a_value_of_some_levels_is_taken_over_both_wires() -> None:
    deep = b"[" * DEEPEST + b"]" * DEEPEST
    of_json = await asked(body(within(b'"x":' + deep)))
    value = b"<array><data><value>" * (DEEPEST - 1) + b"<array><data>"
    value += b"</data></array>" + b"</value></data></array>" * (DEEPEST - 1)
    of_xml = await asked(body(xml_list(xml_record({"id_send_message": b"1", "x": value}))), Wire.XML)
    assert of_json.batch.equals(of_xml.batch)
    assert of_json.batch.column("_extra")[0].as_py() == f'{{"x":{deep.decode()}}}'


LAUGHS = b"".join(b'<!ENTITY l%d "%b">' % (n + 1, b"&l%d;" % n * 10) for n in range(10))
LAUGHING = b'<!DOCTYPE l [<!ENTITY l0 "ha">' + LAUGHS + b"]>"
ENTITY = xml_list(xml_record({"id_send_message": b"1", "email": b"<string>&l9;</string>"}))
XML_BODIES: dict[str, tuple[bytes, type[AttemptFailed]]] = {
    "entities that laugh": (LAUGHING + ENTITY, NotData),
    "entities that laugh after a comment": (b"<!-- ha -->" + LAUGHING + ENTITY, NotData),
    "entities that laugh within": (b"<methodResponse>" + LAUGHING + ENTITY, NotData),
    "an entity that is none": (ENTITY, NotData),
    "lists within lists": (xml(b"<array><data><value>" * DEEP + b"</value></data></array>" * DEEP), NotData),
    "a deep value in a record": (
        xml_list(
            xml_record({"id_send_message": b"1", "x": b"<array><data><value>" * 65 + b"</value></data></array>" * 65})
        ),
        NotData,
    ),
    "tags within tags without end": (b"<methodResponse>" + b"<a>" * (4 * DEEP), NotData),
    "tags beside tags": (b"<methodResponse>" + b"<a/>" * (4 * DEEP), OverCap),
    "tags of ever new names": (b"<methodResponse>" + b"".join(b"<a%d/>" % n for n in range(3 * DEEP)), OverCap),
    "attributes by the hundred thousand": (
        xml_list(b"<struct " + b"".join(b'a%d="" ' % n for n in range(3 * DEEP)) + b"/>"),
        OverCap,
    ),
    "a tag's name of a megabyte": (xml_list(b"<" + b"n" * MIB + b"/>"), NotData),
    "a million fields": (xml_list(xml_record({f"f{n}": b"" for n in range(60_000)})), OverCap),
    "thousands of fields": (xml_list(xml_record({f"f{n}": b"" for n in range(2000)})), OverCap),
    "a new field in each record": (
        xml_list(*(xml_record({"id_send_message": b"1", f"f{n}": b""}) for n in range(2000))),
        OverCap,
    ),
    "a hundred thousand keys": (xml_list(*[xml_record({"id_send_message": b"1"})] * 100_001), OverCap),
    "a field's name of a megabyte": (xml_list(xml_record({"id_send_message": b"1", "n" * MIB: b"1"})), OverCap),
    "no text, by the million": (xml(b"<string>" + b"&#0;" * 20_000 + b"</string>"), OverCap),
    "values beside records": (xml_list(xml_record({"id_send_message": b"1"}), b"<i4>1</i4>"), NotData),
}


@pytest.mark.parametrize("name", XML_BODIES)
async def test_what_xml_can_be_misused_for(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bounds, "MOST_MARKS", 10_000)  # marking the usual number takes seconds
    content, error = XML_BODIES[name]
    await refused(packed(gzip.compress(content, 1)), error, Wire.XML, tuning=replace(QUICK, body_cap_bytes=4 * CAP))


@pytest.mark.parametrize("form", ["SYSTEM", "PUBLIC 'x'"])
async def test_xml_fetches_nothing_and_reads_no_file(form: str, tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_text("hunter2")
    heard: list[Call] = []
    async with hostile(body(b"<!ENTITY l9 'ha'>"), heard) as elsewhere:
        for url in (f"{elsewhere}/a.dtd", secret.as_uri()):
            for inner in (f"[<!ENTITY l9 {form} '{url}'>]", f"{form} '{url}'", f"[<!ENTITY % p {form} '{url}'> %p;]"):
                for before in (b"", b"<!-- x -->", b"<methodResponse>"):
                    content = before + f"<!DOCTYPE l {inner}>".encode() + ENTITY
                    assert "hunter2" not in await refused(body(content), NotData, Wire.XML)
            include = b'<x:include xmlns:x="http://www.w3.org/2001/XInclude" href="%b" parse="text"/>' % url.encode()
            await refused(body(xml_list(xml_record({"id_send_message": b"1", "x": include}))), NotData, Wire.XML)
    assert heard == []


# --- keys and ids

KEYS = [
    "../../x",
    "-1",
    "0",
    "1.5",
    "1e308",
    "9223372036854775807",
    "9223372036854775808",
    "1" * 5000,
    "0x1",
    "007",
    " 1",
]
BARE = ["-1", "1.5", "1e308", "1e400", "9" * 5000, "null", "true", '{"a":1}', "[1]", '""', '"NaN"', '"\\u0000"']


@pytest.mark.parametrize("wire", Wire)
@pytest.mark.parametrize("key", KEYS)
async def test_a_key_that_is_none(key: str, wire: Wire) -> None:
    await no_keys(record(wire, {"id_send_message": json.dumps(key)}), wire)


@pytest.mark.parametrize("key", BARE)
async def test_a_key_that_is_not_even_a_text(key: str) -> None:
    await no_keys(record(Wire.JSON, {"id_send_message": key}), Wire.JSON)


@pytest.mark.parametrize("key", ["NaN", "Infinity", "+1", "01", "0x1"])
async def test_a_key_that_is_no_json(key: str) -> None:
    await refused(body(record(Wire.JSON, {"id_send_message": key})), NotData)


async def no_keys(content: bytes, wire: Wire) -> None:
    for dataset in (MESSAGES, BOUNCES):
        page = await asked(body(content), wire, dataset)
        with pytest.raises(OutOfOrder):
            checked_keys(page)


@pytest.mark.parametrize("wire", Wire)
@pytest.mark.parametrize("dataset", [MESSAGES, BOUNCES], ids=lambda dataset: dataset.name)
@pytest.mark.parametrize("said", ["602", "../../x", "601.0", "-601"])
async def test_records_that_say_they_are_another_sends(said: str, dataset: Dataset, wire: Wire) -> None:
    content = records(wire, [{"id_send_message": '"7"', "ID_SEND": f'"{id_send}"'} for id_send in ("601", said)])
    with pytest.raises(OutOfOrder, match="another send"):
        checked_keys(await asked(body(content), wire, dataset) if not dataset.paged else await rising(content, wire))


async def rising(content: bytes, wire: Wire) -> Page:
    """The page of two records, the second of a higher key."""
    return await asked(body(content[::-1].replace(b"7", b"8", 1)[::-1]), wire)


@pytest.mark.parametrize("wire", Wire)
async def test_a_list_that_names_sends_by_what_is_no_id(wire: Wire) -> None:
    for name in ("../../x", "-5", "0", "1e3", "9" * 30):
        page = await asked(body(record(wire, {"ID_SEND": json.dumps(name)})), wire, SENDS)
        with pytest.raises(OutOfOrder, match="no usable id_send"):
            discovery.sends(page)


@pytest.mark.parametrize("wire", Wire)
async def test_names_of_fields_that_are_none_are_shown_to_nobody(wire: Wire) -> None:
    page = await asked(body(record(wire, {"id_send_message": '"7"', PERSON: '"1"', "X_batch": '"2"'})), wire)
    assert page.met == {"X_batch", "…"}


# --- memory

BOMBS = """
import anyio, resource, sys
from harvester.config import Wire
from tests import test_hostile as hostile

def peak_mib():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // (1024 if sys.platform == "linux" else 2**20)

async def all_of(wire):
    for content, error in hostile.bombs(wire):
        before = peak_mib()
        told = await hostile.refused(content, error, wire, tuning=hostile.replace(hostile.QUICK, body_cap_bytes=2**28))
        print(peak_mib() - before, told)

anyio.run(all_of, Wire(sys.argv[1]))
"""


def bombs(wire: Wire) -> Iterator[Case]:
    """Bodies of 24 MiB that would take gigabytes as objects. Made when they are wanted, and packed: they are small."""
    size = 24 * MIB

    def filled(part: bytes, before: bytes = b"", after: bytes = b"") -> Reply:
        return packed(gzip.compress(before + part * (size // len(part)) + after, 1))

    if wire is Wire.JSON:
        yield filled(b"{},", b"[", b"{}]"), OverCap
        yield filled(b"1,", b"[", b"1]"), OverCap
        yield filled(b'"",', b"[", b'""]'), OverCap
        yield filled(b'{"":1},', b"[", b"{}]"), OverCap
        yield filled(b'"a":1,', b"[{" + KEY + b":1,", b'"a":1}]'), OverCap
        yield filled(b"[],", b"[{" + KEY + b':1,"x":[', b"[]]}]"), OverCap
        yield filled(b"\xffa", b"[{" + KEY + b':1,"x":"', b'"}]'), OverCap
    else:
        yield filled(b"<a/>", b"<methodResponse>"), OverCap
        yield filled(b"<a>", b"<methodResponse>"), NotData
        yield filled(b'<a b="" c="">', b"<methodResponse>"), NotData
        yield filled(b"<value/>", b"<methodResponse><params><param><value><array><data>"), NotData
        yield filled(b"&amp;", b"<methodResponse><params><param><value><string>"), Cut


@pytest.mark.parametrize("wire", [pytest.param("json", marks=thorough), "xml"])
def test_what_is_small_to_send_stays_small_in_memory(wire: str) -> None:
    done = subprocess.run([sys.executable, "-c", BOMBS, wire], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    grown = [int(line.split()[0]) for line in done.stdout.splitlines()]
    assert len(grown) == len(list(bombs(Wire(wire))))
    # Of a body of 24 MiB, some copies are made; as objects it would be 1 GiB and more.
    assert sum(grown) < 300, done.stdout
