"""Walks: slices under way, and what answers change for them. Plain state, changed synchronously.

Times are in seconds on the scheduler's clock. A walk that failed has a ``ready_at``, and while it waits it holds no
turn and no permit.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from harvester.config import LEAST_LIMIT
from harvester.datasets import MESSAGES
from harvester.harvest.trust import ASKINGS
from harvester.lake.entries import Progress
from harvester.model import KeyRange, Query, SliceKey

if TYPE_CHECKING:
    from datetime import date, datetime

    from harvester.datasets import Dataset
    from harvester.harvest.spacing import Spacing
    from harvester.harvest.trust import Trust
    from harvester.lake.refreshing import RefreshPlan, Span
    from harvester.model import Proof

_NEAR_ANCHORS = 3
_LEAST_LIMIT_TO_GO_BACK = 64
"""The near anchors lie at most some twenty records back; a page from there has to be far from full."""
GROW_AFTER = 1
"""So many pages at a lowered limit, and twice the limit is tried again; four times as many when that failed."""


@dataclass(slots=True)
class Refreshing:
    """The refresh of a walk's slice, under way.

    Attributes:
        in_full: whether all of the slice is asked again, and what is new after it.
        spans: what is still to be walked; the first one is under way. Empty for an unpaged dataset.
        main: where the slice's own walk came to its end.
        brought: rows brought so far.
        digest: of the list that the lake holds of an unpaged dataset.
    """

    in_full: bool
    spans: tuple[Span, ...]
    main: KeyRange
    brought: int = 0
    digest: str | None = None


@dataclass(slots=True)
class Walk:
    """A slice under way in this run.

    Attributes:
        slice_id: its number in the ledger.
        dataset: what is asked for.
        id_send: of which send; None for the witness: of the account itself.
        turn: how many had been begun when it was: its rank where it has to wait for memory.
        expected: ``SEND_COUNT``, where known; of a walk over many sends, about how many rows there are, as a guess.
        rows: rows taken, of this and earlier runs.
        reopened: whether it was complete before.
        proof: why it is complete, or was before it was to be refreshed; None where it never was.
        origin: of a send whose size is not known, its campaign and its first day, once a full page has said them.
        listed: its send's ``SEND_COUNT`` by a proven list; None if there is none.
        since: when its send was sent or first seen, without a zone; None if that is not known.
        refresh: what is to be asked again of it, as long as that goes on; None where nothing is.
        key_range: where a paged walk is.
        digest: of the last asking of an unpaged dataset.
        full_limit: the most records to ask for.
        busy: whether a query of it is being asked or its answer taken.
        ready_at: when it may be asked again.
        queries: queries asked, retries not counted.
        foreseen: how many it was expected to need; 0 where its size was not known.
        asked: whether the query that is due has been counted.
        failures: failures since the last success.
        lone: how many of those were its own, since others were answered meanwhile.
        failing_since: when those began; None while it doesn't fail.
        error: the last failure.
        size_failures: failures since the last success that the query's size can explain.
        good_pages: pages in a row that worked at a lowered limit.
        grow_after: so many of those, and a larger limit is tried.
        grown: whether the limit is such a larger one, still to prove itself.
        absences: well-formed answers in a row that lacked the record asked for.
        lost: whether no record comes back any more that it could go on from, neither the cursor's nor an anchor.
        anchor: the place in ``key_range.anchors`` of the record that is asked for; -1 for the cursor.
        page_rows: the records of the last page; of the longest answer of an unpaged dataset.
        longest: the records of the longest page of the slice so far; kept by its lead.
        fruitless: answers in a row that were taken and brought nothing new.
        agreeing: askings in a row of an unpaged dataset that brought the same list.
        empty_answers: answers in a row that brought nothing.
        wants_cursor: whether the record asked from is an anchor although the cursor's record is not in doubt: then the
            answer has to hold both.
        empty_since: when the last of those came; None if there is none.
        witnessed: whether the account brought rows since then.
        staged_bytes: bytes of segments that wait for sealing.
        done: whether it is proven, and only its last page is still on its way into the lake.
        lead: the walk that speaks for the slice, if this one is of a further key range of it: what is the slice's, such
            as its rows, is there alone.
        parts: of a slice that is, or was, split, the walks of its key ranges, in key order; else none. Parts that were
            joined to their right neighbour are not among them, and that may be the walk itself.
        met: the first key at or after its stop that a page of it held; it has nothing to ask then.
        fewer: how many records to ask for because its stop is near; None for as many as its range says.
        first_spacing: how far apart keys lie where it began, if it was split off; None where no page tells.
        spacing: how far apart its keys lie; None where no page tells.
        confirmation: of a part that may be at the send's end, the walk that asks for that as well; see ``ending``.
        confirms: of a confirmation, the part.
        ends_at: where a confirmation said that the send ends, until the part's own answer comes.
        confirmed_from: the cursor of the page that a confirmation was asked for last.
        follows: the walk of its send's messages, if it was begun before they were complete; see ``plan.Follow``.
        doubts: answers in a row that did not fit what its right neighbour begins with.
        empty_from: a key from which on the source had nothing, by an answer that is no proof of it.
        id_message: of a walk over many sends, the campaign; None for the account.
        scope: of a walk over many sends, its number in the ledger; None of any other.
        pages_ahead: of such a walk, pages on their way into the lake, those of all its parts.
        stays: whether it has nothing to ask before one of those is committed.
    """

    slice_id: int
    dataset: Dataset
    id_send: int | None
    turn: int = 0
    expected: int | None = None
    rows: int = 0
    reopened: bool = False
    proof: Proof | None = None
    listed: int | None = None
    origin: tuple[int, date] | None = None
    since: datetime | None = None
    refresh: Refreshing | None = None
    key_range: KeyRange = field(default_factory=KeyRange)
    digest: str | None = None
    full_limit: int = 25_000
    busy: bool = False
    ready_at: float = 0.0
    queries: int = 0
    foreseen: int = 0
    asked: bool = False
    failures: int = 0
    lone: int = 0
    failing_since: float | None = None
    error: str | None = None
    size_failures: int = 0
    good_pages: int = 0
    grow_after: int = GROW_AFTER
    grown: bool = False
    absences: int = 0
    lost: bool = False
    anchor: int = -1
    page_rows: int = 0
    longest: int = 0
    fruitless: int = 0
    agreeing: int = 1
    wants_cursor: bool = False
    empty_answers: int = 0
    empty_since: float | None = None
    witnessed: bool = False
    staged_bytes: int = 0
    done: bool = False
    lead: Walk | None = field(default=None, compare=False, repr=False)
    parts: list[Walk] = field(default_factory=list, compare=False, repr=False)
    met: int | None = None
    fewer: int | None = None
    first_spacing: Spacing | None = None
    spacing: Spacing | None = None
    confirmation: Walk | None = field(default=None, compare=False, repr=False)
    confirms: Walk | None = field(default=None, compare=False, repr=False)
    ends_at: int | None = None
    confirmed_from: int | None = None
    follows: Walk | None = field(default=None, compare=False, repr=False)
    doubts: int = 0
    empty_from: int | None = None
    id_message: int | None = None
    scope: int | None = None
    pages_ahead: int = 0
    stays: bool = False

    @property
    def of_slice(self) -> Walk:
        """The walk that speaks for the slice."""
        return self.lead or self

    @property
    def key(self) -> SliceKey:
        """The slice's name."""
        return SliceKey(self.dataset.name, self.id_send or 0)

    @property
    def send_count(self) -> int | None:
        """``SEND_COUNT`` where it may prove that a slice is complete."""
        return self.expected if self.scope is None else None

    @property
    def begun(self) -> bool:
        """Whether something of it was asked, in this run or an earlier one."""
        return self.queries > 0 or self.rows > 0

    @property
    def asked_from(self) -> int | None:
        """The known record that the next answer has to hold; None if none is known yet."""
        return self.key_range.anchors[self.anchor] if self.anchor >= 0 else self.key_range.cursor

    @property
    def awaits_witness(self) -> bool:
        """Whether it can't go on before the account has brought rows."""
        return self.empty_since is not None and not self.witnessed

    def query(self) -> Query:
        """What to ask next. From one before the known record: the API may count its start in or out."""
        if not self.dataset.paged:
            return Query(self.dataset, self.id_send)
        start = self.key_range.start or None if self.asked_from is None else self.asked_from
        limit = self.key_range.limit if self.fewer is None else min(self.fewer, self.key_range.limit)
        return Query(self.dataset, self.id_send, start and start - 1, limit, self.id_message)


