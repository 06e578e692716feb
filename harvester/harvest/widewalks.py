"""Walks over many sends at once, a campaign's or the whole account's: how they begin, and what answers change.

A page is checked as any other, and where permits would go unused the walk is split into key ranges as any other; what
its pages come to in the lake is said in ``keeping``. A walk that can't go on is given up, and its slices go on by
themselves from where it left each of them.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from harvester.datasets import MESSAGES
from harvester.errors import SliceRefused, Unproven
from harvester.harvest import parts, taking
from harvester.harvest.paging import pages
from harvester.harvest.walks import Walk

if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Protocol

    from harvester.harvest.plan import State
    from harvester.harvest.slices import LakeSlices
    from harvester.lake.lake import Lake
    from harvester.lake.staging import Taken
    from harvester.lake.wide import ScopeRecord
    from harvester.model import Page

    class Wide(Protocol):
        """The walks over many sends of a run. Blocking, but for ``rewind``."""

        def take(self, count: int) -> Sequence[ScopeRecord]: ...
        def give_up(self, number: int) -> None: ...
        def rewind(self) -> None: ...


_MOST_FAILURES = 12
"""So many failures in a row, and its sends are asked one by one: patience has no point where there is another way."""
_MOST_AHEAD = 2
"""So many pages may wait for the lake before the next one is asked for."""


class WideWalks:
    """The walks over many sends of a run that harvests into a lake. Blocking: call it from worker threads."""

    def __init__(self, lake: Lake, slices: LakeSlices) -> None:
        """``slices`` are those that go on by themselves."""
        self._scopes = lake.scopes
        self._waiting = lake.waiting
        self._slices = slices
        self._after = 0

    def take(self, count: int) -> Sequence[ScopeRecord]:
        """The next few that go on; nothing when all are taken."""
        records = self._scopes.take(self._after, count)
        if records:
            self._after = records[-1].id
        return records

    def give_up(self, number: int) -> None:
        """One is given up; its slices go on by themselves."""
        self._waiting.remove(self._scopes.give_up(number))

    def rewind(self) -> None:
        """Slices may have joined those that are to be asked. It does not block."""
        self._slices.rewind()


def begin(record: ScopeRecord, limit: int) -> Walk:
    """The walk of a scope, from where it is, with at most so many records at a time."""
    first, *further = (replace(one, limit=min(limit, one.limit)) for one in record.key_ranges)
    walk = Walk(
        slice_id=-record.id,
        dataset=MESSAGES,
        id_send=None,
        id_message=record.id_message,
        scope=record.id,
        expected=record.expected,
        rows=record.walked,
        key_range=first,
        full_limit=limit,
    )
    if record.expected is not None:
        walk.foreseen = pages(max(0, record.expected - record.walked), limit)
    parts.resumed(walk, further)
    return walk


def is_hopeless(walk: Walk) -> bool:
    """Whether a walk over many sends has failed so often that its sends are asked one by one."""
    return walk.scope is not None and walk.failures >= _MOST_FAILURES


async def take(state: State, walk: Walk, page: Page) -> Taken | None:
    """Takes an answer to a wide walk's query; its rows are those of all sends. None if there is nothing to commit.

    Raises:
        PageRefused: the answer breaks a rule; see ``proof``.
        SliceRefused: records don't say which send they are of, so that this can't be done.
    """
    if not page.batch.num_rows and (walk.asked_from is not None or not walk.of_slice.parts):
        state.trust.false_empties += walk.asked_from is not None
        raise Unproven("the answer is empty, though it is of many sends")
    if page.batch.column("id_send").null_count:
        raise SliceRefused("records of many sends don't say which send they are of")
    return await taking.take_wide(state, walk, page)


def note_delivery(walk: Walk) -> None:
    """A page is on its way to the lake. After one that may be the last, the lake says whether there is more to ask."""
    walk.of_slice.pages_ahead += 1
    _restrain(walk)


def note_commit(walk: Walk) -> None:
    """The lake has a page."""
    walk.of_slice.pages_ahead -= 1
    _restrain(walk)


def _restrain(walk: Walk) -> None:
    """Has all cursors of a walk wait for the lake where it is too far behind, or may say that nothing is left."""
    all_of_it = parts.of(walk)
    ahead = walk.of_slice.pages_ahead
    may_end = len(all_of_it) == 1 and all_of_it[0].key_range.short_answers > 0 and ahead > 0
    for part in all_of_it:
        part.stays = may_end or ahead >= _MOST_AHEAD * len(all_of_it)


__all__ = ["WideWalks", "begin", "is_hopeless", "note_commit", "note_delivery", "take"]
