"""The walks of a slice that is split: how one becomes two, and how neighbours become one again. Plain state.

Nouns: a *part* is the walk of one key range; the *lead* is the walk that the slice began with, and speaks for it all.
What is to be committed of a split slice is where all of its parts are, so that a run that resumes it keeps them.
"""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise
from typing import TYPE_CHECKING

from harvester.config import LEAST_LIMIT
from harvester.errors import Unproven
from harvester.events import log
from harvester.harvest import ranges
from harvester.harvest.outlook import Stretch, adds_up
from harvester.harvest.ranges import Seam
from harvester.harvest.retrying import ABSENCES
from harvester.harvest.splitting import near_stop, worth_a_look
from harvester.harvest.trust import ASKINGS
from harvester.harvest.walks import Walk
from harvester.model import KEY_END, Proof

if TYPE_CHECKING:
    from collections.abc import Sequence

    import pyarrow as pa

    from harvester.harvest.proof import Step
    from harvester.model import KeyRange

_MOST_PARTS = 256
"""All of them are written with each page; and more cursors than that at once gain nothing."""


def of(walk: Walk) -> Sequence[Walk]:
    """The parts of a walk's slice, in key order; the walk alone where it is not split."""
    lead = walk.of_slice
    return lead.parts or (lead,)


def is_part(walk: Walk) -> bool:
    """Whether a walk still goes on by itself; it doesn't once its range was joined to another, or discarded."""
    return any(part is walk for part in of(walk))


def all_fail(walk: Walk) -> bool:
    """Whether a slice waits after a failure: nothing of it goes on."""
    return all(part.failing_since is not None for part in of(walk))


def key_ranges(walk: Walk) -> tuple[KeyRange, ...]:
    """Where the parts of a slice that is, or was, split are; none of any other."""
    return tuple(part.key_range for part in walk.of_slice.parts)


def resumed(lead: Walk, further: Sequence[KeyRange]) -> None:
    """Has a walk that was begun go on with the further ranges that it was split into."""
    lead.parts = [lead, *(_part(lead, key_range) for key_range in further)] if further else []


def split(walk: Walk, at: int) -> Walk:
    """Gives the keys from ``at`` on to a part of their own, and returns it. ``at`` is after the walk's cursor."""
    lead = walk.of_slice
    if not lead.parts:
        lead.parts = [lead]
    walk.key_range, right = ranges.split(walk.key_range, at)
    part = _part(lead, right)
    part.spacing = walk.spacing
    lead.parts.insert(_place(walk) + 1, part)
    return part


def _part(lead: Walk, key_range: KeyRange) -> Walk:
    return Walk(
        slice_id=lead.slice_id,
        dataset=lead.dataset,
        id_send=lead.id_send,
        id_message=lead.id_message,
        scope=lead.scope,
        key_range=key_range,
        full_limit=lead.full_limit,
        lead=lead,
    )


def _place(walk: Walk) -> int:
    return next(place for place, part in enumerate(walk.of_slice.parts) if part is walk)


def right_of(walk: Walk) -> Walk | None:
    """Its right neighbour; None of the last part, and where nothing is split."""
    parts = walk.of_slice.parts
    return parts[_place(walk) + 1] if parts and parts[-1] is not walk else None


def left_of(walk: Walk) -> Walk | None:
    """Its left neighbour; None of the first part, and where nothing is split."""
    parts = walk.of_slice.parts
    return parts[_place(walk) - 1] if parts and parts[0] is not walk else None


def may_be_split(lead: Walk, expected: int | None) -> bool:
    """Whether a slice may be split at all: messages that are harvested for the first time, once a page has come.

    So may a walk over many sends.
    """
    plain = lead.dataset.counted and lead.refresh is None and not lead.reopened
    if not plain or lead.done or not lead.rows or len(lead.parts) >= _MOST_PARTS:
        return False
    return bool(lead.parts) or worth_a_look(lead.rows, expected, lead.key_range.limit)


