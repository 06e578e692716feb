"""A run: opens the lake and the client, puts the two wings together, and tells how it went.

Three things go on at once: the scheduler asks, one task makes delivered pages durable in the order in which they come,
and some seal, on threads of their own and never in the way of the other two.
"""

from __future__ import annotations

from contextlib import asynccontextmanager
from dataclasses import replace
from typing import TYPE_CHECKING, TypeVar

import anyio
from anyio import to_thread

from harvester.api.client import Client
from harvester.datasets import CATALOGUE, DEFAULT
from harvester.errors import first_of
from harvester.harvest import keeping, parts
from harvester.harvest.committing import MOST_PAGES, Committing, take_steps
from harvester.harvest.finding import Finder
from harvester.harvest.learning import Learning
from harvester.harvest.outcome import Paced, Result, SliceProgress, Snapshot
from harvester.harvest.scheduler import Delivery, Scheduler
from harvester.harvest.sealing import AFTER_DRAIN_S, Sealing
from harvester.harvest.slices import LakeSlices
from harvester.harvest.status import outcomes
from harvester.harvest.widewalks import WideWalks
from harvester.lake.lake import open_lake

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterable, Mapping
    from contextlib import AbstractContextManager

    from harvester.config import Settings
    from harvester.harvest.finding import Found
    from harvester.harvest.sealing import SealSoon
    from harvester.lake.entries import Tally
    from harvester.lake.lake import Lake
    from harvester.model import Send

Entered = TypeVar("Entered")

_TROUBLE_SHOWN_S = 30.0
_SHOWN = 8
_ROW_GROUP_PART = 8
"""A row group of a data file is no larger than this part of the memory budget."""


