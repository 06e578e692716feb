"""What a run would ask, held against what runs do ask."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import date, datetime
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harvester.config import Refresh, Scope
from harvester.console.cli import command_line
from harvester.datasets import BOUNCES, CAMPAIGNS, MESSAGES, RAW_RESPONSES, SENDS
from harvester.errors import LakeBroken, Unauthorized
from harvester.harvest.finding import Finder
from harvester.harvest.paging import more_pages, pages
from harvester.harvest.planning import least_queries, least_refresh, make_plan
from harvester.harvest.run import Harvest
from harvester.harvest.wanted import Wanted
from harvester.lake import layout
from harvester.lake.entries import Due, Held
from harvester.model import Send
from harvester.simulator.behaviour import Behaviour
from harvester.simulator.spec import AccountSpec, equal, listed
from tests.harvesting import QUICK, Field, field, outcomes, proofs
from tests.test_console_run import untouched

pytestmark = pytest.mark.anyio

TUNING = replace(QUICK, clock=lambda: datetime.fromisoformat("2022-08-01"))
NOON = datetime.fromisoformat("2020-05-01 12:00")
TWO = AccountSpec(sends=equal(6, 40), sends_per_campaign=3, first_date=NOON, days_between=7)
"""Six sends in two campaigns, each of one page."""
ALL = Wanted()
LIMIT = 10


def simulated(rows: int, limit: int, held: int, more: int) -> int:
    """How many queries a walk asks that knows its count, and asks again for ``more`` of the last records it has."""
    queries = 0
    while True:
        queries += 1
        again = min(held, more)
        answer = min(limit, rows - held + again)
        held += answer - again
        if answer < limit and held == rows:
            return queries


@given(st.integers(0, 500), st.integers(3, 60), st.integers(1, 2))
def test_pages_are_counted_as_a_walk_asks_them(rows: int, limit: int, again: int) -> None:
    assert pages(rows, limit, again) == simulated(rows, limit, 0, again)


@given(st.integers(2, 500), st.integers(0, 500), st.integers(3, 60), st.integers(1, 2))
def test_pages_of_a_walk_under_way_are_counted_likewise(held: int, rows: int, limit: int, again: int) -> None:
    assert more_pages(rows, limit, again) == simulated(held + rows, limit, held, again)


@pytest.mark.parametrize(
    ("dataset", "expected", "held", "proven", "queries"),
    [
        (MESSAGES, 9, 0, False, (1, False)),
        (MESSAGES, 10, 0, False, (2, False)),
        (MESSAGES, 19, 10, False, (2, False)),
        (MESSAGES, 18, 0, False, (2, True)),
        (MESSAGES, 0, 0, True, (1, False)),
        (MESSAGES, 0, 0, False, (2, True)),
        (MESSAGES, 5, 8, False, (1, True)),
        (MESSAGES, None, 0, False, (2, True)),
        (MESSAGES, None, 5, False, (1, True)),
        (RAW_RESPONSES, None, 0, True, (2, True)),
        (BOUNCES, None, 0, True, (1, True)),
    ],
)
def test_what_is_not_known_is_taken_to_be_as_little_as_possible(
    dataset: Any, expected: int | None, held: int, proven: bool, queries: tuple[int, bool]
) -> None:
    lake = Held(held, complete=False, expected=expected)
    assert least_queries(dataset, expected, lake, LIMIT, proven=proven) == queries


def scene(tmp_path: Path, spec: AccountSpec = TWO, behaviour: Behaviour | None = None, **settings: Any) -> Any:
    return field(
        tmp_path / "lake",
        spec,
        behaviour,
        **({"tuning": TUNING, "datasets": ("messages",), "scope": Scope.SEND} | settings),
    )


async def planned_and_asked(seen: Field, sends: list[Send]) -> tuple[int, int]:
    plan = await make_plan(seen.settings, sends)
    before = seen.server.stats.requests
    result = await Harvest(seen.settings, sends).run()
    assert set(proofs(result, "messages")) == {"count"}
    asked = seen.server.stats.requests - before
    assert asked == plan.queries or plan.at_least
    return plan.queries, asked


@pytest.mark.parametrize("gap", [1, 50])
async def test_a_run_asks_as_many_queries_as_planned(tmp_path: Path, gap: int) -> None:
    sizes = dict(enumerate((1, 9, 10, 11, 18, 19, 20, 28, 29, 100), start=1))
    async with scene(tmp_path, AccountSpec(sends=listed(sizes), gap=gap, seed=1), limit=LIMIT, concurrency=1) as seen:
        planned, asked = await planned_and_asked(seen, [Send(n, expected=rows) for n, rows in sizes.items()])
        assert (planned, asked) == (34, 36 if gap == 1 else 34), "dense keys bring two records again"


async def test_a_run_asks_exactly_as_planned_where_no_more_is_possible(tmp_path: Path) -> None:
    sizes = dict(enumerate((1, 9, 10, 11, 17, 20), start=1))
    async with scene(tmp_path, AccountSpec(sends=listed(sizes)), limit=LIMIT) as seen:
        sends = [Send(n, expected=rows) for n, rows in sizes.items()]
        assert not (await make_plan(seen.settings, sends)).at_least
        planned, asked = await planned_and_asked(seen, sends)
        assert planned == asked == 11


async def test_a_plan_of_everything_asks_for_the_lists_alone_and_makes_no_lake(tmp_path: Path) -> None:
    async with scene(tmp_path) as seen:
        plan = await make_plan(seen.settings, ALL)
        assert (plan.sends, plan.slices, plan.rows, plan.unsized) == (6, 6, {"messages": 240}, 0)
        assert (plan.queries, plan.at_least, plan.slices_complete) == (6, False, 0)
        assert plan.seconds == 0.0, "fewer than the burst"
        assert plan.found is not None
        assert plan.found.proven
        assert [send.id_send for send in plan.each()] == list(seen.server.account.spec.sends.ids)
        assert seen.server.stats.functions[MESSAGES.function] == 1, "the first record"
        assert seen.server.stats.requests == plan.found.queries
        assert not seen.lake.exists()
        slow = await make_plan(replace(seen.settings, rate=0.5, burst=1), [Send(n) for n in range(1, 11)])
        assert (slow.queries, slow.at_least, slow.unsized) == (20, True, 10)
        assert slow.seconds == 38.0


async def test_everything_is_found_and_proven_by_count_with_one_query_a_page(tmp_path: Path) -> None:
    async with scene(tmp_path) as seen:
        result = await Harvest(seen.settings, Finder(seen.settings, ALL)).run()
        assert result.complete
        assert len(outcomes(result)) == 6
        assert set(proofs(result, "messages")) == {"count"}
        functions = seen.server.stats.functions
        assert functions[MESSAGES.function] == 6 + 1, "one of them for the first record"
        assert result.queries == result.attempts == sum(functions.values())
        seen.assert_exact(datasets=["messages"])


async def test_sends_that_are_walked_at_once_are_planned_so(tmp_path: Path) -> None:
    async with scene(tmp_path, scope=Scope.AUTO) as seen:
        plan = await make_plan(seen.settings, ALL)
        assert (plan.sends, plan.rows, plan.queries, plan.at_least) == (6, {"messages": 240}, 1, False)
        result = await Harvest(seen.settings, Finder(seen.settings, ALL)).run()
        assert result.complete
        assert seen.server.stats.functions[MESSAGES.function] == 1 + 1 + 1, "two of them for the first record"
        seen.assert_exact(datasets=["messages"])


async def test_what_the_lake_holds_needs_no_more_than_refreshing(tmp_path: Path) -> None:
    async with scene(tmp_path, refresh=Refresh.NEVER) as seen:
        sends = [seen.server.account.send(ordinal) for ordinal in range(6)]
        await Harvest(seen.settings, sends[:2]).run()
        plan = await make_plan(seen.settings, sends)
        assert (plan.slices_complete, plan.rows_held) == (2, {"messages": 80})
        assert (plan.queries, plan.at_least) == (4, False)
        grown = [replace(sends[0], expected=50), sends[1]]
        assert (await make_plan(seen.settings, grown)).queries == 1
        both = await make_plan(replace(seen.settings, datasets=("messages", "bounces")), sends)
        assert (both.slices, both.queries, both.at_least) == (12, 4 + 6, True)


@pytest.mark.parametrize(("policy", "slices"), [(Refresh.NEVER, 0), (Refresh.UNSETTLED, 6), (Refresh.ALL, 6)])
async def test_what_is_due_for_refreshing_is_planned_as_it_is_asked(
    tmp_path: Path, policy: Refresh, slices: int
) -> None:
    lately = replace(TUNING, clock=lambda: datetime.fromisoformat("2020-06-10"))
    async with scene(tmp_path, replace(TWO, waiting=0.2), limit=30, refresh=Refresh.NEVER, tuning=lately) as seen:
        sends = [seen.server.account.send(ordinal) for ordinal in range(6)]
        await Harvest(seen.settings, sends).run()
        settings = replace(seen.settings, refresh=policy)
        plan = await make_plan(settings, sends)
        assert (plan.slices_due, plan.slices_complete) == (slices, 6 - slices)
        assert (plan.queries, plan.at_least) == (2 * slices, slices > 0), "two pages each"
        before = seen.server.stats.requests
        await Harvest(settings, sends).run()
        assert plan.queries <= seen.server.stats.requests - before <= 2 * plan.queries


def test_a_refresh_asks_again_for_what_is_due() -> None:
    held = Held(95, complete=True, expected=95, due=Due.ALL, waiting=35)
    assert least_refresh(MESSAGES, held, LIMIT) == pages(95, LIMIT) == 11
    assert least_refresh(MESSAGES, replace(held, due=Due.UNSETTLED), LIMIT) == 4
    assert least_refresh(MESSAGES, replace(held, due=Due.UNSETTLED, waiting=0), LIMIT) == 1
    assert least_refresh(BOUNCES, held, LIMIT) == 1


async def test_a_size_that_the_lake_knows_is_used(tmp_path: Path) -> None:
    async with scene(tmp_path, behaviour=Behaviour(fail_sends=frozenset({601_181})), patience_s=0.0) as seen:
        await Harvest(seen.settings, [Send(601_181, expected=30_000)]).run()
        plan = await make_plan(seen.settings, [Send(601_181)])
        assert (plan.rows, plan.queries, plan.at_least, plan.unsized) == ({"messages": 30_000}, 2, False, 0)


async def test_a_send_that_is_named_twice_is_planned_once(tmp_path: Path) -> None:
    async with scene(tmp_path) as seen:
        plan = await make_plan(seen.settings, [Send(5, expected=3), Send(6, expected=3), Send(5, expected=3)])
        assert (plan.sends, plan.queries) == (2, 2)
        assert seen.server.stats.requests == 0


async def test_lists_that_are_doubted_may_mean_more(tmp_path: Path) -> None:
    async with scene(tmp_path, AccountSpec(sends=equal(0, 0))) as seen:
        plan = await make_plan(seen.settings, ALL)
        assert (plan.sends, plan.queries, plan.at_least) == (0, 0, True)


async def test_what_cant_be_planned_says_why(tmp_path: Path) -> None:
    async with scene(tmp_path, behaviour=Behaviour(no_reports=True)) as seen:
        with pytest.raises(Unauthorized, match="--sends-file"):
            await make_plan(seen.settings, ALL)
        (seen.lake / layout.HOME).mkdir(parents=True)
        (seen.lake / layout.LEDGER).write_bytes(b"not a ledger" * 100)
        with pytest.raises(LakeBroken):
            await make_plan(seen.settings, [Send(1)])


async def test_the_days_of_a_plan_are_held_to(tmp_path: Path) -> None:
    async with scene(tmp_path) as seen:
        plan = await make_plan(seen.settings, Wanted(since=date(2020, 5, 8), until=date(2020, 5, 15)))
        assert [send.sent_at for send in plan.each()] == [
            datetime.fromisoformat("2020-05-08 12:00"),
            datetime.fromisoformat("2020-05-15 12:00"),
        ]
        assert seen.server.stats.functions == {CAMPAIGNS.function: 2, SENDS.function: 1}


class TestCommand:
    """``harvester plan`` on the command line; a server is only there for what is to be found."""

    @pytest.fixture(autouse=True)
    def clean(self, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Any:
        monkeypatch.chdir(tmp_path)
        with untouched(monkeypatch):
            yield

    def test_named_sends_need_no_server(self, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
        (tmp_path / "sends.csv").write_text("id_send,rows,sent_at\n7,24999,2024-05-31\n8,60000,\n9,,\n")
        assert command_line(["plan", "--lake", "lake", "--sends-file", "sends.csv"]) == 0
        out = capsys.readouterr().out
        assert out.startswith("3 sends\n")
        assert "messages      at least 84,999 rows; the lake holds 0" in out
        assert "bounces       not known how many rows; the lake holds 0" in out
        assert "queries       at least 9" in out, "1 + 3 + 2 for messages, one each for bounces"
        assert "time          at least 8.0 s at 1 queries a second" in out
        assert "1 send does not say how many messages there are: more may be needed." in out
        assert not (tmp_path / "lake").exists()

    def test_a_program_can_read_it(self, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
        (tmp_path / "sends.csv").write_text("id_send,rows,sent_at,id_message\n7,24999,2024-05-31,3\n8,25000,,\n")
        (tmp_path / "h.toml").write_text('[run]\ndataset = "messages"\nrefresh = "never"\nrate = 0.5\n')
        arguments = ["--lake", "lake", "--sends-file", "sends.csv", "--json", "--config", "h.toml"]
        assert command_line(["plan", *arguments]) == 0
        assert json.loads(capsys.readouterr().out) == {
            "proven": True,
            "doubts": [],
            "since": None,
            "until": None,
            "total": {"sends": 2, "slices": 2, "slices_complete": 0, "slices_due": 0},
            "rows": {"messages": 49_999},
            "rows_held": {"messages": 0},
            "unsized": 0,
            "queries": 3,
            "at_least": False,
            "seconds": 4.0,
            "rate": 0.5,
            "asked": {"queries": 0, "attempts": 0},
            "sends": [
                {"id_send": 7, "id_message": 3, "sent_at": "2024-05-31 00:00:00", "rows": 24_999},
                {"id_send": 8, "id_message": None, "sent_at": None, "rows": 25_000},
            ],
        }

    def test_a_server_that_is_not_there_is_one_sentence_and_an_object(self, capsys: pytest.CaptureFixture[str]) -> None:
        arguments = ["--all", "--endpoint", "http://127.0.0.1:9", "--patience", "0s", "--json"]
        assert command_line(["plan", "--lake", "lake", *arguments]) == 1
        out, err = capsys.readouterr()
        assert "could not be connected to" in err
        assert json.loads(out)["proven"] is False
        assert "could not be connected to" in json.loads(out)["error"]


async def test_a_plan_of_found_sends_lists_them_for_people(tmp_path: Path) -> None:
    from harvester.console.planned import describe  # noqa: PLC0415
    from tests.test_console_report import drawn  # noqa: PLC0415

    async with scene(tmp_path) as seen:
        text = drawn(*describe(await make_plan(seen.settings, ALL), seen.settings))
        first = seen.server.account.send(0)
        assert text.startswith("6 sends from 2020-03-31 to 2022-08-02\n")
        assert f"  {first.id_send}     {first.id_message}  2020-05-01 12:00:00        40" in text
        assert "6 queries" not in text
        assert "queries       6\n" in text
        assert "lists of campaigns and sends." in text
        empty = replace(seen.settings, patience_s=0.0)
        seen.server.behaviour = Behaviour(hidden_sends=frozenset(seen.server.account.spec.sends.ids))
        doubted = drawn(*describe(await make_plan(empty, ALL), empty))
        assert doubted.startswith("0 sends from ")
        assert "There may be more sends. These lists are not proven:" in doubted