def stretch(walk: Walk) -> Stretch:
    """What is known of a part, for deciding where to split."""
    here, ended = walk.key_range, seems_to_end(walk)
    records = walk.page_rows if here.short_answers and not ended else here.limit
    return Stretch(
        start=here.start,
        stop=here.stop,
        cursor=here.cursor,
        spacing=walk.spacing if here.cursor is not None else None,
        # It begins with the cursor's record, and where keys lie close with one before that.
        page_rows=max(1, records - 1 - round(walk.spacing.density if walk.spacing else 0)),
        ended=ended or walk.met is not None,
        first_spacing=walk.first_spacing,
        first_keys=here.first_keys,
        in_flight=_goes_on(walk),
    )


def _goes_on(walk: Walk) -> bool:
    """Whether a part asks, or will soon: it may wait after failures of its own, but not for anything else."""
    in_trouble = walk.failures > max(1, walk.lone) or walk.anchor >= 0
    return (walk.busy or walk.lone > 0) and not walk.stays and not in_trouble


def seems_to_end(walk: Walk) -> bool:
    """Whether the send seems to end where a part is: a short page says so, unless others are no longer.

    That is how a server's own cap on pages looks. But a walk over many sends that has all rows that they should have is
    at its end: whether one of them has more is then for its own walk to see.
    """
    short, lead = walk.key_range.short_answers, walk.of_slice
    shorter = walk.page_rows < lead.longest
    has_all = lead.scope is not None and lead.rows >= (lead.expected or KEY_END)
    return short >= ASKINGS or (short > 0 and (shorter or has_all))


def waits(walk: Walk) -> bool:
    """Whether a part has nothing to ask before another one has had an answer.

    One that came to its stop; one that seems to be at the send's end, while a confirmation of that is under way; and
    the last one at its end, once that is proven, or where the rows of all may prove it. Whether it is the last one may
    be about to be seen: a first answer from beyond its stop is awaited. And where a short page of an earlier run may be
    the end, the first page of this one that tells how long pages are.
    """
    if walk.met is not None or walk.stays or (walk.confirmation and walk.key_range.short_answers):
        return True
    lead = walk.of_slice
    parts = lead.parts
    if not walk.key_range.short_answers or len(parts) < 2:  # noqa: PLR2004  a seam is between two
        return False
    if not lead.longest:
        return any(part.busy for part in parts)
    if not seems_to_end(walk):
        return False
    confirmed, right = walk.key_range.short_answers >= ASKINGS, right_of(walk)
    if right is not None:
        return confirmed and right.busy and right.key_range.cursor is None
    expected = lead.expected or 0
    return confirmed or (expected > 0 and adds_up([stretch(part) for part in parts], lead.rows, expected))


def found_nothing(walk: Walk, met: int | None) -> None:
    """A part's first page held none of its keys, but perhaps later ones: then its right neighbour begins where it did.

    Whether that is true is seen when its left neighbour comes there. Where no keys follow at all, the left neighbour
    goes on through its keys, and further splits need not look there.
    """
    lead, right = walk.of_slice, right_of(walk)
    if met is not None and right is not None:
        right.key_range = replace(right.key_range, start=walk.key_range.start)
        del lead.parts[_place(walk)]
        return
    lead.empty_from = min(walk.key_range.start, lead.empty_from or KEY_END)
    withdraw(walk)


def withdraw(walk: Walk) -> None:
    """Merges a part without rows into its left neighbour, which goes on through its keys."""
    left = left_of(walk)
    assert left is not None
    del walk.of_slice.parts[_place(walk)]
    _extend(left, walk.key_range.stop)


def _extend(left: Walk, stop: int) -> None:
    left.key_range = replace(left.key_range, stop=stop)
    if left.met is not None and left.met < stop:
        left.met = None


def check_seam(walk: Walk, met: int | None, *, at_end: bool) -> bool:
    """Holds what a page of a part met against what its right neighbour begins with, before the page is taken.

    That the send ends before that neighbour's rows is believed only if none of them comes back any more.

    Args:
        walk: the part.
        met: the first key at or after its stop that the page held.
        at_end: whether the page seems to prove that the send ends here.

    Returns:
        Whether the right neighbour has to be walked again, since the source stands by what can't be true of both.

    Raises:
        Unproven: they don't fit, and it is to be asked again.
    """
    right = right_of(walk)
    if right is None:
        return False
    first = right.key_range.first_keys
    if met is None:
        if not (at_end and first):
            return False
        why = f"the send seems to end before the key {first[0]}, which the source brought before"
    elif ranges.seam(met, right.key_range) is Seam.LEFT_LACKS:
        why = f"the answer lacks the key {first[0]}, which the source brought before"
    else:
        return False
    walk.doubts += 1
    if walk.doubts < ABSENCES or (met is None and not right.lost):
        raise Unproven(why)
    walk.doubts = 0
    return met is not None and met not in first


