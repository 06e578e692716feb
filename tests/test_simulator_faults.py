"""Every fault by its name, over either wire and real HTTP."""

from __future__ import annotations

import gzip
import json
import time
import xmlrpc.client
from collections.abc import Mapping
from email.utils import parsedate_to_datetime
from typing import Any

import aiohttp
import anyio
import pytest

from harvester.config import Wire
from harvester.datasets import CAMPAIGNS, MESSAGES, Dataset
from harvester.simulator import AccountSpec, Behaviour, Fault, equal, parse_faults
from harvester.simulator.faults import UNKNOWN_WORDS
from tests.test_simulator import FIRST, Client, Reply, client, until

pytestmark = pytest.mark.anyio

SPEC = AccountSpec(sends=equal(1, 200))
TYPES = {Wire.JSON: "application/json", Wire.XML: "text/xml"}
STATUSES = [fault for fault in Fault if fault.isdecimal() and fault is not Fault.PARTIAL]
EITHER = pytest.mark.parametrize("wire", Wire)
WORDS = {
    Fault.ERROR: "Error",
    Fault.UNAUTHORIZED: "Unauthorized",
    Fault.DISALLOWED: "Disallowed IP 127.0.0.1",
    Fault.INVALID_MESSAGE: "Invalid ID_message",
    Fault.MISSING_SEND: "Missing ID_send",
    Fault.INVALID_SEND: "Invalid ID_send",
    Fault.UNKNOWN_ERROR: UNKNOWN_WORDS,
}
BODIES: Mapping[Fault, tuple[Any, Any]] = {
    Fault.EMPTY: ({}, ""),
    Fault.EMPTY_LIST: ([], []),
    Fault.BLANK: ("", ""),
    Fault.NULL: (None, None),
    Fault.STATUS_0: ({"error_status": 0, "error": ""}, {"error_status": 0, "error": ""}),
    Fault.UNKNOWN_STATUS: ({"error_status": 7}, UNKNOWN_WORDS),
}


async def ask(api: Client, wire: Wire, dataset: Dataset = MESSAGES, **parameters: Any) -> Reply:
    """Asks over a wire; the body comes as it was sent."""
    spec = api.server.account.spec
    own = [str(parameters.get(name, "")) for name in dataset.parameters]
    if wire is Wire.XML:
        path, body = "/rpc.fcgi", xmlrpc.client.dumps((spec.client_id, spec.client_md5, *own), dataset.function)
    else:
        given = dict(zip(dataset.parameters, own, strict=True))
        call = {"function": dataset.function, "id": spec.client_id, "md5": spec.client_md5, "parameters": given}
        path, body = "/json.fcgi", json.dumps(call)
    url = api.server.url + path
    async with api.session.post(url, data=body.encode(), allow_redirects=False) as response:
        return Reply(response.status, dict(response.headers), await response.read())


def unpacked(reply: Reply) -> bytes:
    return gzip.decompress(reply.body) if reply.headers.get("Content-Encoding") == "gzip" else reply.body


def value(reply: Reply, wire: Wire) -> Any:
    body = unpacked(reply)
    return json.loads(body) if wire is Wire.JSON else xmlrpc.client.loads(body)[0][0]


async def met(fault: Fault, wire: Wire, **changes: Any) -> tuple[Reply, Reply]:
    """The answer to a query that meets the fault, and the whole answer to the same query."""
    async with client(SPEC, Behaviour(script=(fault,), **changes)) as api:
        spoilt = await ask(api, wire, ID_send=FIRST)
        whole = await ask(api, wire, ID_send=FIRST)
        assert api.server.stats.faults == {fault.value: 1}
        assert api.server.stats.messages == 200
        assert (whole.status, whole.headers["Content-Type"]) == (200, TYPES[wire])
        assert len(value(whole, wire)) == 200
        return spoilt, whole


@EITHER
@pytest.mark.parametrize("fault", STATUSES)
async def test_a_status(fault: Fault, wire: Wire) -> None:
    spoilt, _ = await met(fault, wire)
    assert spoilt.status == int(fault)
    assert "Retry-After" not in spoilt.headers
    assert ("Location" in spoilt.headers) == (fault is Fault.REDIRECTED)


