"""The stream: every row of the account, proven, at the reader's pace; and nothing is left when the reader leaves."""

from __future__ import annotations

import asyncio
import gc
import logging
import pickle
import subprocess
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import aclosing, asynccontextmanager
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

import anyio
import pyarrow as pa
import pytest
import structlog

import harvester
from harvester.api import meaning
from harvester.datasets import BOUNCES, CATALOGUE, MESSAGES
from harvester.simulator.behaviour import Behaviour, Fault
from harvester.simulator.server import Server, serve
from harvester.simulator.spec import AccountSpec, equal, listed
from harvester.streaming import options
from tests.harvesting import QUICK
from tests.serving import asking, assert_exact

pytestmark = pytest.mark.anyio

SPEC = AccountSpec(seed=11, sends=equal(3, 200), gap=5, awkward=True, foul=True, waiting=0.05)
SURVIVED = (Fault.RESET, Fault.TRUNCATE, Fault.SHORT, Fault.EMPTY, Fault.HTML, Fault.FAILED, Fault.THROTTLED)
MD5 = "0123456789abcdef0123456789abcdef"


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(options, "TUNING", QUICK)
    monkeypatch.setattr(meaning, "DEFAULT_PAUSE_S", 0.01)
    for name in ("CLIENT_ID", "CLIENT_MD5", "CLIENT_MD5_FILE", "ENDPOINT", "CA_FILE", "RATE"):
        monkeypatch.delenv(f"HARVESTER_{name}", raising=False)


@dataclass(frozen=True, slots=True)
class Served:
    server: Server

    def stream(self, dataset: str = "messages", **changes: Any) -> harvester.Stream:
        given: dict[str, Any] = {"sends": self.server.account.spec.sends.ids} | asking(self.server) | changes
        if {"all", "campaigns"} & changes.keys():
            del given["sends"]
        return harvester.stream(dataset, **given)

    def assert_exact(self, dataset: str, batches: list[pa.RecordBatch], *ids: int) -> None:
        assert_exact(self.server, dataset, batches, *ids)


@asynccontextmanager
async def account(spec: AccountSpec = SPEC, behaviour: Behaviour | None = None) -> AsyncIterator[Served]:
    async with serve(spec, behaviour) as server:
        yield Served(server)


async def gather(stream: harvester.Stream, into: list[pa.RecordBatch]) -> None:
    """Keeps what came before an error."""
    async for batch in stream:
        into.append(batch)  # noqa: PERF401  a comprehension would keep nothing


async def until(holds: Callable[[], bool]) -> None:
    while not holds():  # noqa: ASYNC110  what is waited for is somebody else's plain state
        await asyncio.sleep(0)


def others(before: set[asyncio.Task[Any]]) -> set[asyncio.Task[Any]]:
    """Tasks that were not there before."""
    return asyncio.all_tasks() - before


class TestRows:
    @pytest.mark.parametrize("dataset", list(CATALOGUE))
    @pytest.mark.parametrize("wire", ["json", "xml"])
    async def test_every_dataset_comes_whole_in_the_schema_that_was_told(self, dataset: str, wire: str) -> None:
        async with account() as served:
            stream = served.stream(dataset, wire=wire, limit=80)
            batches = [batch async for batch in stream]
            assert {batch.schema for batch in batches} == {stream.schema} == {harvester.schema(dataset)}
            assert all(batch.num_rows for batch in batches)
            served.assert_exact(dataset, batches)
            assert stream.outcome.complete
            assert stream.outcome.rows == sum(batch.num_rows for batch in batches)
            proof = harvester.Proof.TAIL if CATALOGUE[dataset].paged else harvester.Proof.AGREED
            assert stream.outcome.proofs == dict.fromkeys(SPEC.sends.ids, proof)

    async def test_a_quarter_of_all_attempts_may_fail(self) -> None:
        behaviour = Behaviour(
            faults=dict.fromkeys(SURVIVED, 0.25 / len(SURVIVED)), fault_seed=3, script=(None, *SURVIVED)
        )
        async with account(behaviour=behaviour) as served:
            batches = [batch async for batch in served.stream(limit=30)]
            served.assert_exact("messages", batches)
            assert served.server.stats.faults.keys() == set(SURVIVED)

    async def test_the_whole_account_is_found_with_its_counts(self) -> None:
        async with account() as served:
            stream = served.stream(all=True)
            served.assert_exact("messages", [batch async for batch in stream])
            assert set(stream.outcome.proofs.values()) == {harvester.Proof.COUNT}

    async def test_campaigns_and_days_are_found(self) -> None:
        spec = AccountSpec(sends=equal(8, 30), days_between=40)
        async with account(spec) as served:
            one = list(served.server.account.sends)[5]
            assert one.sent_at is not None
            day = one.sent_at.date()
            stream = served.stream(campaigns=one.id_message, since=day - timedelta(days=1), until=day.isoformat())
            served.assert_exact("messages", [batch async for batch in stream], one.id_send)

    async def test_sends_that_say_their_size_need_one_query(self) -> None:
        async with account() as served:
            stream = served.stream(sends=[harvester.Send(id_send, expected=200) for id_send in SPEC.sends.ids])
            served.assert_exact("messages", [batch async for batch in stream])
            assert served.server.stats.functions[MESSAGES.function] == 3

    async def test_bounces_are_proven_by_two_askings(self) -> None:
        async with account() as served:
            served.assert_exact("bounces", [batch async for batch in served.stream("bounces")])
            assert served.server.stats.functions[BOUNCES.function] == 6

    async def test_sends_are_asked_once_in_the_order_given(self) -> None:
        async with account() as served:
            first, second, third = SPEC.sends.ids
            stream = served.stream(sends=iter([third, first, third, second]), concurrency=1)
            served.assert_exact("messages", [batch async for batch in stream])
            assert list(served.server.stats.sends) == [third, first, second]

    async def test_no_sends_are_no_rows(self) -> None:
        async with account() as served:
            assert [batch async for batch in served.stream(sends=[])] == []
            assert served.server.stats.requests == 0