def erased_at_seam(walk: Walk, met: int | None) -> tuple[int, ...]:
    """Keys that the right neighbour begins with and that are erased by now: a part met a later one of them."""
    right = right_of(walk)
    if right is None or met is None or ranges.seam(met, right.key_range) is not Seam.LEFT_LACKS:
        return ()
    first = right.key_range.first_keys
    right.key_range = replace(right.key_range, first_keys=first[first.index(met) :])
    return tuple(key for key in first if key < met)


def discard_right(walk: Walk) -> tuple[int, int]:
    """Drops a part's right neighbour and its rows; the part itself goes on through its keys. Returns their range."""
    right = right_of(walk)
    assert right is not None
    lead = walk.of_slice
    where = (right.key_range.start, right.key_range.stop)
    log.warning("a part of a send is walked again: the source does not stand by what it brought of it", range=where)
    lead.rows -= right.key_range.rows
    del lead.parts[_place(right)]
    _extend(walk, right.key_range.stop)
    return where


def settle(walk: Walk) -> None:
    """Joins all neighbours whose seam is proven; a part whose right neighbour left keys out goes on up to its first."""
    lead = walk.of_slice
    if (walk.key_range.held or 0) >= (lead.empty_from or KEY_END):
        lead.empty_from = None
    for left, right in pairwise(list(lead.parts)):
        known = ranges.seam(left.met, right.key_range)
        if known is Seam.PROVEN:
            right.key_range = ranges.joined(left.key_range, right.key_range)
            del lead.parts[_place(left)]
        elif known is Seam.RIGHT_LACKS:
            first = right.key_range.first_keys[0]
            right.key_range = replace(right.key_range, start=first)
            _extend(left, first)
        elif known is Seam.LEFT_LACKS:
            left.met = None  # it asks again, and then it is seen which of the two is right


def end_here(walk: Walk) -> None:
    """The send seems to end with a part: parts to the right that have no rows come to nothing.

    One that has rows, of which none comes back any more, goes on from what does come back, its left neighbour's.
    """
    while (right := right_of(walk)) is not None and right.key_range.cursor is None and not right.busy:
        withdraw(right)
    if right is not None and right.lost and right.key_range.first_keys:
        walk.met = right.key_range.first_keys[0]


def conclusion(walk: Walk, ends_needed: int) -> Proof | None:
    """Why a split slice is complete now: one part is left, and it is at its end. None if it isn't."""
    lead = walk.of_slice
    if len(lead.parts) != 1:
        return None
    (last,) = lead.parts
    short = last.key_range.short_answers
    if short and lead.send_count is not None and lead.rows == lead.send_count > 0:
        return Proof.COUNT
    return Proof.TAIL if short >= ends_needed else None


def trim(walk: Walk) -> None:
    """Has a part whose stop is near ask for fewer records, so that it does not bring again what its neighbour has."""
    near = None
    if walk.confirms is None and walk.key_range.cursor is not None and (right := right_of(walk)) is not None:
        near = near_stop(stretch(walk), right.first_spacing.density if right.first_spacing else None)
    walk.fewer = None if near is None else max(LEAST_LIMIT, near)


def cut(walk: Walk, step: Step, keys: pa.Int64Array) -> tuple[Step, int]:
    """A page's step, with the cursor within the part's range; and the index of the first row that is not its own."""
    if walk.key_range.stop == KEY_END:
        walk.met = None
        return step, len(keys)
    own = ranges.inside(walk.key_range, keys)
    walk.met = own.met
    return (step if own.met is None else ranges.stopped(walk.key_range, step, keys, own)), own.past


__all__ = [
    "all_fail",
    "check_seam",
    "conclusion",
    "cut",
    "discard_right",
    "end_here",
    "erased_at_seam",
    "found_nothing",
    "is_part",
    "key_ranges",
    "left_of",
    "may_be_split",
    "of",
    "resumed",
    "right_of",
    "seems_to_end",
    "settle",
    "split",
    "stretch",
    "trim",
    "waits",
    "withdraw",
]