@EITHER
@pytest.mark.parametrize("fault", [Fault.THROTTLED, Fault.UNAVAILABLE])
async def test_when_to_come_again(fault: Fault, wire: Wire) -> None:
    for changes, seconds in (({}, 1), ({"retry_after_s": 90.5}, 91)):
        told, _ = await met(Fault(f"{fault}-seconds"), wire, **changes)
        assert (told.status, told.headers["Retry-After"]) == (int(fault), str(seconds))
        before_s = int(time.time())
        dated, _ = await met(Fault(f"{fault}-date"), wire, **changes)
        pause_s = parsedate_to_datetime(dated.headers["Retry-After"]).timestamp() - before_s
        assert (dated.status, seconds <= pause_s <= seconds + 20) == (int(fault), True)


@EITHER
@pytest.mark.parametrize("fault", WORDS)
async def test_words_of_the_api(fault: Fault, wire: Wire) -> None:
    spoilt, _ = await met(fault, wire)
    said = WORDS[fault]
    assert (spoilt.status, spoilt.headers["Content-Type"]) == (200, TYPES[wire])
    assert value(spoilt, wire) == ({"error_status": 1, "error": said} if wire is Wire.JSON else said)


@EITHER
@pytest.mark.parametrize("fault", BODIES)
async def test_well_formed_bodies_that_are_no_answer(fault: Fault, wire: Wire) -> None:
    spoilt, _ = await met(fault, wire)
    assert value(spoilt, wire) == BODIES[fault][wire is Wire.XML]
    assert spoilt.headers["Content-Type"] == TYPES[wire]


async def test_a_blank_text_over_xml_has_no_type_and_null_is_nil() -> None:
    assert b"<value></value>" in (await met(Fault.BLANK, Wire.XML))[0].body
    assert b"<value><nil/></value>" in (await met(Fault.NULL, Wire.XML))[0].body
    assert b"<value><string></string></value>" in (await met(Fault.EMPTY, Wire.XML))[0].body


async def test_a_fault_of_xml_rpc() -> None:
    told, _ = await met(Fault.FAULT, Wire.JSON)
    assert told.json == {"fault": {"faultCode": 4, "faultString": "Bad gateway"}}
    raised, _ = await met(Fault.FAULT, Wire.XML)
    with pytest.raises(xmlrpc.client.Fault) as caught:
        xmlrpc.client.loads(raised.body)
    assert (caught.value.faultCode, caught.value.faultString) == (4, "Bad gateway")


@EITHER
async def test_pages_and_lines_for_people(wire: Wire) -> None:
    page, _ = await met(Fault.HTML, wire)
    assert (page.status, page.headers["Content-Type"], page.body[:9]) == (200, "text/html", b"<!DOCTYPE")
    line, _ = await met(Fault.TEXT, wire)
    assert (line.status, line.headers["Content-Type"], line.body) == (200, "text/plain", b"The service is busy.\n")
    nothing, _ = await met(Fault.NO_BODY, wire)
    assert (nothing.status, nothing.body) == (200, b"")


@EITHER
async def test_whole_answers_under_false_colours(wire: Wire) -> None:
    found, whole = await met(Fault.NOT_FOUND_DATA, wire)
    assert (found.status, found.body) == (404, whole.body)
    typed, whole = await met(Fault.TYPE, wire)
    assert (typed.status, typed.headers["Content-Type"], typed.body) == (200, "text/html", whole.body)
    other, whole = await met(Fault.OTHER_WIRE, wire)
    elsewhere = Wire.XML if wire is Wire.JSON else Wire.JSON
    assert other.headers["Content-Type"] == TYPES[elsewhere]
    key = "ID_send_message"
    assert [str(row[key]) for row in value(other, elsewhere)] == [str(row[key]) for row in value(whole, wire)]


@EITHER
async def test_parts_of_an_answer(wire: Wire) -> None:
    for fault, status in ((Fault.PARTIAL, 206), (Fault.SHORT, 200)):
        some, whole = await met(fault, wire)
        records = value(some, wire)
        assert (some.status, 0 < len(records) < 200) == (status, True)
        assert value(whole, wire)[: len(records)] == records
    first, whole = await met(Fault.BARE, wire)
    assert value(first, wire) == value(whole, wire)[0]
    cut, whole = await met(Fault.TRUNCATE, wire)
    assert 0 < len(unpacked(cut)) < len(unpacked(whole))
    assert unpacked(whole).startswith(unpacked(cut))


