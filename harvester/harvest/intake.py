"""Which walks are under way: how slices and scopes are taken in, a few at a time, and how they leave.

A slice whose proof may need its send's messages follows these: it begins once they are over, or when all of them are
under way and a permit would go unused; then its answer waits for them. A walk over many sends that ends may leave
slices that go on by themselves; then all that is wanted is looked through once more.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import anyio
from anyio import to_thread

from harvester.datasets import CATALOGUE
from harvester.events import log
from harvester.harvest import parts, walks, widewalks
from harvester.harvest.walks import Walk
from harvester.lake.entries import Due
from harvester.model import KeyRange

if TYPE_CHECKING:
    from collections.abc import Callable

    from harvester.harvest.plan import State
    from harvester.harvest.slices import Slices
    from harvester.harvest.widewalks import Wide
    from harvester.harvest.workload import Workload
    from harvester.lake.entries import SliceRecord

_FEED_SENDS = 64


class Intake:
    """Takes slices in, and lets them go.

    Attributes:
        gave_up: slices that were given up.
    """

    def __init__(
        self,
        state: State,
        workload: Workload,
        limit: int,
        *,
        slices: Slices,
        wide: Wide | None,
        changed: Callable[[], None],
    ) -> None:
        """What it is about.

        Args:
            state: whose walks they become.
            workload: is told of each slice that begins.
            limit: records to ask for in one query, at most.
            slices: where slices come from.
            wide: where walks over many sends come from, if there are any.
            changed: is told when others may go.
        """
        self.gave_up = 0
        self._state = state
        self._workload = workload
        self._limit = limit
        self._slices = slices
        self._wide = wide
        self._changed = changed
        self._rewinds = False
        self._begun = 0
        self._over: dict[int, anyio.Event] = {}

    async def feed(self) -> None:
        """Takes in the next few; or notes that there are no more."""
        if self._wide is not None:
            scopes = await to_thread.run_sync(self._wide.take, _FEED_SENDS)
            for scope in scopes:
                self._state.walks[-scope.id] = widewalks.begin(scope, self._limit)
            if scopes:
                return
            if self._rewinds:
                self._rewinds = False
                self._wide.rewind()
        under_way = {*self._state.walks, *(record.id for record in self._state.followers.values())}
        taken = await to_thread.run_sync(self._slices.take, _FEED_SENDS)
        if not taken:
            self._state.fed = not self._rewinds
            return
        records = [record for record in taken if record.id not in under_way]
        first_of_send: dict[int, SliceRecord] = {}
        for record in sorted(records, key=lambda record: not CATALOGUE[record.key.dataset].counted):
            messages = first_of_send.get(record.key.id_send)
            if messages is not None and not CATALOGUE[record.key.dataset].paged:
                self._state.followers[messages.id] = record
            else:
                if CATALOGUE[record.key.dataset].counted:
                    first_of_send[record.key.id_send] = record
                await self._begin(record)

    def rewind(self) -> None:
        """Slices may have joined those that are to be asked: all are looked through again."""
        self._rewinds = True
        self._state.fed = False

    async def follow(self, messages: Walk) -> None:
        """Begins what follows a send's messages, although these are not over."""
        record = self._state.followers.pop(messages.slice_id)
        self._over[messages.slice_id] = anyio.Event()
        await self._begin(record)
        walk = self._state.walks[record.id]
        walk.follows = messages
        self._state.walks.go_ahead(walk)

    async def is_over(self, messages: Walk) -> bool:
        """Waits until a send's messages are over; False if a drain leaves them unfinished."""
        while self._state.walks.get(messages.slice_id) is messages:
            if self._state.draining and not (messages.done or any(part.busy for part in parts.of(messages))):
                return False
            await self._over[messages.slice_id].wait()
        return True

    def look_again(self) -> None:
        """Something changed while the run is drained: whoever waits for messages looks whether they still come."""
        for slice_id, over in self._over.items():
            over.set()
            self._over[slice_id] = anyio.Event()

    async def _begin(self, record: SliceRecord) -> None:
        limit = self._state.worked_limit or self._limit
        self._begun += 1
        walk = Walk(
            slice_id=record.id,
            turn=self._begun,
            dataset=CATALOGUE[record.key.dataset],
            id_send=record.key.id_send,
            expected=record.expected,
            rows=record.rows,
            reopened=record.reopened,
            proof=record.proof,
            listed=record.listed,
            since=record.since,
            key_range=record.key_range or KeyRange(limit=limit),
            digest=record.digest,
            full_limit=self._limit,
        )
        if record.reopened:  # it ended elsewhere then
            walk.key_range = replace(walk.key_range, short_answers=0)
        if record.due is not Due.NOTHING:
            walks.begin_refresh(walk, await to_thread.run_sync(self._slices.plan_refresh, record))
        elif record.reopened:
            await to_thread.run_sync(self._slices.forget_refresh, record.id)
        parts.resumed(walk, record.further)
        for part in parts.of(walk):
            if part.key_range.limit > self._limit:
                part.key_range = replace(part.key_range, limit=self._limit)
        self._state.walks[record.id] = walk
        self._workload.begin(walk, record.due)
        self._changed()

    async def ended(self, slice_id: int) -> None:
        """A slice is complete in the lake, or given up: what waited for it may begin."""
        following = self._state.followers.pop(slice_id, None)
        if following is not None:
            await self._begin(following)
            self._state.walks.go_ahead(self._state.walks[following.id])
        self._state.walks.pop(slice_id, None)
        if (over := self._over.pop(slice_id, None)) is not None:
            over.set()
        self._changed()

    async def ended_wide(self, walk: Walk) -> None:
        """A walk over many sends is over: what waited for it, or goes on by itself, may begin."""
        self.rewind()
        await self.ended(walk.slice_id)

    async def give_up(self, walk: Walk, reason: str) -> None:
        """Gives up a slice, or has the sends of a walk over many of them go on one by one."""
        if walk.scope is not None:
            await self.give_up_wide(walk, reason)
            return
        query, limit, lead = str(walk.query()), walk.key_range.limit, walk.of_slice
        log.warning("gave up", query=query, reason=reason, rows=lead.rows)
        reason = reason if query in reason else f"{reason} (asked for {query})"
        await to_thread.run_sync(self._slices.give_up, walk.slice_id, reason, lead.queries, limit)
        self.gave_up += 1
        await self.ended(walk.slice_id)

    async def give_up_wide(self, walk: Walk, reason: str) -> None:
        """Gives up a walk over many sends, once the lake has all of its pages."""
        lead = walk.of_slice
        assert self._wide is not None
        assert lead.scope is not None
        if not lead.done:
            log.warning("many sends are walked one by one after all", query=str(walk.query()), reason=reason)
        lead.done = True
        if not lead.pages_ahead:
            await to_thread.run_sync(self._wide.give_up, lead.scope)
            await self.ended_wide(lead)

    async def note_unfinished(self) -> None:
        """Notes of what a drain left how far it came."""
        for walk in list(self._state.walks.values()):
            error = next((part.error for part in parts.of(walk) if part.error), None)
            await to_thread.run_sync(self._slices.note, walk.slice_id, error, walk.queries)


__all__ = ["Intake"]
