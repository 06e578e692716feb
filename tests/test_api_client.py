"""The client: one attempt, one answer; against small servers, and against the simulated account in all its shapes."""

from __future__ import annotations

import gc
import gzip
import json
import logging
import tracemalloc
import xmlrpc.client
from contextlib import asynccontextmanager
from datetime import date
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pytest
from aiohttp import web

from harvester.api.client import Client
from harvester.api.transport import PATHS
from harvester.config import Settings, Tuning, Wire
from harvester.datasets import BOUNCES, CAMPAIGNS, CATALOGUE, MESSAGES, SENDS
from harvester.errors import (
    AddressRefused,
    AttemptFailed,
    Cut,
    HarvesterError,
    NotConnected,
    NotData,
    NotTheApi,
    OverCap,
    ServerFailed,
    SliceRefused,
    Throttled,
    Unauthorized,
)
from harvester.model import Page, Query, Secret
from harvester.simulator import AccountSpec, Behaviour, Case, Numbers, Shape, equal, expected, serve
from tests.thorough import some

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping

pytestmark = pytest.mark.anyio

MD5 = "0123456789abcdef0123456789abcdef"
QUERY = Query(MESSAGES, 601181, 723043606, 1000)
RECORD = b'[{"ID_send_message":"5","email":"a@b.cz"}]'


@asynccontextmanager
async def client_of(
    body: bytes = b"[]",
    *,
    status: int = 200,
    asked: list[Any] | None = None,
    cap: int = 2**20,
    headers: Mapping[str, str] | None = None,
    wire: Wire = Wire.JSON,
) -> AsyncIterator[Client]:
    """A client of a server that gives the same answer to everything."""

    async def answer(request: web.Request) -> web.Response:
        if asked is not None:
            asked.append(await request.json() if wire is Wire.JSON else (await request.read(), request.content_type))
        return web.Response(body=body, status=status, headers=headers)

    application = web.Application()
    application.router.add_post(PATHS[wire is Wire.XML], answer)
    runner = web.AppRunner(application)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        host, port = runner.addresses[0][:2]
        async with Client.open(settings(f"http://{host}:{port}", wire, body_cap_bytes=cap)) as client:
            yield client
    finally:
        await runner.cleanup()


def settings(endpoint: str, wire: Wire = Wire.JSON, **tuning: Any) -> Settings:
    return Settings(
        wire=wire,
        lake=Path("unused"),
        client_id="12345",
        client_md5=Secret(MD5),
        endpoint=endpoint,
        rate=1000.0,
        burst=100,
        tuning=Tuning(**tuning),
    )


async def attempt(client: Client, query: Query = QUERY) -> Page:
    return await client.attempt(query, await client.limiter.acquire())


@pytest.mark.parametrize(
    ("query", "parameters"),
    [
        (QUERY, {"ID_send": "601181", "ID_send_message": "723043606", "limit": "1000"}),
        (Query(MESSAGES, None, None, 3), {"limit": "3"}),
        (Query(MESSAGES, 1, 0, None), {"ID_send": "1", "ID_send_message": "0"}),
        (Query(BOUNCES, 601181), {"ID_send": "601181"}),
    ],
)
async def test_a_query_is_asked_as_the_vendors_page_shows(query: Query, parameters: dict[str, str]) -> None:
    asked: list[Any] = []
    async with client_of(asked=asked) as client:
        page = await attempt(client, query)
    assert asked == [
        {"function": query.dataset.function, "id": "12345", "md5": MD5, "parameters": parameters},
    ]
    assert page.query == query
    assert page.batch.num_rows == 0
    assert page.batch.schema.equals(query.dataset.schema)


@pytest.mark.parametrize(
    ("query", "parameters"),
    [
        (QUERY, ("", 601181, 723043606, 1000)),
        (Query(MESSAGES, None, None, 3), ("", "", "", 3)),
        (Query(MESSAGES, 1, 2**60), ("", 1, 2**60)),
        (Query(BOUNCES, 601181), (601181,)),
        (Query(SENDS, id_message=7, since=date(2020, 1, 2), until=date(2020, 3, 4)), (7, "2020-01-02", "2020-03-04")),
    ],
)
async def test_over_xml_a_query_is_asked_by_position(query: Query, parameters: tuple[Any, ...]) -> None:
    asked: list[Any] = []
    async with client_of(xml("<string></string>"), asked=asked, wire=Wire.XML) as client:
        page = await attempt(client, query)
    ((body, content_type),) = asked
    assert content_type == "text/xml"
    assert xmlrpc.client.loads(body) == ((12345, MD5, *parameters), query.dataset.function)
    assert page.batch.num_rows == 0


