"""Who is asked next: one synchronous function that decides over plain state. Nothing here waits, sends or writes.

Retries are part of the decision: a walk that failed is not ready before its ``ready_at``.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from harvester.harvest import ending, parts, splitting
from harvester.harvest.sizing import Sizes
from harvester.harvest.trust import ASKINGS, Trust

if TYPE_CHECKING:
    from harvester.harvest.lineup import Lineup
    from harvester.harvest.walks import Walk
    from harvester.lake.entries import SliceRecord
    from harvester.model import Query

_WAITING_CAP = 4096
"""So many slices may wait after failures; beyond that no more are begun."""


@dataclass(slots=True)
class State:
    """Everything that a decision depends on.

    Attributes:
        walks: slices under way, in the order in which they are served.
        witness: the walk that asks the account whether it brings rows at all.
        concurrency: the most queries in flight.
        in_flight: queries in flight.
        busy: pages on their way, from the permit until the lake's wing has them.
        alone: whether it is not known yet that the API lets the account in: until then one query goes at a time.
        fed: whether every slice of the selection has been begun.
        draining: whether nothing more is begun.
        share: how many bytes answers may take while they come in and wait to be read.
        body_bytes: what one answer is expected to take of that.
        window: the most slices under way that are not waiting after a failure.
        apart_s: how far apart two askings must be to count as apart in time.
        parked: how many queries are under way whose answers are not being read yet.
        uncommitted: pages that wait for the lake, or are being committed: a crash would have them asked again.
        trust: what this run has seen of the source.
        worked_limit: the largest limit that an answer came to; slices begun later start there, so that a bound of the
            server's own is not met anew by each.
        splits: whether the pages of a send may come in another order than their keys', so that it may be split.
        rate: permits a second.
        answer_s: how long an answer takes, in seconds; None before the first.
        followers: slices whose proof may need their send's messages, by the number of the slice of these.
        sizes: what was asked of how large sends are that were named without a number.
    """

    walks: Lineup
    witness: Walk
    concurrency: int
    share: int
    body_bytes: int
    window: int
    apart_s: float
    in_flight: int = 0
    busy: int = 0
    alone: bool = True
    fed: bool = False
    draining: bool = False
    parked: int = 0
    uncommitted: int = 0
    trust: Trust = field(default_factory=Trust)
    worked_limit: int = 0
    splits: bool = False
    rate: float = 1.0
    answer_s: float | None = None
    followers: dict[int, SliceRecord] = field(default_factory=dict)
    sizes: Sizes = field(default_factory=Sizes)


@dataclass(frozen=True, slots=True)
class Ask:
    """Ask this walk's next query."""

    walk: Walk


@dataclass(frozen=True, slots=True)
class Split:
    """Give the keys of this walk from ``at`` on to a cursor of their own, and ask its first query.

    Only for a permit that is there already: one that has to be waited for may be used by a walk that is ready then.
    """

    walk: Walk
    at: int


@dataclass(frozen=True, slots=True)
class Confirm:
    """Ask for the send's end while the page of this walk is under way that may hold it. Only for such a permit, too."""

    walk: Walk


@dataclass(frozen=True, slots=True)
class Follow:
    """Begin what follows this walk, all of which is under way: its answer is judged when this walk is over."""

    walk: Walk


@dataclass(frozen=True, slots=True)
class Size:
    """Ask for the list that says how large a send is, so that its keys can be shared out."""

    query: Query


@dataclass(frozen=True, slots=True)
class Feed:
    """Take more slices from the ledger."""


@dataclass(frozen=True, slots=True)
class Wait:
    """Nothing can go before something changes, or before ``until`` if that is not None."""

    until: float | None = None


@dataclass(frozen=True, slots=True)
class Finished:
    """There is nothing left to do."""


Decision = Ask | Split | Confirm | Follow | Size | Feed | Wait | Finished


def asked(decision: Decision) -> Walk | None:
    """The walk whose next query is to be asked now; None if that is none. Further cursors begin here."""
    match decision:
        case Ask(walk):
            return walk
        case Split(walk, at):
            return parts.split(walk, at)
        case Confirm(walk):
            return ending.confirmation(walk)
        case _:
            return None


_AHEAD_PART = 8
"""What answers may take, divided by this, is for those that are here, beyond as many as may be in flight."""
_LEAST_AHEAD = 4
"""As many pages may be that in any case, up to the concurrency: while they are worked on, the next ones come in."""


