"""The simulated account over XML-RPC: the same values as over JSON, for clients that this project did not write."""

from __future__ import annotations

import re
import xmlrpc.client
from collections.abc import Iterator, Mapping
from typing import Any

import anyio.to_thread
import pytest
from lxml import etree

from harvester.datasets import BOUNCES, CAMPAIGNS, CATALOGUE, MESSAGES, PAGE_CAP, RAW_RESPONSES, SENDS, Dataset
from harvester.simulator import AccountSpec, Behaviour, Case, Nothing, Numbers, Shape, XmlTypes, equal, listed, truth
from tests.test_simulator import FIRST, Client, Reply, as_text, client

pytestmark = pytest.mark.anyio

VALUE = "<value>{}</value>"


async def post(api: Client, body: str) -> Reply:
    headers = {"Accept-Encoding": "identity"}
    async with api.session.post(api.server.url + "/rpc.fcgi", data=body.encode(), headers=headers) as response:
        return Reply(response.status, dict(response.headers), await response.read())


async def call(api: Client, dataset: Dataset, *values: str) -> bytes:
    """Asks with parameters as they stand in ``<value>``."""
    spec = api.server.account.spec
    given = (f"<int>{spec.client_id}</int>", f"<string>{spec.client_md5}</string>", *values)
    params = "".join(f"<param>{VALUE.format(value)}</param>" for value in given)
    text = f"<methodCall><methodName>{dataset.function}</methodName><params>{params}</params></methodCall>"
    reply = await post(api, text)
    assert (reply.status, reply.headers["Content-Type"]) == (200, "text/xml")
    return reply.body


def records(body: bytes) -> list[dict[str, tuple[str, str]]]:
    """Each record's fields as type and text. What XML forbids is set aside first, as any reader has to."""
    found = []
    for struct in etree.fromstring(_marked(body)).iter("struct"):
        fields = {}
        for member in struct:
            value = member[1]
            kind, text = (value[0].tag, value[0].text) if len(value) else ("", value.text)
            fields[str(member[0].text)] = (str(kind), _unmarked(text or ""))
        found.append(fields)
    return found


def _marked(body: bytes) -> bytes:
    return re.sub(rb"[\x00-\x08\x0b\x0c\x0e-\x1f]", lambda found: chr(0xE000 + found[0][0]).encode(), body)


def _unmarked(text: str) -> str:
    return re.sub("[\ue000-\ue01f]", lambda found: chr(ord(found[0]) - 0xE000), text)


def as_json(record: Mapping[str, tuple[str, str]]) -> dict[str, str]:
    """A record as JSON would have sent its values, as text; nulls left out."""
    spelled = {("boolean", "1"): "true", ("boolean", "0"): "false"}
    return {name: spelled.get(value, value[1]) for name, value in record.items() if value[0] != "nil"}


NASTY = [
    Shape(),
    Shape(ascii=True, xml_types=XmlTypes.STRINGS),
    Shape(xml_types=XmlTypes.UNTYPED),
    Shape(pretty=True, unknown=True, case=Case.UPPER, missing=("fax", "BOUNCE_CAT")),
    Shape(numbers=Numbers.BARE, shuffle=True),
    Shape(numbers=Numbers.MIXED, case=Case.LOWER, pretty=True, ascii=True, unknown=True, xml_types=XmlTypes.UNTYPED),
]


@pytest.mark.parametrize("shape", NASTY, ids=range(len(NASTY)))
async def test_values_are_the_same_over_either_wire(shape: Shape) -> None:
    spec = AccountSpec(sends=equal(2, 400), awkward=True, waiting=0.1, opened=0.9, failed=0.3, gap=4, shape=shape)
    async with client(spec) as api:
        for dataset in CATALOGUE.values():
            names = {spelling: column.name for column in dataset.fields for spelling in column.spellings}
            arguments = [f"<i4>{FIRST}</i4>"] if dataset is BOUNCES else ["", f"<string>{FIRST}</string>"]
            body = await call(api, dataset, *arguments)
            true = truth(api.server.account, dataset, FIRST).to_pylist()
            sent = [
                {names.get(name.lower(), name.lower()): text for name, text in as_json(record).items()}
                for record in records(body)
            ]
            assert len(sent) > 100
            assert sent == [{name: text for name, text in row.items() if text is not None} for row in true]
            assert body.isascii() or not shape.ascii


