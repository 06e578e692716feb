"""The simulated account over real HTTP: it answers as the vendor's pages say, and goes wrong as it is told."""

from __future__ import annotations

import gzip
import json
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from itertools import chain, pairwise
from typing import Any

import aiohttp
import anyio
import pytest
from anyio.lowlevel import checkpoint

from harvester.datasets import BOUNCES, MESSAGES, Dataset
from harvester.errors import UsageError
from harvester.simulator import (
    Account,
    AccountSpec,
    Behaviour,
    Case,
    Fault,
    Nothing,
    Numbers,
    Server,
    Shape,
    equal,
    listed,
    run_simulator,
    serve,
    truth,
)

pytestmark = pytest.mark.anyio

FIRST = 601_181


@dataclass(frozen=True)
class Reply:
    status: int
    headers: Mapping[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def keys(self) -> list[int]:
        return [int(record["ID_send_message"]) for record in self.json]


@dataclass(frozen=True)
class Client:
    """Asks a server; bodies come back decompressed, if they were compressed."""

    server: Server
    session: aiohttp.ClientSession

    async def post(self, body: bytes, *, encoding: str = "gzip") -> Reply:
        headers = {"Accept-Encoding": encoding}
        url = self.server.url + "/json.fcgi"
        async with self.session.post(url, data=body, headers=headers) as response:
            data = await response.read()
            if response.headers.get("Content-Encoding") == "gzip":
                data = gzip.decompress(data)
            return Reply(response.status, dict(response.headers), data)

    async def ask(self, dataset: Dataset = MESSAGES, *, encoding: str = "gzip", **parameters: object) -> Reply:
        spec = self.server.account.spec
        call = {"function": dataset.function, "id": spec.client_id, "md5": spec.client_md5, "parameters": parameters}
        return await self.post(json.dumps(call).encode(), encoding=encoding)

    async def get(self, path: str) -> Any:
        async with self.session.get(self.server.url + path) as response:
            return await response.json()

    async def control(self, **order: object) -> Any:
        async with self.session.post(self.server.url + "/control", json=order) as response:
            return await response.json()


@asynccontextmanager
async def client(account: AccountSpec | Account, behaviour: Behaviour | None = None) -> AsyncIterator[Client]:
    async with serve(account, behaviour) as server, aiohttp.ClientSession(auto_decompress=False) as session:
        yield Client(server, session)


async def until(state: Callable[[], bool]) -> None:
    while not state():
        await checkpoint()


def keys(account: Account, id_send: int) -> list[int]:
    column = truth(account, MESSAGES, id_send)["id_send_message"]
    return [int(key) for key in column.to_pylist() if key]


async def test_a_send_is_served_page_by_page_from_the_cursor_on() -> None:
    async with client(AccountSpec(sends=equal(3, 25), gap=5), Behaviour(page_cap=10)) as api:
        all_keys = keys(api.server.account, FIRST + 1)
        seen: list[int] = []
        while True:
            page = (await api.ask(ID_send=FIRST + 1, ID_send_message=seen[-1] if seen else None)).keys
            assert len(page) <= 10
            assert not seen or page[0] == seen[-1]
            seen += page[bool(seen) :]
            if len(page) < 10:
                break
        assert seen == all_keys
        assert all(low < high for low, high in pairwise(seen))


async def test_an_exclusive_cursor_leaves_its_own_record_out() -> None:
    async with client(AccountSpec(sends=equal(1, 25)), Behaviour(inclusive=False)) as api:
        true = keys(api.server.account, FIRST)
        assert (await api.ask(ID_send=str(FIRST), ID_send_message=str(true[9]))).keys == true[10:]
        assert (await api.ask(ID_send=FIRST, ID_send_message=true[9] - 1)).keys == true[9:]


async def test_any_number_is_a_start() -> None:
    async with client(AccountSpec(sends=equal(3, 25), gap=9)) as api:
        true = [keys(api.server.account, FIRST + n) for n in range(3)]
        every = list(chain.from_iterable(true))
        for start in (-5, 0, 1, true[0][3] + 1, true[0][-1] + 1, true[1][0], true[2][-1], true[2][-1] + 1, 2**70):
            assert sorted(every) == every
            after = [key for key in every if key >= start]
            reply = await api.ask(ID_send_message=str(start))
            assert (reply.json == {}) if not after else (reply.keys == after)
            mine = [key for key in true[1] if key >= start]
            reply = await api.ask(ID_send=FIRST + 1, ID_send_message=start)
            assert (reply.json == {}) if not mine else (reply.keys == mine)


async def test_scopes_are_the_account_a_campaign_and_a_send() -> None:
    async with client(AccountSpec(sends=equal(5, 6), sends_per_campaign=2)) as api:
        account = api.server.account
        true = [keys(account, FIRST + n) for n in range(5)]
        assert (await api.ask()).keys == list(chain.from_iterable(true))
        campaign = account.id_message(2)
        assert (await api.ask(ID_message=campaign)).keys == true[2] + true[3]
        assert (await api.ask(ID_message=str(campaign), ID_send=FIRST + 3, limit="2")).keys == true[3][:2]
        assert (await api.ask(ID_message=campaign, ID_send=FIRST)).body == b"{}"
        assert (await api.ask(ID_send=999)).body == b"{}"
        assert {record["ID_message"] for record in (await api.ask(ID_send=FIRST + 4)).json} == {str(campaign + 1)}


@pytest.mark.parametrize("omitted", ["", None])
async def test_an_empty_parameter_is_an_omitted_one(omitted: object) -> None:
    async with client(AccountSpec(sends=equal(1, 12))) as api:
        reply = await api.ask(ID_message=omitted, ID_send=omitted, ID_send_message=omitted, limit=omitted)
        assert len(reply.json) == 12


async def test_the_api_says_what_is_wrong_in_its_own_words() -> None:
    async with client(AccountSpec(sends=equal(1, 2))) as api:
        spec = api.server.account.spec

        async def error(dataset: Dataset, **parameters: object) -> str:
            reply = await api.ask(dataset, encoding="gzip", **parameters)
            assert (reply.status, reply.json["error_status"]) == (200, 1)
            return str(reply.json["error"])

        assert await error(BOUNCES) == "Missing ID_send"
        assert await error(BOUNCES, ID_send="x") == "Invalid ID_send"
        assert await error(MESSAGES, ID_send="12a") == "Invalid ID_send"
        assert await error(MESSAGES, ID_message=1) == "Invalid ID_message"
        assert await error(MESSAGES, ID_message=True) == "Invalid ID_message"
        for name, value in {"id": "54321", "md5": "0" * 32, "function": "mailkit.unheard.of"}.items():
            call = {"function": MESSAGES.function, "id": int(spec.client_id), "md5": spec.client_md5, name: value}
            expected = "Unknown function" if name == "function" else "Unauthorized"
            assert (await api.post(json.dumps(call).encode())).json == {"error_status": 1, "error": expected}
        assert (await api.post(b'{"function": ')).status == 400
        assert (await api.post(b"[]")).status == 400
        async with api.session.get(api.server.url + "/json.fcgi") as response:
            assert response.status == 405
        api.server.behaviour = Behaviour(disallowed=True)
        assert await error(MESSAGES) == "Disallowed IP 127.0.0.1"


async def test_every_failed_message_bounces_and_some_twice_in_no_order() -> None:
    async with client(AccountSpec(sends=equal(2, 20_000), failed=0.1)) as api:
        messages = truth(api.server.account, MESSAGES, FIRST)
        failed = {
            key
            for key, status in zip(
                messages["id_send_message"].to_pylist(), messages["message_status"].to_pylist(), strict=True
            )
            if status == "failed"
        }
        reply = await api.ask(BOUNCES, ID_send=FIRST, limit=3)
        bounced = [record["ID_SEND_MESSAGE"] for record in reply.json]
        assert tuple(reply.json[0]) == tuple(column.api_name for column in BOUNCES.fields)
        assert set(bounced) == failed
        assert 1.03 < len(bounced) / len(failed) < 1.07
        assert bounced != sorted(bounced)
        assert len({json.dumps(record) for record in reply.json}) == len(bounced)
        assert (await api.ask(BOUNCES, ID_send=FIRST)).body == reply.body
        assert (await api.ask(BOUNCES, ID_send=999)).body == b"{}"


@pytest.mark.parametrize("nothing", Nothing)
async def test_nothing_looks_as_it_is_told_to(nothing: Nothing) -> None:
    spec = AccountSpec(sends=listed({5: 0, 6: 3}), failed=0, shape=Shape(nothing=nothing))
    async with client(spec) as api:
        assert (await api.ask(ID_send=5)).body == nothing.value.encode()
        assert (await api.ask(BOUNCES, ID_send=6)).body == nothing.value.encode()
        assert len((await api.ask(ID_send=6)).json) == 3


async def test_a_lone_record_may_come_bare() -> None:
    async with client(AccountSpec(sends=listed({5: 1, 6: 2}), shape=Shape(single_bare=True))) as api:
        assert (await api.ask(ID_send=5)).json["ID_send"] == "5"
        assert [record["ID_send"] for record in (await api.ask(ID_send=6)).json] == ["6", "6"]


async def test_waiting_messages_settle() -> None:
    async with client(AccountSpec(sends=equal(40, 200), waiting=0.2, failed=0.1)) as api:
        before = (await api.ask()).json
        waiting = [n for n, record in enumerate(before) if record["message_status"] in {"wait", "wait_ab"}]
        assert {before[n]["message_status"] for n in waiting} == {"wait", "wait_ab"}
        assert {before[n]["date_sent"] for n in waiting} == {""}
        assert 0.15 < len(waiting) / len(before) < 0.25
        bounces_before = (await api.ask(BOUNCES, ID_send=FIRST)).json
        await api.control(settled=True)
        after = (await api.ask()).json
        assert {after[n]["message_status"] for n in waiting} == {"sent", "failed"}
        assert all(after[n]["date_sent"] for n in waiting)
        assert [r for n, r in enumerate(after) if n not in waiting] == [
            r for n, r in enumerate(before) if n not in waiting
        ]
        assert len((await api.ask(BOUNCES, ID_send=FIRST)).json) > len(bounces_before)


async def test_erased_records_are_gone_and_the_others_keep_their_keys() -> None:
    async with client(AccountSpec(sends=equal(2, 20), gap=3)) as api:
        account = api.server.account
        true = keys(account, FIRST)
        erase = [{"id_send": FIRST, "key": key} for key in (true[0], true[7], true[7], true[8], true[19], 5)]
        assert await api.control(erase=erase) == {"erased": 4}
        left = [key for n, key in enumerate(true) if n not in {0, 7, 8, 19}]
        assert (await api.ask(ID_send=FIRST)).keys == left == keys(account, FIRST)
        assert (await api.ask(ID_send=FIRST, ID_send_message=true[7], limit=3)).keys == true[9:12]
        assert truth(account, MESSAGES, FIRST, erased=True).num_rows == 20
        assert account.send(0).expected == 16


async def test_a_pages_last_record_vanishes_once_it_is_served() -> None:
    async with client(AccountSpec(sends=equal(1, 100)), Behaviour(page_cap=10, vanish=1.0)) as api:
        true = keys(api.server.account, FIRST)
        assert (await api.ask(ID_send=FIRST)).keys == true[:10]
        assert (await api.ask(ID_send=FIRST, ID_send_message=true[9])).keys == true[10:20]
        assert (await api.ask(ID_send=FIRST, ID_send_message=true[8])).keys == [true[8], *true[10:19]]
        assert api.server.stats.vanished == 3


async def test_compression_is_for_those_who_accept_it_and_for_bodies_worth_it() -> None:
    async with client(AccountSpec(sends=equal(1, 10))) as api:
        packed = await api.ask(ID_send=FIRST)
        plain = await api.ask(ID_send=FIRST, encoding="identity")
        small = await api.ask(ID_send=999)
        assert packed.headers["Content-Encoding"] == "gzip"
        assert int(packed.headers["Content-Length"]) < int(plain.headers["Content-Length"]) == len(plain.body)
        assert "Content-Encoding" not in plain.headers
        assert "Content-Encoding" not in small.headers
        assert packed.body == plain.body
        api.server.behaviour = Behaviour(gzip=False)
        assert "Content-Encoding" not in (await api.ask(ID_send=FIRST)).headers


async def test_the_rate_is_held_and_says_when_to_come_again() -> None:
    async with client(AccountSpec(), Behaviour(rate=0.01, burst=2)) as api:
        statuses = [(await api.ask(limit=1)).status for _ in range(4)]
        assert statuses == [200, 200, 429, 429]
        assert 90 <= int((await api.ask(limit=1)).headers["Retry-After"]) <= 100
        assert api.server.stats.throttled == 3
        assert len(api.server.stats.arrivals_s) == api.server.stats.requests == 5


async def test_one_too_many_at_a_time_is_turned_away() -> None:
    behaviour = Behaviour(faults={Fault.HANG: 1.0}, most_in_flight=2, busy_status=429, retry_after_s=1.5)
    async with client(AccountSpec(), behaviour) as api, anyio.create_task_group() as tasks:
        for _ in range(2):
            tasks.start_soon(api.ask)
        await until(lambda: api.server.stats.in_flight == 2)
        reply = await api.ask()
        assert (reply.status, reply.headers["Retry-After"]) == (429, "2")
        assert (api.server.stats.max_in_flight, api.server.stats.busy) == (3, 1)
        tasks.cancel_scope.cancel()


async def test_those_that_nobody_works_on_stand_in_line() -> None:
    async with (
        client(AccountSpec(), Behaviour(workers=2, latency_s=(0.05, 0.05))) as api,
        anyio.create_task_group() as tasks,
    ):
        began = anyio.current_time()
        for _ in range(6):
            tasks.start_soon(api.ask)
        await until(lambda: api.server.stats.messages > 0 and api.server.stats.in_flight == 0)
        assert anyio.current_time() - began >= 3 * 0.05
        assert api.server.stats.max_in_flight == 6


@pytest.mark.parametrize("status", [429, 500, 502, 503])
async def test_faults_that_are_a_status(status: int) -> None:
    behaviour = Behaviour(faults={Fault(str(status)): 1.0}, retry_after_s=7)
    async with client(AccountSpec(), behaviour) as api:
        reply = await api.ask(ID_send=FIRST)
        assert (reply.status, reply.headers["Retry-After"]) == (status, "7")
        assert api.server.stats.faults == {str(status): 1}


@pytest.mark.parametrize("dataset", [MESSAGES, BOUNCES])
async def test_faults_that_spoil_an_answer(dataset: Dataset) -> None:
    async with client(AccountSpec(sends=equal(1, 1000))) as api:
        whole = await api.ask(dataset, ID_send=FIRST)

        def change(fault: Fault) -> None:
            api.server.behaviour = Behaviour(faults={fault: 1.0})

        change(Fault.RESET)
        with pytest.raises(aiohttp.ClientError):
            await api.ask(dataset, ID_send=FIRST)
        change(Fault.TRUNCATE)
        cut = await api.ask(dataset, ID_send=FIRST)
        assert cut.status == 200
        assert 0 < len(cut.body) < len(whole.body)
        assert whole.body.startswith(cut.body)
        change(Fault.SHORT)
        short = (await api.ask(dataset, ID_send=FIRST)).json
        assert 0 < len(short) < len(whole.json)
        assert whole.json[: len(short)] == short
        change(Fault.HTML)
        page = await api.ask(dataset, ID_send=FIRST)
        assert (page.status, page.headers["Content-Type"]) == (200, "text/html")
        change(Fault.EMPTY)
        assert (await api.ask(dataset, ID_send=FIRST)).body == b"{}"
        change(Fault.ERROR)
        assert (await api.ask(dataset, ID_send=FIRST)).json == {"error_status": 1, "error": "Error"}
        assert set(api.server.stats.faults) == {"reset", "truncate", "short", "html", "empty", "error"}


async def test_a_hanging_server_stops_at_once_and_forgets_clients_that_left() -> None:
    async with client(AccountSpec(), Behaviour(faults={Fault.HANG: 1.0})) as api:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(api.ask)
            await until(lambda: bool(api.server.stats.faults))
            tasks.cancel_scope.cancel()
        await until(lambda: not api.server.stats.in_flight)

        async def left_hanging() -> None:
            with pytest.raises(aiohttp.ClientError):
                await api.ask()

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(left_hanging)
            await until(lambda: bool(api.server.stats.in_flight))
            api.server.stop()


async def test_faults_follow_from_their_seed_and_the_order_of_requests() -> None:
    behaviour = Behaviour(faults={Fault.FAILED: 0.2, Fault.HTML: 0.2, Fault.SHORT: 0.2}, fault_seed=3)

    async def met(behaviour: Behaviour) -> list[tuple[int, int]]:
        async with client(AccountSpec(sends=equal(1, 50)), behaviour) as api:
            replies = [await api.ask(ID_send=FIRST) for _ in range(40)]
            assert {fault.value for fault in behaviour.faults} == set(api.server.stats.faults)
            assert 15 < api.server.stats.faults.total() < 33
            return [(reply.status, len(reply.body)) for reply in replies]

    assert await met(behaviour) == await met(behaviour)
    assert await met(behaviour) != await met(replace(behaviour, fault_seed=4))


async def test_some_sends_always_fail_and_a_server_may_be_down() -> None:
    async with client(AccountSpec(sends=equal(3, 5)), Behaviour(fail_sends=frozenset({FIRST}))) as api:
        assert (await api.ask(ID_send=FIRST)).status == 500
        assert (await api.ask(BOUNCES, ID_send=FIRST)).status == 500
        assert (await api.ask(ID_send=FIRST + 1)).status == 200
        await api.control(fail_sends=[FIRST + 1], down=True)
        with pytest.raises(aiohttp.ClientError):
            await api.ask(ID_send=FIRST)
        await api.control(down=False)
        assert (await api.ask(ID_send=FIRST)).status == 200
        assert (await api.ask(ID_send=FIRST + 1)).status == 500


async def test_answers_take_their_time_and_the_seed_decides_which() -> None:
    async with client(AccountSpec(), Behaviour(latency_s=(0.02, 0.03))) as api:
        before = anyio.current_time()
        await api.ask(limit=1)
        assert anyio.current_time() - before >= 0.02


async def test_stats_and_truth_are_told_over_http() -> None:
    async with client(AccountSpec(sends=equal(2, 30), failed=0.2)) as api:
        await api.ask(ID_send=FIRST, ID_send_message=1)
        await api.ask(BOUNCES, ID_send=FIRST)
        await api.ask(ID_send=FIRST + 1)
        stats = await api.get("/stats")
        assert stats["requests"] == 3
        assert stats["functions"] == {MESSAGES.function: 2, BOUNCES.function: 1}
        assert stats["sends"] == {str(FIRST): 1, str(FIRST + 1): 1}
        assert (stats["starts"], stats["in_flight"], stats["messages"]) == (1, 0, 60)
        assert len(stats["arrivals_s"]) == 3
        told = await api.get(f"/truth?id_send={FIRST}")
        assert told["messages"]["rows"] == 30
        assert told["bounces"]["rows"] == truth(api.server.account, BOUNCES, FIRST).num_rows
        async with api.session.get(api.server.url + "/truth?id_send=1") as response:
            assert response.status == 404
        await api.control(reset_stats=True)
        assert (await api.get("/stats"))["requests"] == 0


async def test_what_is_served_is_the_truth_in_every_shape() -> None:
    shapes = [
        Shape(),
        Shape(ascii=True),
        Shape(pretty=True, shuffle=True, unknown=True),
        Shape(numbers=Numbers.BARE, case=Case.UPPER, missing=("fax", "BOUNCE_CAT")),
        Shape(numbers=Numbers.MIXED, case=Case.LOWER, pretty=True, ascii=True, unknown=True),
    ]
    for shape in shapes:
        spec = AccountSpec(sends=equal(3, 150), awkward=True, waiting=0.1, failed=0.2, gap=4, shape=shape)
        async with client(spec) as api:
            for dataset in (MESSAGES, BOUNCES):
                reply = await api.ask(dataset, ID_send=FIRST)
                true = truth(api.server.account, dataset, FIRST).to_pylist()
                literal = json.loads(reply.body, parse_int=str, parse_float=str)
                assert [as_text(record) for record in literal] == [
                    {name: text for name, text in record.items() if text is not None} for record in true
                ]
                assert reply.body.isascii() or not shape.ascii


def as_text(record: dict[str, Any]) -> dict[str, str]:
    """A record as the truth tells it: names in lower case, booleans in JSON's spelling, nulls left out."""
    spelled = {True: "true", False: "false"}
    return {
        name.lower(): spelled[value] if isinstance(value, bool) else value
        for name, value in record.items()
        if value is not None
    }


async def test_odd_shapes_show_what_they_promise() -> None:
    async with client(AccountSpec(sends=equal(8, 25), awkward=True, shape=Shape(numbers=Numbers.MIXED))) as api:
        records = (await api.ask()).json
        values = [record["custom_7"] for record in records]
        assert None in values
        assert True in values
        assert False in values
        assert "" in values
        assert {type(record["ID_send_message"]) for record in records} == {int, str}
    async with client(
        AccountSpec(sends=equal(8, 25), shape=Shape(shuffle=True, unknown=True, missing=("zip",)))
    ) as api:
        orders = [list((await api.ask(ID_send=FIRST + n)).json[0]) for n in range(4)]
        assert len({tuple(name for name in order if name != "X_note") for order in orders}) == 4
        assert all("zip" not in order and "X_batch" in order for order in orders)
        records = (await api.ask()).json
        assert 0 < sum("X_note" in record for record in records) < len(records)
    async with client(AccountSpec(sends=equal(1, 2), shape=Shape(pretty=True))) as api:
        assert b'\n    "ID_send": "601181"' in (await api.ask()).body


async def test_an_account_outlives_its_server_and_a_taken_port_is_said() -> None:
    account = Account(AccountSpec(sends=equal(1, 5)))
    async with serve(account) as server:
        port = int(server.url.rpartition(":")[2])
        with pytest.raises(UsageError, match=f"can't listen on 127.0.0.1:{port}"):
            async with serve(account, port=port):
                pass
    account.erase_index(0, 0)
    async with serve(account, port=port) as again, aiohttp.ClientSession(auto_decompress=False) as session:
        assert len((await Client(again, session).ask()).json) == 4


async def test_it_runs_until_it_is_cancelled() -> None:
    urls: list[str] = []
    async with anyio.create_task_group() as tasks:

        def ready(server: Server) -> None:
            urls.append(server.url)
            tasks.cancel_scope.cancel()

        await run_simulator(AccountSpec(), Behaviour(), "127.0.0.1", 0, ready)
    assert urls[0].startswith("http://127.0.0.1:")