def xml(value: str) -> bytes:
    """A response of one value."""
    return f"<methodResponse><params><param><value>{value}</value></param></params></methodResponse>".encode()


XML_FAULT = (
    b"<methodResponse><fault><value><struct><member><name>faultCode</name><value><int>4</int></value></member>"
    b"<member><name>faultString</name><value><string>%s</string></value></member></struct></value></fault>"
    b"</methodResponse>"
)


@pytest.mark.parametrize(
    ("body", "status", "error"),
    [
        (xml("<string>Unauthorized</string>"), 200, Unauthorized),
        (xml("Unauthorized"), 401, Unauthorized),
        (xml("<string>Disallowed IP 10.0.0.1</string>"), 500, AddressRefused),
        (xml("<string>Missing ID_send</string>"), 400, SliceRefused),
        (xml("<string>Error</string>"), 200, ServerFailed),
        (xml("<string>whatever</string>"), 200, NotData),
        (xml("<string>whatever</string>"), 403, NotTheApi),
        (XML_FAULT % b"Bad gateway", 200, ServerFailed),
        (XML_FAULT % b"Unauthorized", 200, Unauthorized),
        (XML_FAULT % b"Bad gateway", 404, NotTheApi),
        (b"<html>Bad Gateway</html>", 200, NotData),
        (RECORD, 200, NotData),
        (xml("<array><data>")[:-60], 200, Cut),
        (xml("<string>" + " " * 2**20 + "</string>"), 200, OverCap),
        (gzip.compress(bytes(2**21)), 200, AttemptFailed),
    ],
)
async def test_failures_over_xml_are_told_by_type(body: bytes, status: int, error: type[HarvesterError]) -> None:
    async with client_of(body, status=status, wire=Wire.XML) as client:
        with pytest.raises(error) as caught:
            await attempt(client)
        assert type(caught.value) is error or error is AttemptFailed
        assert (client.attempts, client.reached, client.limiter.in_flight) == (1, True, 0)


async def test_a_record_over_xml_is_shown_without_personal_data() -> None:
    member = "<member><name>{}</name><value><string>{}</string></value></member>"
    struct = "<struct>" + member.format("ID_send", "7") + member.format("email", "jan@example.com")
    async with client_of(xml(struct)[:-70], wire=Wire.XML) as client:
        with pytest.raises(Cut) as failed:
            await attempt(client)
    text = str(failed.value)
    assert "; it begins: <methodResponse><params><param><value><struct><member><name>ID_send</name>" in text
    assert "jan" not in text


async def test_a_fault_over_json_is_no_answer() -> None:
    async with client_of(b'{"fault":{"faultCode":4,"faultString":"Bad gateway"}}') as client:
        with pytest.raises(NotData):
            await attempt(client)


async def test_an_answer_becomes_a_page() -> None:
    body = b'[{"ID_SEND_MESSAGE":"5","EMAIL":"a@b.cz","NEW":1.50}]'
    async with client_of(
        gzip.compress(body), headers={"Content-Encoding": "gzip", "Content-Type": "text/html"}
    ) as client:
        page = await attempt(client, Query(BOUNCES, 601181))
        assert (client.attempts, client.reached, client.limiter.in_flight) == (1, True, 0)
    assert page.body_bytes == len(body)
    assert page.met == {"NEW"}
    assert page.batch.select(["id_send", "id_send_message", "email", "_extra"]).to_pylist() == [
        {"id_send": 601181, "id_send_message": 5, "email": "a@b.cz", "_extra": '{"NEW":"1.50"}'}
    ]


