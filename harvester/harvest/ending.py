"""The end of a send, asked for twice at once: by the walk that comes to it, and by a permit that is idle.

Where no number of rows proves the end, two answers in a row do that end at the same record (``tail``). Asked for one
after the other they take twice as long, and all other permits are idle then. A *confirmation* is the second one, asked
for while the first is under way, from a record further back: what cuts answers, to so many or a share, won't end there
again. It brings no rows; it says where the send ends, and counts only if the walk's own answer says the same.

It is asked for once at most for each page. The two answers are less far apart in time than if one waited for the other;
so a source that was caught ending answers early is asked one after the other.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import pyarrow as pa
import pyarrow.compute as pc

from harvester.harvest import parts, walks
from harvester.harvest.outlook import is_foreseen
from harvester.harvest.trust import ASKINGS
from harvester.harvest.walks import Walk

if TYPE_CHECKING:
    from harvester.harvest.proof import Step


def part_at_end(lead: Walk) -> Walk | None:
    """The part of a split slice whose page may well hold the send's end; None if none does, or a count will prove it.

    Only where keys seemed to be empty from somewhere on does anybody know where the end may be.
    """
    if lead.empty_from is None or lead.scope is not None or lead.done:
        return None
    before = [part for part in lead.parts if part.key_range.start < lead.empty_from]
    part = before[-1] if before else None
    if part is None or not _may_be_confirmed(part):
        return None
    stretches = [parts.stretch(one) for one in before]
    return part if is_foreseen(stretches, lead.rows, lead.expected, lead.empty_from) else None


def is_in_sight(lead: Walk) -> bool:
    """Whether the queries that are under way may well bring all that is left of a slice that is harvested first."""
    if lead.done:
        return True
    ranges = parts.of(lead)
    if lead.refresh or lead.reopened or not all(part.busy or parts.waits(part) for part in ranges):
        return False
    if lead.expected is None:
        return ranges[-1].key_range.short_answers > 0
    return lead.rows + sum(part.query().limit or 0 for part in ranges if part.busy) >= lead.expected


def _may_be_confirmed(part: Walk) -> bool:
    """Whether a part asks for a further page, nothing is in doubt, and that page was not to be confirmed before."""
    here = part.key_range
    calm = not (part.failures or here.short_answers or here.missing or part.anchor >= 0)
    return part.busy and calm and part.confirmed_from != here.cursor and walks.near_anchors(here) > 0


def confirmation(part: Walk) -> Walk:
    """A walk of one query that asks where a part ends."""
    part.confirmed_from = part.key_range.cursor
    part.confirmation = Walk(
        slice_id=part.slice_id,
        dataset=part.dataset,
        id_send=part.id_send,
        key_range=part.key_range,
        full_limit=part.full_limit,
        anchor=walks.near_anchors(part.key_range) - 1,
        lead=part.of_slice,
        confirms=part,
    )
    return part.confirmation


def is_awaited(walk: Walk) -> bool:
    """Whether an answer to a walk is still of use: it is a part, or the confirmation of one that has not gone on."""
    if walk.of_slice.done:
        return False
    part = walk.confirms
    if part is None:
        return parts.is_part(walk)
    return part.confirmation is walk and parts.is_part(part)


def note_confirmation(walk: Walk, keys: pa.Int64Array, limit: int) -> bool:
    """A confirmation was answered. Whether it is the second answer by that, which says that its part ends where it is.

    If the part's own answer is still to come, it is kept where the confirmation ended.
    """
    part = walk.confirms
    assert part is not None
    part.confirmation = None
    asked, here = walk.key_range, part.key_range
    known = pa.array([walk.asked_from, asked.cursor], pa.int64())
    if len(keys) >= limit or not pc.all(pc.is_in(known, value_set=keys)).as_py():
        return False
    end = keys[-1].as_py()
    if here.cursor == asked.cursor and not here.short_answers:
        part.ends_at = end
        return False
    return here.short_answers == 1 and here.cursor == end and not here.missing


def note_failure(walk: Walk) -> None:
    """A query failed. If it was a confirmation, its part asks for that by itself."""
    if walk.confirms is not None and walk.confirms.confirmation is walk:
        walk.confirms.confirmation = None


def with_confirmation(part: Walk, step: Step, ends_needed: int) -> Step:
    """The step of a part's own page, in which a confirmation counts that was here before it and says the same.

    A page that is not the end has no use for one, whether it was here before or is still to come.
    """
    end, part.ends_at = part.ends_at, None
    here = step.key_range
    if not step.short:
        part.confirmation = None
    if end is None or not step.short or end != here.cursor or here.missing:
        return step
    return replace(step, key_range=replace(here, short_answers=ASKINGS), at_end=ends_needed <= ASKINGS)


__all__ = [
    "confirmation",
    "is_awaited",
    "is_in_sight",
    "note_confirmation",
    "note_failure",
    "part_at_end",
    "with_confirmation",
]