class Harvest:
    """One run over a list of sends.

    Attributes:
        result: how it ended, as far as it got; None before ``run`` has opened the lake.
    """

    def __init__(self, settings: Settings, sends: Iterable[Send] | Finder) -> None:
        """``sends`` are the sends to harvest, or what finds them."""
        self.settings = settings
        self.result: Result | None = None
        self._sends = sends
        self._scheduler: Scheduler | None = None
        self._client: Client | None = None
        self._before: Mapping[str, Tally] = {}
        self._found: Found | None = None
        self._unlisted: tuple[int, ...] = ()
        self._began_at = 0.0
        self._drained_at: float | None = None
        self._sealing: Sealing | None = None
        self._learning: Learning | None = None

    def drain(self) -> None:
        """Finishes and commits what is in flight, and begins nothing. ``run`` then returns."""
        if self._drained_at is None:
            self._drained_at = anyio.current_time()
        if isinstance(self._sends, Finder):
            self._sends.drain()
        if self._scheduler is not None:
            self._scheduler.drain()
        if self._sealing is not None:
            self._sealing.drain(self._drained_at)

    async def run(self) -> Result:
        """Harvests until every slice is complete or given up, or until it is drained.

        Raises:
            AccessRefused: the API refuses the account or the address.
            LakeError: the lake can't be used.
            ServerNotReached: the server was never reached, or not for longer than the run is patient.
            UsageError: the list of sends or the file of certificates can't be read.
        """
        self._began_at = anyio.current_time()
        settings = self.settings
        row_group_bytes = min(settings.tuning.row_group_bytes, settings.memory // _ROW_GROUP_PART)
        tuning = replace(settings.tuning, row_group_bytes=row_group_bytes)
        opened = open_lake(
            settings.lake, tuning, ledger=settings.ledger, drop_gone=settings.drop_gone, table=settings.table
        )
        async with Client.open(settings) as client, _in_threads(opened) as lake:
            self._client = client
            self._learning = Learning(settings, client, lake.bearing)
            await self._learning.begin()
            run = await to_thread.run_sync(_begin, lake, settings)
            try:
                # Before anything is due again: what earlier runs' refreshes have brought.
                refreshed = await to_thread.run_sync(lake.inventory.refreshed_slices)
                await Sealing(lake, client.budget).seal(refreshed, everything=lake.gatherer.shares)
                await self._select(lake, run, client)
                await self._harvest(lake, run, client)
                await to_thread.run_sync(lake.seal_tables)
                if self._drained_at is None:
                    await to_thread.run_sync(lake.runs.end, run)
            except BaseExceptionGroup as group:
                raise first_of(group) from None
            finally:
                with anyio.CancelScope(shield=True):
                    await self._learning.keep(ended=True)
                    self.result = await self._tell(lake, run)
        assert self.result is not None
        return self.result

    async def _select(self, lake: Lake, run: int, client: Client) -> None:
        """Makes the sends, which may have to be found first, the run's selection, and decides what is refreshed."""
        settings, now = self.settings, self.settings.tuning.clock()
        sends = self._sends
        if isinstance(sends, Finder):
            self._found = found = await sends.find(client)
            sends = [replace(send, proven=found.proven) for send in found.sends]
            assert self._learning is not None
            await self._learning.keep()
        await to_thread.run_sync(lake.runs.select, run, sends, settings.datasets, now)
        await to_thread.run_sync(lake.runs.mark_due, run, settings.refresh, settings.refresh_within_s, now)
        if self._found is not None and not self._found.interrupted:
            since, until = self._found.since.isoformat(), self._found.until.isoformat()
            unlisted = await to_thread.run_sync(lake.runs.unlisted, run, self._found.campaigns, since, until)
            self._unlisted = tuple(unlisted)
        await to_thread.run_sync(keeping.choose, lake, run, settings, self._found)
        async with Sealing(lake, client.budget).beside(()) as seal_soon:
            await take_steps(keeping.make_up(lake, settings.limit), seal_soon, self._is_out_of_time)
        self._before = await to_thread.run_sync(lake.runs.tally, run)

    async def _harvest(self, lake: Lake, run: int, client: Client) -> None:
        self._sealing = sealing = Sealing(lake, client.budget)
        if self._drained_at is not None:
            sealing.drain(self._drained_at)
        async with sealing.beside(await to_thread.run_sync(lake.inventory.unsealed_slices)) as seal_soon:
            incomplete = any(tally.complete < tally.slices for tally in self._before.values())
            if incomplete or await to_thread.run_sync(lake.scopes.has_any):
                await self._ask(lake, run, client, seal_soon)
        if self._drained_at is None:
            await sealing.seal(await to_thread.run_sync(lake.inventory.unsealed_slices), everything=True)

    async def _ask(self, lake: Lake, run: int, client: Client, seal_soon: SealSoon) -> None:
        deliver, delivered = anyio.create_memory_object_stream[Delivery](MOST_PAGES)
        async with anyio.create_task_group() as tasks:
            slices = LakeSlices(lake, run, self.settings.limit)
            wide = WideWalks(lake, slices)
            self._scheduler = scheduler = Scheduler(
                self.settings, client=client, slices=slices, deliver=deliver, wide=wide
            )
            await to_thread.run_sync(slices.foretell, scheduler.workload)
            if self._drained_at is not None:
                scheduler.drain()
            tasks.start_soon(scheduler.run)
            assert self._learning is not None
            committing = Committing(lake, scheduler, seal_soon, self._is_out_of_time)
            await committing.commit_all(delivered, self._learning.keep)

    def _is_out_of_time(self) -> bool:
        """Whether a drain has no more time for what the next run can do as well."""
        return self._drained_at is not None and anyio.current_time() > self._drained_at + AFTER_DRAIN_S

    async def _tell(self, lake: Lake, run: int) -> Result:
        tallies = await to_thread.run_sync(lake.runs.tally, run)
        met = self._scheduler.met if self._scheduler else {}
        doubts = self._found.doubts if self._found is not None else ()
        complete = not doubts and all(tally.complete == tally.slices for tally in tallies.values())
        if isinstance(self._sends, Finder):
            complete = complete and self._found is not None
        if complete and self._drained_at is not None:  # rows that readers can't see yet are no complete lake
            complete = not await to_thread.run_sync(lake.inventory.unsealed_slices)
        return Result(
            complete=complete,
            interrupted=self._drained_at is not None and not complete,
            rows={
                name: tallies[name].rows if name in tallies else 0
                for name in CATALOGUE
                if name in (*DEFAULT, *self.settings.datasets)
            },
            queries=self._queries,
            attempts=self._client.attempts if self._client else 0,
            seconds=anyio.current_time() - self._began_at,
            slices=lambda: outcomes(self.settings.lake, run, self.settings.ledger),
            doubts=doubts,
            unlisted=self._unlisted,
            met={name: tuple(sorted(names)) for name, names in met.items() if names},
            limit=self._scheduler.fitting.lowest if self._scheduler else None,
            told=(self.settings.rate, self.settings.concurrency),
            paced=self._paced,
            table=await to_thread.run_sync(lake.runs.table),
        )

    @property
    def _paced(self) -> Paced | None:
        if self._client is None:
            return None
        pace = self._client.pace
        return Paced(pace.rate, pace.concurrency, pace.refused, pace.pauses)

    @property
    def _queries(self) -> int:
        finding = self._sends.queries if isinstance(self._sends, Finder) else 0
        return finding + (self._scheduler.queries if self._scheduler else 0)

    def snapshot(self) -> Snapshot:
        """The state of the run at this instant. On the event loop only."""
        now = anyio.current_time()
        scheduler, client, before = self._scheduler, self._client, self._before
        walks = [walk for walk in scheduler.state.walks.values() if walk.scope is None] if scheduler else []
        shown = sorted(walks, key=lambda walk: walk.rows, reverse=True)[:_SHOWN]
        finder = self._sends if isinstance(self._sends, Finder) else None
        trouble = scheduler.trouble if scheduler else finder.trouble if finder else None
        return Snapshot(
            seconds=now - self._began_at,
            rows=dict(scheduler.rows) if scheduler else dict.fromkeys(self.settings.datasets, 0),
            rows_before={name: tally.rows for name, tally in before.items()},
            rows_expected={name: tally.expected for name, tally in before.items() if tally.expected is not None},
            queries=self._queries,
            attempts=client.attempts if client else 0,
            in_flight=client.limiter.in_flight if client else 0,
            concurrency=self.settings.concurrency,
            rate=self.settings.rate,
            rate_used=client.limiter.rate_used() if client else 0.0,
            slices=sum(tally.slices for tally in before.values()),
            slices_complete=sum(tally.complete for tally in before.values()) + (scheduler.complete if scheduler else 0),
            slices_failed=scheduler.gave_up if scheduler else 0,
            under_way=tuple(
                SliceProgress(walk.key.dataset, walk.key.id_send, walk.rows, walk.expected, parts.all_fail(walk))
                for walk in shown
            ),
            waiting=sum(map(parts.all_fail, walks)),
            trouble=trouble[1] if trouble and now - trouble[0] < _TROUBLE_SHOWN_S else None,
            left_s=scheduler.time_left() if scheduler and self._drained_at is None else None,
            paused_s=client.limiter.paused_s if client else 0.0,
            draining=self._drained_at is not None,
            search=finder.search if finder else None,
            paced=self._paced,
        )


def _begin(lake: Lake, settings: Settings) -> int:
    by = settings.partition_by
    return lake.runs.begin(settings.client_id, settings.redaction.label, by and by.value)


@asynccontextmanager
async def _in_threads(manager: AbstractContextManager[Entered]) -> AsyncIterator[Entered]:
    """Enters and leaves a blocking context manager in worker threads."""
    entered = await to_thread.run_sync(manager.__enter__)
    try:
        yield entered
    finally:
        with anyio.CancelScope(shield=True):
            await to_thread.run_sync(manager.__exit__, None, None, None)


__all__ = ["Harvest"]