class TestErrors:
    async def test_a_send_that_fails_is_told_at_the_end_and_the_others_are_yielded(self) -> None:
        first, second, third = SPEC.sends.ids
        async with account(behaviour=Behaviour(fail_sends=frozenset({second}))) as served:
            stream = served.stream(patience=0.2)
            batches: list[pa.RecordBatch] = []
            with pytest.raises(harvester.IncompleteHarvest, match=f"1 of 3 sends .*send {second}: ") as caught:
                await gather(stream, batches)
            served.assert_exact("messages", batches, first, third)
            outcome = caught.value.outcome
            assert outcome.proofs.keys() == {first, third}
            assert outcome.incomplete.keys() == {second}
            assert "500" in outcome.incomplete[second]
            with pytest.raises(harvester.IncompleteHarvest):  # and not silence, where it is asked on
                await anext(stream)
            assert pickle.loads(pickle.dumps(caught.value)).outcome == outcome

    async def test_what_was_had_of_a_send_that_fails_is_yielded(self) -> None:
        spec = AccountSpec(sends=listed({601: 500}))
        async with account(spec, Behaviour(script=(None, None, *[Fault.RESET] * 2000))) as served:
            batches: list[pa.RecordBatch] = []
            with pytest.raises(harvester.IncompleteHarvest, match="601") as caught:
                await gather(served.stream(limit=100, patience=0.05), batches)
            rows = sum(batch.num_rows for batch in batches)
            assert rows == caught.value.outcome.rows == 198

    async def test_a_send_that_has_no_rows_is_warned_of(self, caplog: pytest.LogCaptureFixture) -> None:
        structlog.reset_defaults()
        async with account() as served:
            stream = served.stream(sends=[999, *SPEC.sends.ids])
            served.assert_exact("messages", [batch async for batch in stream])
            assert stream.outcome.proofs[999] is harvester.Proof.EMPTY
        assert ["mistyped" in record.getMessage() and "999" in record.getMessage() for record in caplog.records] == [
            True
        ]

    async def test_lists_that_are_not_proven_are_told(self) -> None:
        async with account() as served:
            batches: list[pa.RecordBatch] = []
            known = next(served.server.account.sends).id_message
            with pytest.raises(harvester.IncompleteHarvest, match=r"not proven .*campaign 999") as caught:
                await gather(served.stream(campaigns=[999, known]), batches)
            served.assert_exact("messages", batches)
            assert caught.value.outcome.doubts
            assert not caught.value.outcome.incomplete

    async def test_an_address_that_is_refused_ends_it_at_once(self) -> None:
        async with account(behaviour=Behaviour(disallowed=True)) as served:
            with pytest.raises(harvester.AccessRefused, match="refuses the address"):
                await anext(served.stream())
            assert served.server.stats.requests == 1

    async def test_a_server_that_is_not_there(self) -> None:
        async with account() as served:
            stream = served.stream(endpoint="http://127.0.0.1:9", patience=0.1)
            with pytest.raises(harvester.ServerNotReached):
                await anext(stream)

    async def test_the_code_is_in_no_error_and_no_repr(self) -> None:
        async with account(behaviour=Behaviour(disallowed=True)) as served:
            stream = served.stream()
            with pytest.raises(harvester.AccessRefused) as caught:
                await anext(stream)
            assert MD5 not in f"{caught.getrepr(style='long', showlocals=False)}{stream!r}{caught.value!r}"