@pytest.mark.parametrize(
    ("body", "status", "error"),
    [
        (b'{"error_status":1,"error":"Unauthorized"}', 200, Unauthorized),
        (b'{"error_status":1,"error":"Unauthorized"}', 401, Unauthorized),
        (b'{"error_status":1,"error":"Disallowed IP 10.0.0.1"}', 403, AddressRefused),
        (b'{"error_status":1,"error":"Missing ID_send"}', 400, SliceRefused),
        (b'{"error_status":1,"error":"Error"}', 200, ServerFailed),
        (b'{"error_status":1,"error":"Error"}', 400, NotTheApi),
        (b'{"error_status":1,"error":"whatever"}', 500, ServerFailed),
        (b"<html>Bad Gateway</html>", 200, NotData),
        (b"<html>Bad Gateway</html>", 502, ServerFailed),
        (RECORD, 500, ServerFailed),
        (RECORD, 443, ServerFailed),
        (RECORD, 403, NotTheApi),
        (RECORD, 206, Cut),
        (b'{"error_status":0,"data":"jan@example.com"}', 200, NotData),
        (b"[]", 404, NotTheApi),
        (b"<html>Not Found</html>", 404, NotTheApi),
        (b"", 200, NotData),
        (b"", 302, NotTheApi),
        (RECORD[:-5], 200, Cut),
        (b"[" + b" " * 2**20 + b"]", 200, OverCap),
        (gzip.compress(bytes(2**21)), 200, OverCap),
    ],
)
async def test_failures_are_told_by_type(body: bytes, status: int, error: type[HarvesterError]) -> None:
    async with client_of(body, status=status) as client:
        with pytest.raises(error) as caught:
            await attempt(client)
        assert type(caught.value) is error
        assert (client.attempts, client.reached, client.limiter.in_flight) == (1, True, 0)


@pytest.mark.parametrize(
    ("body", "status", "begins"),
    [
        (b'[{"ID_message":"32443","email":"jan@example.com","first_', 200, '[{"ID_message":"32443","email":"…","…'),
        (b'[{"ID_message":"32443"},{"first_name":"Jan"} ', 200, '[{"ID_message":"32443"},{"first_name":"…"}'),
        (b'{"result":{"ID_send":"7","first_name":"Jan"}}', 200, '{"result":{"ID_send":"7","first_name":"…"}}'),
        (b"<html><title>502 Bad Gateway</title><p>ask jan@example.com", 502, "502 Bad Gateway"),
        (b"<html><title>Forbidden</title>", 403, "Forbidden"),
        (b"no healthy upstream", 200, "no healthy upstream"),
        (b'{"error_status":1,"error":"whatever"}', 500, '{"error_status":1,"error":"whatever"}'),
    ],
)
@pytest.mark.parametrize("packed", [False, True])
async def test_a_failure_shows_how_the_answer_began_without_personal_data(
    body: bytes, status: int, begins: str, packed: bool
) -> None:
    headers = {"Content-Encoding": "gzip"} if packed else None
    async with client_of(gzip.compress(body) if packed else body, status=status, headers=headers) as client:
        with pytest.raises(HarvesterError) as failed:
            await attempt(client)
    assert str(failed.value).endswith(f"; it begins: {begins}")


async def test_an_answer_that_can_not_be_read_is_not_shown() -> None:
    for headers, body in [
        ({"Content-Encoding": "br"}, b"Jan"),
        ({"Content-Encoding": "gzip"}, b"\x1f\x8bJan"),
        ({}, b""),
    ]:
        async with client_of(body, headers=headers) as client:
            with pytest.raises(HarvesterError) as failed:
                await attempt(client)
        assert "it begins" not in str(failed.value)


async def test_an_error_status_of_0_is_an_answer_without_records() -> None:
    async with client_of(b'{"error_status":0,"error":""}') as client:
        assert (await attempt(client)).batch.num_rows == 0


async def test_a_404_with_records_is_used() -> None:
    async with client_of(RECORD, status=404) as client:
        assert (await attempt(client)).batch["id_send_message"].to_pylist() == [5]


@pytest.mark.parametrize(
    ("status", "headers", "pause_s"),
    [
        (429, {"Retry-After": "30"}, 30.0),
        (429, {}, Tuning().backoff_s),
        (503, {"Retry-After": "30"}, 30.0),
        (429, {"Retry-After": "Fri, 31 Dec 9999 23:59:59 GMT"}, 600.0),
    ],
)
async def test_throttling_pauses_everyone(status: int, headers: dict[str, str], pause_s: float) -> None:
    async with client_of(b"<html>", status=status, headers=headers) as client:
        with pytest.raises(Throttled):
            await attempt(client)
        assert client.limiter.paused_s == pytest.approx(pause_s, abs=1.0)
        assert client.limiter.in_flight == 0


async def test_a_server_that_is_not_there_was_never_reached() -> None:
    async with Client.open(settings("http://127.0.0.1:9")) as client:
        with pytest.raises(NotConnected):
            await attempt(client)
        assert (client.attempts, client.reached, client.limiter.in_flight) == (1, False, 0)