def begin_refresh(walk: Walk, plan: RefreshPlan) -> None:
    """Turns a walk to what is to be asked again of its slice, which is or was complete."""
    walk.refresh = Refreshing(plan.in_full, plan.spans, walk.key_range, digest=walk.digest)
    if not walk.dataset.paged:
        walk.digest = None
        return
    if plan.progress is None:
        begin_span(walk, plan.spans)
        return
    walk.refresh.brought = plan.progress.brought
    walk.key_range = plan.progress.key_range


def begin_span(walk: Walk, spans: tuple[Span, ...]) -> None:
    """Turns a refresh to the first of the spans that are left."""
    assert walk.refresh is not None
    walk.refresh.spans = spans
    walk.key_range = KeyRange(
        start=spans[0].start,
        stop=spans[0].stop,
        cursor=spans[0].known,
        held=spans[0].known,
        anchors=spans[0].anchors,
        limit=walk.key_range.limit,
    )


def progress(walk: Walk, *, ended: bool = False) -> Progress:
    """Where a walk's refresh is, for the ledger."""
    assert walk.refresh is not None
    return Progress(walk.key_range, walk.refresh.in_full, walk.refresh.brought, ended)


def near_anchors(key_range: KeyRange) -> int:
    """From how many of its anchors a range can be asked, and the answer still be far from full."""
    return min(_NEAR_ANCHORS, len(key_range.anchors)) if key_range.limit >= _LEAST_LIMIT_TO_GO_BACK else 0