class TestPace:
    async def test_a_reader_that_is_slow_has_the_harvest_wait(self) -> None:
        spec = AccountSpec(sends=equal(30, 40))
        async with account(spec) as served:
            stream = served.stream(concurrency=2)
            first = await anext(stream)
            scheduler = stream._work.scheduler
            assert scheduler is not None
            await until(
                lambda: scheduler.state.busy + scheduler.state.uncommitted == 4 and not scheduler.state.in_flight
            )
            with anyio.move_on_after(0.05):  # nothing more goes out: no state to wait for says so
                await anyio.sleep_forever()
            assert served.server.stats.requests == 4
            served.assert_exact("messages", [first, *[batch async for batch in stream]])

    async def test_a_reader_that_is_cancelled_while_it_waits_may_go_on(self) -> None:
        async with account(behaviour=Behaviour(latency_s=(0.02, 0.02))) as served:
            stream, batches, impatient = served.stream(limit=200), [], 0
            while True:
                try:
                    async with asyncio.timeout(0.005):
                        batches.append(await anext(stream))
                except TimeoutError:
                    impatient += 1
                except StopAsyncIteration:
                    break
            assert impatient
            served.assert_exact("messages", batches)


class TestLeaving:
    async def test_break_ends_the_harvest(self) -> None:
        before = asyncio.all_tasks()
        async with account(behaviour=Behaviour(latency_s=(0.0, 0.01))) as served:
            async for _ in served.stream(limit=20):
                break
            while mine := {task for task in others(before) if "harvester" in task.get_name()}:
                await asyncio.wait(mine)
            await until(lambda: not served.server.stats.in_flight)
            requests = served.server.stats.requests
            await asyncio.sleep(0.03)
            assert served.server.stats.requests == requests < 10

    async def test_after_the_context_nothing_is_left(self) -> None:
        async with account(behaviour=Behaviour(latency_s=(0.0, 0.01))) as served:
            before = asyncio.all_tasks()
            async with served.stream(limit=20) as stream:
                await anext(stream)
                assert others(before)
            assert not {task for task in others(before) if "harvester" in str(task.get_coro())}
            with pytest.raises(harvester.UsageError, match="closed"):
                await anext(stream)
            with pytest.raises(harvester.UsageError, match="not read to its end"):
                _ = stream.outcome

    async def test_aclosing_does_the_same(self) -> None:
        async with account() as served, aclosing(served.stream(limit=20)) as stream:
            await anext(stream)
        assert stream._task is not None
        assert stream._task.done()

    async def test_closing_one_that_ended_keeps_what_it_said(self) -> None:
        async with account() as served:
            async with served.stream() as stream:
                _ = [batch async for batch in stream]
            assert [batch async for batch in stream] == []
            assert stream.outcome.complete

    async def test_an_error_of_the_reader_goes_through(self) -> None:
        async with account() as served:
            stream = served.stream(limit=20)

            async def divide() -> None:
                async with stream:
                    async for batch in stream:
                        _ = batch.num_rows / 0

            with pytest.raises(ZeroDivisionError):
                await divide()
            assert stream._task is not None
            assert stream._task.done()

    async def test_a_stream_that_is_cancelled_closes(self) -> None:
        async with account() as served:
            stream = served.stream(limit=20)
            with anyio.CancelScope() as scope:
                async with stream:
                    async for _ in stream:
                        scope.cancel()
            assert stream._task is not None
            assert stream._task.done()

    async def test_one_that_was_never_read_leaves_nothing(self) -> None:
        async with account() as served:
            stream = served.stream()
            del stream
            gc.collect()
            async with served.stream():
                pass
            assert served.server.stats.requests == 0