def choose(state: State, now: float) -> Decision:
    """Decides what happens next. Served in order: slices begun earlier go on before others begin; see ``order``."""
    if state.draining or (state.fed and not state.walks):
        return Wait() if state.busy > len(state.sizes.under_way) else Finished()
    if state.in_flight >= state.concurrency or (state.alone and state.busy) or not _fits(state):
        return Wait()
    first = state.walks.first(now)
    if first is not None:
        return Ask(first)
    if not state.fed and len(state.walks) < _WAITING_CAP + state.window and state.walks.active < state.window:
        return Feed()
    later = state.walks.last(now)  # empty ones go last: by then the run knows more of the source
    if _wants_witness(state, now) and (later is None or state.witness.ready_at < later.ready_at):
        later = state.witness
    if later is not None and later.ready_at <= now:
        return Ask(later)
    return _put_to_use(state, now) or Wait(None if later is None else later.ready_at)


def _put_to_use(state: State, now: float) -> Size | Split | Confirm | Follow | None:
    """What a permit that nobody is ready to use is good for, if anything."""
    if not state.splits or state.busy >= state.concurrency:  # whoever's answer is being read will want the permit
        return None
    return _size(state, now) or _split(state) or _confirm(state) or _follow(state)


def _size(state: State, now: float) -> Size | None:
    """Which list it may ask for, so that others know what there is."""
    queries = (state.sizes.wanted(walk, now) for walk in state.walks.values())
    return next((Size(query) for query in queries if query is not None), None)


def _split(state: State) -> Split | None:
    """Where such a permit is of most use, if a send is worth splitting."""
    workers = state.concurrency if state.answer_s is None else min(state.concurrency, state.rate * state.answer_s)
    idle = max(1, math.ceil(workers) - state.busy)
    best: Split | None = None
    most = 0.0
    for walk in state.walks.values():
        expected = state.sizes.expected(walk, workers)
        if not parts.may_be_split(walk, expected):
            continue
        cut = splitting.cut(
            [parts.stretch(part) for part in parts.of(walk)],
            idle=idle,
            rows=walk.rows,
            expected=expected,
            empty_from=walk.empty_from,
        )
        if cut is not None and cut.pages > most:
            best, most = Split(parts.of(walk)[cut.place], cut.at), cut.pages
    return best


def _confirm(state: State) -> Confirm | None:
    """Whose end it may ask for, while the page is under way that may hold it."""
    if state.trust.ends_needed != ASKINGS:
        return None
    ends = (ending.part_at_end(walk) for walk in state.walks.values())
    return next((Confirm(part) for part in ends if part is not None), None)


def _follow(state: State) -> Follow | None:
    """Of what it may ask before the messages are complete that may prove it, since these are all under way."""
    walks = (state.walks.get(number) for number in state.followers)
    return next((Follow(walk) for walk in walks if walk is not None and ending.is_in_sight(walk)), None)


def _fits(state: State) -> bool:
    """Whether one more answer will have room to come in, and fits into what may be lost; one alone always goes.

    This is foresight. That the budget is kept to, whatever comes, is ``harvester.budget``'s matter.
    """
    ahead = max(_LEAST_AHEAD, state.share // _AHEAD_PART // state.body_bytes)
    if state.busy + state.uncommitted >= state.concurrency + min(state.concurrency, ahead):  # a crash asks them again
        return False
    return state.parked == 0 or (state.parked + 1) * state.body_bytes <= state.share


def _wants_witness(state: State, now: float) -> bool:
    """Whether the witness is to be asked, or will be: once for as many empty answers as came meanwhile."""
    waiting = [walk.empty_since for walk in state.walks.empty if walk.empty_since is not None and not walk.witnessed]
    if waiting and not state.witness.busy and state.witness.failing_since is None:
        state.witness.ready_at = max(now, min(waiting) + state.apart_s)
    return bool(waiting) and not state.witness.busy


def note_witness(state: State) -> None:
    """The account brought rows: slices that were empty before may be asked again, to the proof."""
    for walk in state.walks.values():
        if walk.empty_since is not None:
            walk.witnessed = True


__all__ = [
    "Ask",
    "Confirm",
    "Decision",
    "Feed",
    "Finished",
    "Follow",
    "Size",
    "Split",
    "State",
    "Wait",
    "asked",
    "choose",
    "note_witness",
]