def confirm_from_further_back(walk: Walk) -> None:
    """Asks for the end once more, but from an anchor: what cuts answers, to one or a share, won't end there again."""
    if near := near_anchors(walk.key_range):
        walk.anchor = walk.key_range.short_answers % (near + 1) - 1
        walk.wants_cursor = walk.anchor >= 0


def note_empty(walk: Walk, now: float, trust: Trust, apart_s: float) -> bool:
    """An answer without records that may be the truth. Whether that is proven now (the ``empty`` proof)."""
    walk.empty_answers += 1
    # What an earlier run proved is confirmed by the usual number, however little this run has seen so far.
    needed = ASKINGS if walk.reopened and not trust.false_empties else trust.empties_needed
    if walk.empty_answers >= needed:
        return True
    walk.empty_since = now
    walk.witnessed = False
    walk.ready_at = now + apart_s
    return False


def note_page(walk: Walk, rows: int) -> None:
    """A page of so many records was taken."""
    walk.page_rows = rows
    walk.of_slice.longest = max(walk.of_slice.longest, rows)


def note_records(walk: Walk, trust: Trust) -> None:
    """An answer with records: if there seemed to be none before, the source was wrong then."""
    trust.false_empties += walk.empty_answers
    walk.empty_answers = 0
    walk.empty_since = None


def witness_walk() -> Walk:
    """The walk whose only query asks the account for a few rows."""
    return Walk(slice_id=0, dataset=MESSAGES, id_send=None, key_range=KeyRange(limit=LEAST_LIMIT))


__all__ = [
    "GROW_AFTER",
    "Refreshing",
    "Walk",
    "begin_refresh",
    "begin_span",
    "confirm_from_further_back",
    "near_anchors",
    "note_empty",
    "note_records",
    "progress",
    "witness_walk",
]