def kinds(body: bytes, name: str) -> set[str]:
    return {record[name][0] for record in records(body) if name in record}


async def test_types_are_those_of_the_vendors_page() -> None:
    async with client(AccountSpec(sends=equal(2, 400))) as api:
        body = await call(api, MESSAGES)
        assert body.startswith(b'<?xml version="1.0" encoding="utf-8"?>')
        record = records(body)[0]
        assert list(record) == [column.api_name for column in MESSAGES.fields]
        assert record["ID_send_message"] == ("i4", str(api.server.account.key(0, 0)))
        assert {record[name][0] for name in ("ID_message", "ID_send", "ID_email", "ID_user_list")} == {"i4"}
        assert {record[name][0] for name in ("email", "zip", "date_sent", "ab_version", "preview_url")} == {"string"}
        assert kinds(body, "custom_1") == {"i4", "string"}
        assert kinds(body, "ID_user_list") == {"i4"}
        assert all(whole(record["custom_1"]) for record in records(body))
        counts = records(await call(api, SENDS, f"<i4>{api.server.account.id_message(0)}</i4>"))[0]
        assert (counts["SEND_COUNT"], counts["ID_SEND"]) == (("i4", "400"), ("i4", str(FIRST)))


def whole(value: tuple[str, str]) -> bool:
    """Whether what prints back as a whole number is one, and nothing else is."""
    return (value[0] == "i4") == bool(re.fullmatch(r"0|-?[1-9]\d*", value[1]))


@pytest.mark.parametrize(
    ("first_key", "kinds_met"), [(2**31 - 200, {"i4", "i8"}), (2**31 + 5, {"i8"}), (10**11, {"i8"}), (7, {"i4"})]
)
async def test_keys_have_the_least_type_that_holds_them(first_key: int, kinds_met: set[str]) -> None:
    async with client(AccountSpec(sends=equal(1, 400), first_key=first_key)) as api:
        body = await call(api, MESSAGES)
        assert kinds(body, "ID_send_message") == kinds_met
        for record in records(body):
            kind, text = record["ID_send_message"]
            assert (kind == "i4") == (int(text) < 2**31)


async def test_values_that_are_no_numbers_stay_strings() -> None:
    async with client(AccountSpec(sends=equal(1, 8000), awkward=True)) as api:
        met = {value for record in records(await call(api, MESSAGES)) for value in [record["ID_email"]]}
        for text in ("", "00123", "18446744073709551617", "9223372036854775808", "+7", "0x10"):
            assert ("string", text) in met
        assert {("i8", "9007199254740993"), ("i4", "-5")} < met


async def test_odd_numbers_have_the_types_of_xml_rpc() -> None:
    shape = Shape(numbers=Numbers.MIXED)
    async with client(AccountSpec(sends=equal(8, 400), awkward=True, shape=shape)) as api:
        body = await call(api, MESSAGES)
        met = {kind for record in records(body) for kind, _ in record.values()}
        assert met == {"i4", "i8", "string", "double", "boolean", "nil"}
        assert kinds(body, "ID_send") == {"i4", "string"}


@pytest.mark.parametrize("nothing", Nothing)
async def test_answers_without_records(nothing: Nothing) -> None:
    async with client(AccountSpec(sends=listed({5: 0, 6: 1}), shape=Shape(nothing=nothing, single_bare=True))) as api:
        body = await call(api, MESSAGES, "", "<i4>5</i4>")
        if nothing is Nothing.BLANK:
            assert body == b""
        else:
            assert xmlrpc.client.loads(body)[0][0] == ("" if nothing is Nothing.OBJECT else [])
        lone = xmlrpc.client.loads(await call(api, MESSAGES, "", "<i4>6</i4>"))[0][0]
        assert isinstance(lone, dict)
        assert lone["ID_send"] == 6


