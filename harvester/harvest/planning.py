"""What a run would ask: sends, rows, queries, and the least time that they take. Asks for lists of sends, and no more.

Invariant: it writes nothing, and makes no lake. What it can't know it takes to be as little as possible, and says so
(``Plan.at_least``).
"""

from __future__ import annotations

from collections import Counter
from contextlib import ExitStack
from dataclasses import dataclass, field
from itertools import islice
from typing import TYPE_CHECKING

from anyio import to_thread

from harvester.api.client import Client
from harvester.datasets import CATALOGUE
from harvester.harvest.finding import Finder
from harvester.harvest.paging import more_pages, pages
from harvester.harvest.scoping import Weighing, known_by
from harvester.harvest.wanted import Wanted
from harvester.lake.entries import Due, Held
from harvester.lake.lake import is_lake, look_into

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping

    from harvester.config import Scope, Settings
    from harvester.datasets import Dataset
    from harvester.harvest.finding import Found
    from harvester.harvest.scoping import Known
    from harvester.model import Send

_BATCH = 500


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What a run would ask.

    Attributes:
        sends: sends to harvest.
        slices: what is wanted of them: datasets times sends.
        slices_complete: slices that the lake holds already, up to a proof, and that are not due; nothing is asked.
        slices_due: slices that the lake holds, up to a proof, and that are due for refreshing.
        rows: rows that the sends say they have, by dataset; datasets are missing of which no list says anything.
        rows_held: rows that the lake holds already, by dataset.
        unsized: sends that don't say how many messages they have.
        queries: queries that are needed.
        at_least: whether more may be needed, since it is not known how many rows there are, or where pages will end.
        seconds: the least time that they take at the rate of the settings.
        found: how finding the sends went; None where they were named.
        each: the sends, once more.
    """

    sends: int
    slices: int
    slices_complete: int
    slices_due: int
    rows: Mapping[str, int]
    rows_held: Mapping[str, int]
    unsized: int
    queries: int
    at_least: bool
    seconds: float
    found: Found | None
    each: Callable[[], Iterator[Send]]


NOTHING = Held(0, complete=False, expected=None)


async def make_plan(settings: Settings, wanted: Iterable[Send] | Wanted) -> Plan:
    """Plans a run of sends that are named, or that are to be found.

    Args:
        settings: of the run.
        wanted: the sends, in an iterable that can be gone through twice, or what is to be found.

    Raises:
        AccessRefused: the account or the address is refused, or the account may not call the report functions.
        LakeError: there is a lake, and it can't be read.
        ServerNotReached: the server was never reached.
        UsageError: the list of sends can't be read.
    """
    if not isinstance(wanted, Wanted):
        return await to_thread.run_sync(plan_of, settings, wanted, None)
    async with Client.open(settings) as client:
        found = await Finder(settings, wanted).find(client)
    return await to_thread.run_sync(plan_of, settings, found.sends, found)


def plan_of(settings: Settings, sends: Iterable[Send], found: Found | None) -> Plan:
    """Adds up what the sends need, beyond what the lake holds. Blocking. Raises LakeError."""
    proven = found is not None and found.proven
    sums = _Sums(settings.limit, Weighing(settings.limit), proven=proven)
    policy, within_s, now = settings.refresh, settings.refresh_within_s, settings.tuning.clock()
    with ExitStack() as stack:
        there = is_lake(settings.lake, settings.ledger)
        lake = stack.enter_context(look_into(settings.lake, settings.ledger)) if there else None
        rest = _once(sends)
        while batch := list(islice(rest, _BATCH)):
            held = lake.runs.held([send.id_send for send in batch], policy, within_s, now) if lake else {}
            for send in batch:
                for name in settings.datasets:
                    sums.add(CATALOGUE[name], send, held.get((name, send.id_send), NOTHING))
    sums.walk_together(settings.scope, known_by(found))
    return Plan(
        sends=sums.sends,
        slices=sums.sends * len(settings.datasets),
        slices_complete=sums.complete,
        slices_due=sums.due,
        rows=dict(sums.rows),
        rows_held={name: sums.held[name] for name in settings.datasets},
        unsized=sums.unsized,
        queries=sums.queries,
        at_least=sums.at_least or not (found is None or proven),
        seconds=max(0, sums.queries - settings.burst) / settings.rate,
        found=found,
        each=lambda: _once(sends),
    )


def least_queries(dataset: Dataset, expected: int | None, held: Held, limit: int, *, proven: bool) -> tuple[int, bool]:
    """How many queries a slice that is not complete needs at least, and whether it may need more.

    Args:
        dataset: of the slice.
        expected: how many rows it has, if that is known.
        held: what the lake holds of it.
        limit: records to ask for in one query.
        proven: whether the size comes from a list that is proven.
    """
    if not dataset.paged:
        return 1, True  # one, if it covers the messages that failed; else a second, to agree with the first
    if expected is None:
        return (1 if held.rows else 2), True  # two answers that end at the same record; one may have been seen already
    if expected == 0 and not proven:
        return 2, True
    if held.rows > expected:
        return 1, True
    count, rows = (more_pages, expected - held.rows) if held.rows else (pages, expected)
    least = count(rows, limit)
    return least, least < count(rows, limit, 2)


def least_refresh(dataset: Dataset, held: Held, limit: int) -> int:
    """How many queries bring again what is due of a slice that is complete and has rows, at least."""
    if not dataset.paged:
        return 1
    if held.due is Due.ALL:
        return pages(held.rows, limit)
    # Pages after the first bring their cursor's record again; the last one may be full.
    return 1 + max(0, -(-(held.waiting - limit) // (limit - 1)))


@dataclass(slots=True)
class _Sums:
    """What has been added up so far."""

    limit: int
    weighing: Weighing
    proven: bool
    sends: int = 0
    complete: int = 0
    due: int = 0
    unsized: int = 0
    queries: int = 0
    at_least: bool = False
    rows: Counter[str] = field(default_factory=Counter)
    held: Counter[str] = field(default_factory=Counter)
    one_by_one: Counter[int | None] = field(default_factory=Counter)
    _last: int | None = None

    def add(self, dataset: Dataset, send: Send, held: Held) -> None:
        """One slice more; slices of a send come one after another."""
        first = send.id_send != self._last
        self._last = send.id_send
        self.sends += first
        self.held[dataset.name] += held.rows
        expected = None
        if dataset.counted:
            expected = held.expected if send.expected is None else send.expected
            self.unsized += expected is None
        if expected is not None:
            self.rows[dataset.name] += expected
        # What was complete, and is said to have more by now than it has, has grown.
        grown = expected is not None and expected > held.rows and expected != held.expected
        settled = held.complete and not grown
        if settled and held.due is Due.NOTHING:
            self.complete += 1
            if dataset.counted:
                self.weighing.add(send.id_message, held.rows, wanted=False)
            return
        self.due += settled
        fresh = dataset.counted and held == NOTHING
        if settled and held.rows:
            queries, at_least = least_refresh(dataset, held, self.limit), True
        else:
            queries, at_least = least_queries(dataset, expected, held, self.limit, proven=self.proven)
        self.queries += queries
        self.at_least |= at_least
        if fresh:
            self.weighing.add(send.id_message, expected, wanted=True)
            self.one_by_one[send.id_message] += queries
        elif dataset.counted:
            self.weighing.add(send.id_message, max(expected or 0, held.rows), wanted=False)

    def walk_together(self, scope: Scope, known: Known) -> None:
        """All slices are added: some of messages may be walked together, which takes other queries."""
        chosen, campaigns = self.weighing.choose(scope, known), self.weighing.campaigns
        if chosen.account:
            self.queries += chosen.queries(campaigns, self.limit) - self.one_by_one.total()
        for id_message in chosen.campaigns:
            self.queries += campaigns[id_message].together(self.limit) - self.one_by_one[id_message]


def _once(sends: Iterable[Send]) -> Iterator[Send]:
    """Each send once, as its first entry has it."""
    seen: set[int] = set()
    for send in sends:
        if send.id_send not in seen:
            seen.add(send.id_send)
            yield send


__all__ = ["NOTHING", "Plan", "least_queries", "least_refresh", "make_plan", "plan_of"]