@EITHER
async def test_bodies_that_cant_be_unpacked(wire: Wire) -> None:
    packed, _ = await met(Fault.BAD_GZIP, wire)
    assert packed.headers["Content-Encoding"] == "gzip"
    with pytest.raises((gzip.BadGzipFile, EOFError)):
        gzip.decompress(packed.body)
    odd, _ = await met(Fault.ENCODING, wire)
    assert (odd.status, odd.headers["Content-Encoding"]) == (200, "br")


@EITHER
@pytest.mark.parametrize("fault", [Fault.RESET, Fault.LENGTH])
async def test_connections_that_end_early(fault: Fault, wire: Wire) -> None:
    with pytest.raises(aiohttp.ClientPayloadError):
        await met(fault, wire)


@EITHER
async def test_a_promise_of_more_comes_with_all_there_is(wire: Wire) -> None:
    async with client(SPEC, Behaviour(script=(None, Fault.LENGTH), gzip=False)) as api:
        whole = await ask(api, wire)
        host, _, port = api.server.url.removeprefix("http://").rpartition(":")
        body = json.dumps({"function": MESSAGES.function, "id": SPEC.client_id, "md5": SPEC.client_md5})
        if wire is Wire.XML:
            body = xmlrpc.client.dumps((SPEC.client_id, SPEC.client_md5), MESSAGES.function)
        path = "/rpc.fcgi" if wire is Wire.XML else "/json.fcgi"
        async with await anyio.connect_tcp(host, int(port)) as stream:
            await stream.send(f"POST {path} HTTP/1.1\r\nHost: x\r\nContent-Length: {len(body)}\r\n\r\n{body}".encode())
            received = b"".join([piece async for piece in stream])
        head, _, sent = received.partition(b"\r\n\r\n")
        assert sent == whole.body
        assert f"Content-Length: {len(sent) + 100}".encode() in head


@EITHER
async def test_silence_comes_after_some_bytes(wire: Wire) -> None:
    async with client(SPEC, Behaviour(script=(Fault.SILENCE,))) as api:
        heard: list[bytes] = []

        async def listen() -> None:
            body = json.dumps({"function": MESSAGES.function, "id": SPEC.client_id, "md5": SPEC.client_md5})
            if wire is Wire.XML:
                body = xmlrpc.client.dumps((SPEC.client_id, SPEC.client_md5), MESSAGES.function)
            path = "/rpc.fcgi" if wire is Wire.XML else "/json.fcgi"
            async with api.session.post(api.server.url + path, data=body) as response:
                heard.append(await response.content.readany())
                with pytest.raises(aiohttp.ClientPayloadError):
                    await response.content.read()

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(listen)
            await until(lambda: bool(heard))
            assert heard[0]
            assert api.server.stats.in_flight == 1
            api.server.stop()


async def test_a_script_is_followed_before_chance() -> None:
    script = (Fault.BAD_REQUEST, None, Fault.FORBIDDEN, None)
    async with client(SPEC, Behaviour(script=script, faults={Fault.FAILED: 1.0})) as api:
        assert [(await ask(api, Wire.JSON)).status for _ in range(6)] == [400, 200, 403, 200, 500, 500]
        await api.post(b"no call: it does not count")
        api.server.behaviour = Behaviour(script=script)
        refused = {"function": MESSAGES.function, "id": "0", "md5": "0"}
        assert (await api.post(json.dumps(refused).encode())).json["error"] == "Unauthorized"
        assert [(await ask(api, Wire.XML)).status for _ in range(5)] == [400, 200, 403, 200, 200]


@EITHER
async def test_lists_meet_faults_too(wire: Wire) -> None:
    async with client(AccountSpec(sends=equal(40, 1)), Behaviour(script=(Fault.SHORT, None, Fault.BARE))) as api:
        short, whole, bare = [await ask(api, wire, CAMPAIGNS) for _ in range(3)]
        assert 0 < len(value(short, wire)) < len(value(whole, wire))
        assert value(bare, wire) == value(whole, wire)[0]


def test_every_fault_has_a_name_on_the_command_line() -> None:
    share = 1 / len(Fault)
    assert parse_faults(",".join(f"{fault}={share}" for fault in Fault)) == dict.fromkeys(Fault, share)
    names = "206 302 400 401 403 404 429 443 500 501 502 503 504 429-seconds 429-date 503-seconds 503-date 404-data "
    names += "reset truncate short length type html text empty empty-list blank null no-body error unauthorized "
    names += "disallowed invalid-message missing-send invalid-send unknown-error unknown-status status-0 bare fault "
    names += "other-wire bad-gzip encoding hang silence"
    assert {fault.value for fault in Fault} == set(names.split())