async def test_parameters_are_told_by_their_place() -> None:
    async with client(AccountSpec(sends=equal(3, 20), sends_per_campaign=1, opened=1)) as api:
        account = api.server.account
        start = str(account.key(1, 5))
        for written in ("<i8>{}</i8>", "<string>{}</string>", "{}", "<int>{}</int>", "<i4> {} </i4>"):
            body = await call(api, MESSAGES, "<string></string>", "", written.format(start), "<int>4</int>")
            assert [record["ID_send_message"][1] for record in records(body)] == [
                str(account.key(1, index)) for index in range(5, 9)
            ]
        campaign = f"<int>{account.id_message(1)}</int>"
        assert len(records(await call(api, MESSAGES, campaign))) == 20
        message = truth(account, RAW_RESPONSES, FIRST).to_pylist()[0]["id_send_message"]
        logged = records(await call(api, RAW_RESPONSES, "", "", message or "", ""))
        assert {record["ID_send_message"][1] for record in logged} == {message}
        days = records(await call(api, CAMPAIGNS, "<string>2016-06-20</string>", "<string>2016-06-20</string>"))
        assert len(days) == 2


async def test_the_apis_words_are_bare_strings() -> None:
    async with client(AccountSpec(sends=equal(1, 2))) as api:

        async def words(dataset: Dataset, *values: str) -> Any:
            return xmlrpc.client.loads(await call(api, dataset, *values))[0][0]

        assert await words(MESSAGES, "<int>1</int>") == "Invalid ID_message"
        assert await words(MESSAGES, "<struct></struct>") == "Invalid ID_message"
        assert await words(BOUNCES) == "Missing ID_send"
        assert await words(BOUNCES, "<int>1</int>", "<int>1</int>") == "Error"
        api.server.behaviour = Behaviour(disallowed=True)
        assert await words(MESSAGES) == "Disallowed IP 127.0.0.1"
        api.server.behaviour = Behaviour()
        nobody = "<methodCall><methodName>mailkit.report</methodName></methodCall>"
        assert xmlrpc.client.loads((await post(api, nobody)).body)[0][0] == "Unauthorized"
        for body in ("", "{}", "<methodCall>", "<methodResponse/>", "<a/>", nobody.replace("</method", "<!x", 1)):
            assert (await post(api, body)).status == 400


def pages(url: str, spec: AccountSpec) -> Iterator[dict[str, Any]]:
    """A client as one writes it with Python's own library: page by page from the cursor on."""
    with xmlrpc.client.ServerProxy(f"{url}/rpc.fcgi") as server:
        last = ""
        while True:
            page: Any = server.mailkit.report.raw.messages(spec.client_id, spec.client_md5, "", FIRST, last, 7)
            yield from page[bool(last) :]
            if len(page) < 7:
                return
            last = str(page[-1]["ID_send_message"])


async def test_pythons_own_client_can_ask() -> None:
    spec = AccountSpec(sends=equal(2, 30), failed=0.4, first_key=2**31 - 17)
    async with client(spec) as api:

        def ask() -> list[dict[str, Any]]:
            return list(pages(api.server.url, spec))

        found = await anyio.to_thread.run_sync(ask)
        true = truth(api.server.account, MESSAGES, FIRST).to_pylist()
        assert [as_text({name: str(value) for name, value in record.items()}) for record in found] == true
        assert [record["ID_send_message"] for record in found] == [int(row["id_send_message"] or 0) for row in true]

        def bounces() -> Any:
            with xmlrpc.client.ServerProxy(f"{api.server.url}/rpc.fcgi") as server:
                return server.mailkit.report.message.bounces(int(spec.client_id), spec.client_md5, FIRST)

        assert len(await anyio.to_thread.run_sync(bounces)) == truth(api.server.account, BOUNCES, FIRST).num_rows


async def test_large_answers_are_compressed() -> None:
    async with client(AccountSpec(sends=equal(1, PAGE_CAP))) as api:
        spec = api.server.account.spec
        body = xmlrpc.client.dumps((spec.client_id, spec.client_md5), MESSAGES.function)
        headers = {"Accept-Encoding": "gzip"}
        async with api.session.post(api.server.url + "/rpc.fcgi", data=body, headers=headers) as response:
            assert response.headers["Content-Encoding"] == "gzip"
            assert len(await response.read()) < 40_000_000