class TestArguments:
    @pytest.mark.parametrize(
        ("arguments", "said"),
        [
            ({}, "say what to harvest"),
            ({"sends": [1], "all": True}, "and one of them"),
            ({"sends": [1], "since": "2024-01-01"}, "since and until go with"),
            ({"sends": ["601"]}, "'601' is not an id"),
            ({"sends": [True]}, "True is not an id"),
            ({"sends": [0]}, "0 is not an id"),
            ({"sends": "601"}, "'601' is not an id"),
            ({"all": True, "since": "May"}, "since is a day such as 2024-05-31, not 'May'"),
            ({"all": True, "since": "2024-05-02", "until": "2024-05-01"}, "^since 2024-05-02 is later than until"),
            ({"sends": [1], "dataset": "opens"}, "there is no dataset 'opens'; there are messages, bounces"),
            ({"sends": [1], "limit": 2}, "^limit goes from 3"),
            ({"sends": [1], "limit": "many"}, "limit can't be 'many'"),
            ({"sends": [1], "wire": "smoke"}, "wire can't be 'smoke'"),
            ({"sends": [1], "memory": "1 GB or so"}, "is not a size"),
            ({"sends": [1], "patience": "a while"}, "is not a duration"),
            ({"sends": [1], "client_id": "me"}, "the client id is a number; see client_id"),
            ({"sends": [1], "client_id": None}, "HARVESTER_CLIENT_ID"),
            ({"sends": [1], "client_md5": ""}, "HARVESTER_CLIENT_MD5"),
            ({"sends": [1], "client_md5": None, "client_md5_file": "/nowhere"}, "^client_md5_file /nowhere: No such"),
            ({"sends": [1], "endpoint": "http://example.com"}, "use https, or insecure_http"),
        ],
    )
    def test_what_cannot_be_meant_is_refused_at_once(self, arguments: dict[str, Any], said: str) -> None:
        given: dict[str, Any] = {"client_id": 12345, "client_md5": MD5} | arguments
        for call in (harvester.stream, harvester.read):
            with pytest.raises(harvester.UsageError, match=said):
                call(**given)

    def test_an_option_that_there_is_not(self) -> None:
        with pytest.raises(TypeError, match="there is no option lake"):
            harvester.stream(sends=1, lake="here")  # type: ignore[call-arg]

    def test_all_options_become_settings(self, tmp_path: Path) -> None:
        code = tmp_path / "code"
        code.write_text(MD5)
        code.chmod(0o600)
        settings = options.settings_of(
            "messages",
            {
                "client_id": 12345,
                "client_md5_file": code,
                "endpoint": "http://example.com",
                "ca_file": tmp_path / "ca.pem",
                "insecure_http": True,
                "wire": "xml",
                "limit": 100,
                "rate": 2,
                "burst": 3,
                "concurrency": 4,
                "memory": "512MiB",
                "timeout": timedelta(minutes=1),
                "patience": "1h",
            },
        )
        assert (settings.client_id, str(settings.client_md5), settings.wire.value) == ("12345", MD5, "xml")
        assert (settings.endpoint, settings.insecure_http) == ("http://example.com", True)
        assert settings.ca_file == tmp_path / "ca.pem"
        assert (settings.limit, settings.rate, settings.burst, settings.concurrency) == (100, 2, 3, 4)
        assert (settings.memory, settings.timeout_s, settings.patience_s) == (512 * 2**20, 60, 3600)

    def test_the_account_may_come_from_the_environment(self, monkeypatch: pytest.MonkeyPatch) -> None:
        for name, value in {"CLIENT_ID": "7", "CLIENT_MD5": MD5, "ENDPOINT": "https://e.test", "RATE": "2.5"}.items():
            monkeypatch.setenv(f"HARVESTER_{name}", value)
        settings = options.settings_of("messages", {})
        assert (settings.client_id, str(settings.client_md5)) == ("7", MD5)
        assert (settings.endpoint, settings.rate) == ("https://e.test", 2.5)
        assert options.settings_of("messages", {"client_id": 8, "client_md5": "ff", "rate": 1}).client_id == "8"

    def test_a_file_that_others_can_read_is_warned_of(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
    ) -> None:
        structlog.reset_defaults()
        code = tmp_path / "code"
        code.write_text(MD5)
        code.chmod(0o644)
        monkeypatch.setenv("HARVESTER_CLIENT_MD5_FILE", str(code))
        assert options.settings_of("messages", {"client_id": 1}).client_md5 == MD5
        assert [record.levelno for record in caplog.records if str(code) in record.getMessage()] == [logging.WARNING]


class TestPackage:
    @pytest.mark.parametrize(
        ("uses", "without"),
        [("__version__", {"pyarrow", "anyio", "aiohttp"}), ("stream", {"sqlalchemy", "cyclopts"})],
    )
    def test_importing_it_is_cheap(self, uses: str, without: set[str]) -> None:
        code = f"import sys, harvester; harvester.{uses}; print(sorted(sys.modules.keys() & {without}))"
        told = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True, timeout=60)
        assert told.stdout.split() == ["[]"]

    def test_every_name_is_there(self) -> None:
        assert harvester.__all__ == sorted(harvester.__all__)
        assert set(harvester.__all__) <= set(dir(harvester))
        for name in harvester.__all__:
            assert getattr(harvester, name) is not None
        with pytest.raises(AttributeError, match="no attribute 'lake_of_tears'"):
            _ = harvester.lake_of_tears

    async def test_it_says_nothing_on_standard_output(
        self, capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        structlog.reset_defaults()
        monkeypatch.setattr(logging.getLogger(), "handlers", [caplog.handler])  # what other tests set up is not meant
        caplog.set_level(logging.INFO)
        async with account(behaviour=Behaviour(script=(None, Fault.RESET))) as served:
            _ = [batch async for batch in served.stream(limit=300)]
        assert capsys.readouterr().out == ""
        assert any("attempt failed" in record.getMessage() for record in caplog.records)