async def test_the_secret_is_in_no_error_repr_or_log(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    texts = [repr(settings("http://127.0.0.1"))]
    for body in (b"<html>", RECORD[:9], b'"Unauthorized"', b"\xff"):
        async with client_of(body) as client:
            texts.append(repr(vars(client)))
            with pytest.raises(HarvesterError) as caught:
                await attempt(client)
            texts += [repr(caught.value), str(caught.value), repr(caught.value.__cause__)]
    assert MD5 not in "\n".join([*texts, caplog.text])


SHAPES = [
    Shape(),
    Shape(pretty=True, unknown=True),
    Shape(ascii=True, shuffle=True),
    Shape(numbers=Numbers.BARE, case=Case.UPPER),
    Shape(numbers=Numbers.MIXED, unknown=True, shuffle=True),
    Shape(case=Case.LOWER, missing=("preview_url", "REASON"), unknown=True),
]


@pytest.mark.parametrize(
    ("shape", "wire"),
    some([(shape, list(Wire)[(place + turn) % 2]) for turn in range(2) for place, shape in enumerate(SHAPES)], 6),
)
async def test_every_shape_of_a_simulated_account_becomes_what_a_lake_should_hold(shape: Shape, wire: Wire) -> None:
    spec = AccountSpec(sends=equal(1, 200), shape=shape, awkward=True, failed=0.2, waiting=0.1, client_md5=MD5)
    id_send = spec.sends.ids[0]
    async with serve(spec, Behaviour()) as server, Client.open(settings(server.url, wire)) as client:
        for dataset in CATALOGUE.values():
            limit = 1000 if dataset.paged else None
            pages = [await attempt(client, Query(dataset, id_send, limit=limit)) for _ in range(2)]
            for page in pages:
                table = pa.Table.from_batches([page.batch]).sort_by([(n, "ascending") for n in dataset.schema.names])
                truth = expected(server.account, dataset, id_send)
                truth = truth.sort_by([(n, "ascending") for n in dataset.schema.names])
                assert table.drop_columns(["_extra"]).equals(truth.drop_columns(["_extra"]))
                assert [extra and json.loads(extra) for extra in table["_extra"].to_pylist()] == [
                    extra and json.loads(extra) for extra in truth["_extra"].to_pylist()
                ]


@pytest.mark.parametrize("wire", Wire)
async def test_lists_of_campaigns_and_sends_become_pages(wire: Wire) -> None:
    spec = AccountSpec(sends=equal(5, 20), sends_per_campaign=3, client_md5=MD5)
    async with serve(spec) as server, Client.open(settings(server.url, wire)) as client:
        since, until = date(2010, 1, 1), date(2030, 1, 1)
        campaigns = (await attempt(client, Query(CAMPAIGNS, since=since, until=until))).batch
        assert campaigns["send_count"].to_pylist() == [60, 40]
        sends = [
            (await attempt(client, Query(SENDS, id_message=id_message, since=since, until=until))).batch
            for id_message in campaigns["id_message"].to_pylist()
        ]
        assert [id_send for batch in sends for id_send in batch["id_send"].to_pylist()] == list(spec.sends.ids)


@pytest.mark.parametrize("before", range(0, 90, 3))
@pytest.mark.parametrize("words", [b'{"error_status":1,"error":"%s"}', b"%s", b"<html>%s</html>", b'"%s"'])
async def test_a_server_that_repeats_the_md5_code_does_not_get_it_shown_not_even_a_part(
    words: bytes, before: int
) -> None:
    said = b"x" * before + MD5.upper().encode() + b" and " + MD5.encode()
    async with client_of(words % said) as client:
        with pytest.raises(HarvesterError) as failed:
            await client.attempt(QUERY, await client.limiter.acquire())
    assert MD5[:6] not in str(failed.value).lower()


async def test_an_error_keeps_no_body_in_memory() -> None:
    body = b"[" + b",".join(b'{"ID_send_message":"%d","email":"%s"}' % (n, b"x" * 1000) for n in range(1, 3000))
    errors: list[Cut] = []
    gc.collect()
    gc.disable()
    tracemalloc.start()
    try:
        async with client_of(body, cap=2**24) as client:
            for _ in range(6):
                with pytest.raises(Cut) as failed:
                    await client.attempt(QUERY, await client.limiter.acquire())
                errors.append(failed.value.with_traceback(None))
                del failed
            assert tracemalloc.get_traced_memory()[0] < 2 * len(body)
    finally:
        tracemalloc.stop()
        gc.enable()
