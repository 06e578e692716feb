"""Walks over many sends at once: a campaign's, or the whole account's. What their pages change, and how they end.

A page is checked as any other; its rows go to their slices when it is committed, in the same transaction as the walk's
cursor. The walk ends by the proof of its own end; or with a page shorter than asked, if every slice that it feeds has
as many rows as its ``SEND_COUNT`` says; or, if all of them are complete, with a page that held nothing of theirs.
A walk that can't go on is given up, and its slices go on by themselves from where it left each of them.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from harvester.config import Scope
from harvester.datasets import MESSAGES
from harvester.errors import SliceRefused, Unproven
from harvester.harvest import proof, routing, taking, walks
from harvester.harvest.events import log
from harvester.harvest.scoping import Weighing, known_by
from harvester.harvest.walks import Walk
from harvester.lake.entries import ScopeStep
from harvester.lake.staging import Taken
from harvester.model import Proof

if TYPE_CHECKING:
    from collections.abc import Sequence

    from harvester.config import Settings
    from harvester.harvest.finding import Found
    from harvester.harvest.plan import State
    from harvester.harvest.slices import LakeSlices
    from harvester.lake.entries import ScopeRecord
    from harvester.lake.lake import Lake
    from harvester.model import Page

_MOST_FAILURES = 12
"""So many failures in a row, and its sends are asked one by one: patience has no point where there is another way."""
_MOST_AHEAD = 2
"""So many pages may wait for the lake before the next one is asked for."""


@dataclass(frozen=True, slots=True)
class Committed:
    """What a committed page came to.

    Attributes:
        rows: rows that were kept.
        complete: slices that are complete now, less those that are not any more.
        seal: slices, by number, that are to be sealed.
        ended: whether the walk has ended.
    """

    rows: int
    complete: int
    seal: tuple[int, ...]
    ended: bool


class WideWalks:
    """The walks over many sends of a run that harvests into a lake. Blocking: call it from worker threads."""

    def __init__(self, lake: Lake, slices: LakeSlices) -> None:
        """``slices`` are those that go on by themselves."""
        self._scopes = lake.scopes
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
        self._scopes.give_up(number)

    def rewind(self) -> None:
        """Slices may have joined those that are to be asked. It does not block."""
        self._slices.rewind()


def begin(record: ScopeRecord, limit: int) -> Walk:
    """The walk of a scope, from where it is, with at most so many records at a time."""
    key_range = replace(record.key_range, limit=min(limit, record.key_range.limit))
    return Walk(
        slice_id=-record.id,
        dataset=MESSAGES,
        id_send=None,
        id_message=record.id_message,
        scope=record.id,
        key_range=key_range,
        full_limit=limit,
    )


def is_hopeless(walk: Walk) -> bool:
    """Whether a walk over many sends has failed so often that its sends are asked one by one."""
    return walk.scope is not None and walk.failures >= _MOST_FAILURES


async def take(state: State, walk: Walk, page: Page) -> Taken:
    """Takes an answer to a wide walk's query; its rows are those of all sends.

    Raises:
        PageRefused: the answer breaks a rule; see ``proof``.
        SliceRefused: records don't say which send they are of, so that this can't be done.
    """
    limit, batch, trust = page.query.limit, page.batch, state.trust
    assert limit is not None
    if not batch.num_rows:
        trust.false_empties += walk.asked_from is not None
        raise Unproven("the answer is empty, though it is of many sends")
    if batch.column("id_send").null_count:
        raise SliceRefused("records of many sends don't say which send they are of")
    step, _ = await taking.stepped(state, walk, page)
    new = batch.slice(step.first_new)
    walk.fruitless = 0 if new.num_rows else walk.fruitless + 1
    proof.check_fruitful(walk.fruitless)
    trust.note_page(batch.num_rows)
    if walk.key_range.short_answers and new.num_rows:
        trust.note_went_on(walk.page_rows, limit)
    walks.note_success(walk)
    walk.page_rows = batch.num_rows
    walk.key_range = replace(step.key_range, limit=walk.key_range.limit)
    state.worked_limit = max(state.worked_limit, limit)
    if trust.false_ends and step.key_range.short_answers:
        walks.confirm_from_further_back(walk)
    ended = Proof.TAIL if step.at_end else None
    return Taken(-walk.slice_id, MESSAGES, rows=new, key_range=walk.key_range, proof=ended, queries=walk.queries)


def note_delivery(walk: Walk) -> None:
    """A page is on its way to the lake. After one that may be the last, the lake says whether there is more to ask."""
    walk.pages_ahead += 1
    walk.stays = walk.key_range.short_answers > 0 or walk.pages_ahead >= _MOST_AHEAD


def note_commit(walk: Walk) -> None:
    """The lake has a page."""
    walk.pages_ahead -= 1
    walk.stays = walk.key_range.short_answers > 0 and walk.pages_ahead > 0


def commit(lake: Lake, page: Taken) -> Committed:
    """Makes a page durable, slice by slice, and ends its walk if it is over. Blocking.

    ``page`` is of ``take``; its number is the scope's.
    """
    assert page.rows is not None
    assert page.key_range is not None
    scope, here = page.slice_id, page.key_range
    short = here.short_answers > 0
    members = lake.scopes.members(scope, routing.sends_of(page.rows))
    routed = routing.route(page.rows, members, limit=here.limit, short=short)
    lake.stage(routed.pages, ScopeStep(scope, here, ended=page.proof is not None, left=routed.left))
    complete = [part for part in routed.pages if part.proof is not None]
    seal = [part.slice_id for part in complete if not part.leaves_nothing_to_seal]
    under_way = [part.slice_id for part in routed.pages if part.proof is None and part.rows is not None]
    seal += lake.scopes.full(under_way, lake.full_bytes) if under_way else []
    ended = page.proof is not None
    if not ended and (short or not members) and not lake.scopes.has_open(scope, beside_empty=short):
        lake.scopes.end(scope)
        ended = True
    settled = settle(lake, scope) if ended else []
    return Committed(
        rows=routed.rows,
        complete=len(complete) - len(routed.left) + len(settled),
        seal=(*seal, *settled),
        ended=ended,
    )


def settle(lake: Lake, scope: int) -> list[int]:
    """Sees to all slices of a scope whose walk has ended; the numbers of those that are complete by it. Blocking."""
    proven: list[int] = []
    while (some := lake.scopes.settle(scope, lake.clock())) is not None:
        proven += some
    return proven


def choose(lake: Lake, run: int, settings: Settings, found: Found | None) -> list[int]:
    """Begins walks over many sends where that takes far fewer queries, and has those of earlier runs go on. Blocking.

    Args:
        lake: the lake.
        run: the run, whose selection is made.
        settings: of the run.
        found: how finding the sends went; None where they were named.

    Returns:
        Slices, by number, that are complete by a walk that had ended before, and are to be sealed.
    """
    walked = MESSAGES.name in settings.datasets
    lake.scopes.resume(run, keep=walked and settings.scope is not Scope.SEND)
    if not walked:
        return []
    weighing = Weighing(settings.limit)
    for send in lake.scopes.sends(run):
        weighing.add(send.id_message, send.size, wanted=send.fresh)
    chosen = weighing.choose(settings.scope, known_by(found))
    if chosen.account or chosen.campaigns:
        log.info("many sends are walked at once", account=chosen.account, campaigns=len(chosen.campaigns))
        lake.scopes.begin(run, None if chosen.account else chosen.campaigns, settings.limit)
    return [number for record in lake.scopes.ended() for number in settle(lake, record.id)]


__all__ = [
    "Committed",
    "WideWalks",
    "begin",
    "choose",
    "commit",
    "is_hopeless",
    "note_commit",
    "note_delivery",
    "settle",
    "take",
]
