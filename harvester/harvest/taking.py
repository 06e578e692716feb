"""Taking an answer: what it changes for its walk, and what of it goes to the lake.

Refuses, by raising a failure, whatever ``proof`` does not accept; the scheduler then asks again. The walk moves on
here, in memory; in the ledger it moves when the lake has committed the rows.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import anyio
import pyarrow as pa
import pyarrow.compute as pc
from anyio import to_thread

from harvester.api import discovery
from harvester.errors import Unproven
from harvester.harvest import ending, parts, plan, proof, ranges, retrying, sizing, spacing, splitting, walks
from harvester.harvest.trust import ASKINGS
from harvester.lake.merging import in_lake_order
from harvester.lake.staging import Taken, Whole
from harvester.model import Proof

if TYPE_CHECKING:
    from collections.abc import Callable

    from harvester.harvest.plan import State
    from harvester.harvest.proof import Step
    from harvester.harvest.walks import Refreshing, Walk
    from harvester.model import Page


_FEW_ROWS = 256


async def take(
    state: State, walk: Walk, page: Page, failed_keys: Callable[[int], pa.Int64Array | None]
) -> Taken | None:
    """Takes an answer to a walk's query.

    Args:
        state: the run's state; what it learns of the source goes there.
        walk: the walk that asked.
        page: the answer.
        failed_keys: reads from the lake which messages of a send failed (blocking); None if it does not know.

    Returns:
        What is to be committed; None if that is nothing.

    Raises:
        PageRefused: the answer breaks a rule; see ``proof``.
    """
    if not walk.dataset.paged:
        return await _take_list(state, walk, page, failed_keys)
    if _opens(walk):
        return await _take_opening(state, walk, page)
    if page.batch.num_rows == 0:
        state.trust.false_empties += walk.asked_from is not None
        if walk.asked_from is None:
            return _take_empty(state, walk, failed=None)
    if walk.confirms is not None:
        return await _take_confirmation(state, walk, walk.confirms, page)
    if walk.refresh is not None:
        return await _take_again(state, walk, walk.refresh, page)
    return await _take_page(state, walk, page)


def take_witness(state: State, page: Page) -> None:
    """Takes the account's answer to the witness. Raises Unproven if it brought nothing."""
    if page.batch.num_rows == 0:
        raise Unproven("no rows of the account came back, so that an empty answer proves nothing")
    state.trust.note_page(page.batch.num_rows)
    retrying.note_success(state.witness)
    plan.note_witness(state)


async def take_wide(state: State, walk: Walk, page: Page) -> Taken | None:
    """Takes an answer to a query of a walk over many sends, as ``take`` does; its rows are those of all sends."""
    if _opens(walk):
        return await _take_opening(state, walk, page)
    taken = await _take_page(state, walk, page)
    return None if taken is None else replace(taken, whole=None)


def _opens(walk: Walk) -> bool:
    """Whether an answer is the first page of a key range that was split off."""
    return bool(walk.of_slice.parts) and walk.key_range.cursor is None


async def _take_page(state: State, walk: Walk, page: Page) -> Taken | None:
    step, keys = await _stepped(state, walk, page)
    if walk.of_slice.parts:
        return _take_part(state, walk, page, step, keys)
    before = walk.page_rows
    new = _advanced(state, walk, page, step)
    walk.rows += new.num_rows
    if _may_be_cut(state, step, before, page):
        walks.confirm_from_further_back(walk)
    why = proof.walk_proof(step, rows=walk.rows, expected=walk.send_count)
    whole = Whole(walk.key, walk.expected) if new.num_rows == walk.rows else None
    return replace(_taken(walk, new, why), erased=step.erased, whole=whole)


def _take_part(state: State, walk: Walk, page: Page, step: Step, keys: pa.Int64Array) -> Taken | None:
    """Takes a page of one of the key ranges that a slice is split into."""
    if not parts.is_part(walk):
        return None
    step = ending.with_confirmation(walk, step, _ends_needed(state, walk))
    met = ranges.inside(walk.key_range, keys).met
    if parts.check_seam(walk, met, at_end=step.at_end):
        discards = parts.discard_right(walk)
        retrying.note_success(walk)
        return replace(_taken(walk, None, None), discards=discards)
    erased = parts.erased_at_seam(walk, met)
    step, past = parts.cut(walk, step, keys)
    before = walk.page_rows
    new = _advanced(state, walk, page, step, past)
    walk.of_slice.rows += new.num_rows
    if step.at_end:
        parts.end_here(walk)
    parts.settle(walk)
    if parts.is_part(walk) and _may_be_cut(state, step, before, page) and parts.right_of(walk) is None:
        walks.confirm_from_further_back(walk)
    why = parts.conclusion(walk, _ends_needed(state, walk))
    return replace(_taken(walk, new, why), erased=(*step.erased, *erased))


async def _take_confirmation(state: State, walk: Walk, part: Walk, page: Page) -> Taken | None:
    """Takes an answer that only says where a part, and with it the send, ends."""
    limit = page.query.limit
    assert limit is not None
    keys, ends_needed = await _keys(page), _ends_needed(state, part)
    if len(keys):
        state.trust.note_page(len(keys))
    if not ending.is_awaited(walk) or not ending.note_confirmation(walk, keys, limit):
        return None
    at_end = ends_needed <= ASKINGS
    parts.check_seam(part, None, at_end=at_end)
    part.key_range = replace(part.key_range, short_answers=ASKINGS)
    if at_end:
        parts.end_here(part)
        parts.settle(part)
    why = parts.conclusion(part, ends_needed)
    return None if why is None else _taken(part, None, why)


async def _take_opening(state: State, walk: Walk, page: Page) -> Taken | None:
    """Takes the first page of a key range that was split off; it starts at no known record."""
    limit = page.query.limit
    assert limit is not None
    keys = await _keys(page)
    if not parts.is_part(walk):
        return None
    own = ranges.inside(walk.key_range, keys)
    new = _rows(walk, page).slice(own.first, own.past - own.first)
    first = parts.left_of(walk) is None
    if first and not len(keys):
        raise Unproven(f"the answer is empty, though {walk.of_slice.rows} rows were harvested before")
    if len(keys):
        state.trust.note_page(page.batch.num_rows)
        state.worked_limit = max(state.worked_limit, limit)
    retrying.note_success(walk)
    if new.num_rows:
        walk.met = own.met
        walk.key_range = ranges.opened(walk.key_range, keys, own, short=len(keys) < limit)
        walks.note_page(walk, page.batch.num_rows)
        walk.first_spacing = spacing.learned(None, keys)
        walk.spacing = walk.first_spacing or walk.spacing
        walk.of_slice.rows += new.num_rows
    elif first:
        walk.met = own.met
    else:
        parts.found_nothing(walk, own.met)
    parts.settle(walk)
    why = parts.conclusion(walk, _ends_needed(state, walk))
    return _taken(walk, new, why) if new.num_rows or why is not None else None


async def _keys(page: Page) -> pa.Int64Array:
    """A page's keys, checked: on a worker thread, unless there are so few that the way there and back costs more."""
    if page.batch.num_rows <= _FEW_ROWS:
        return proof.checked_keys(page)
    return await to_thread.run_sync(proof.checked_keys, page)


async def _take_again(state: State, walk: Walk, refresh: Refreshing, page: Page) -> Taken:
    """Takes a page of a refresh: rows that were held before, and perhaps what is new after them."""
    first = refresh.spans[0]
    if walk.asked_from is None and walk.absences < retrying.ABSENCES:
        keys = await to_thread.run_sync(proof.checked_keys, page)
        proof.check_holds(keys, first.first_key)
    before = walk.page_rows
    step, new = await _checked(state, walk, page)
    held = new.slice(0, pc.less(new.column(walk.dataset.key), pa.scalar(first.stop)).true_count)
    refresh.brought += held.num_rows
    cursor = step.key_range.cursor
    assert cursor is not None
    passed = cursor >= first.stop - 1
    if not passed and not step.at_end:
        if _may_be_cut(state, step, before, page):
            walks.confirm_from_further_back(walk)
        return replace(_taken(walk, None, None), key_range=None, refreshed=_some(held), refresh=walks.progress(walk))
    if len(refresh.spans) > 1:
        walks.begin_span(walk, refresh.spans[1:])
        return replace(_taken(walk, None, None), key_range=None, refreshed=_some(held), refresh=walks.progress(walk))
    ended = walks.progress(walk, ended=True)
    walk.refresh = None
    if not refresh.in_full:
        walk.key_range = refresh.main  # if the slice has grown, its walk goes on there
        return replace(_taken(walk, None, walk.proof), key_range=None, refreshed=_some(held), refresh=ended)
    # The walk goes on after the last row that was held: what is new there is new.
    was_held = refresh.main.held or 0
    here = replace(walk.key_range, start=refresh.main.start, stop=refresh.main.stop, missing=())
    walk.key_range = replace(here, held=max(was_held, cursor), short_answers=int(step.short) if passed else ASKINGS)
    grown = new.slice(held.num_rows)
    walk.rows += grown.num_rows
    why = proof.walk_proof(step, rows=refresh.brought + grown.num_rows, expected=walk.expected)
    taken = replace(_taken(walk, _some(grown), why), refreshed=_some(held), refresh=ended)
    return taken if why is not None else replace(taken, reopened=True)


async def _checked(state: State, walk: Walk, page: Page) -> tuple[Step, pa.RecordBatch]:
    """A page held against the record that it was asked from; the walk moves on. Its step, and its new rows."""
    step, _ = await _stepped(state, walk, page)
    return step, _advanced(state, walk, page, step)


async def _stepped(state: State, walk: Walk, page: Page) -> tuple[Step, pa.Int64Array]:
    """A page held against the record that it was asked from: its step, and its keys. Nothing is changed."""
    asked_from, limit, key_range = walk.asked_from, page.query.limit, walk.key_range
    assert limit is not None
    ends_needed = _ends_needed(state, walk)

    def check() -> tuple[Step, pa.Int64Array]:
        keys = proof.checked_keys(page)
        if walk.wants_cursor:
            proof.check_holds(keys, key_range.cursor)
        return proof.step(key_range, asked_from, limit, keys, ends_needed), keys

    # On a worker thread, unless there are so few rows that the way there and back costs more.
    return check() if page.batch.num_rows <= _FEW_ROWS else await to_thread.run_sync(check)


def _may_be_cut(state: State, step: Step, before: int, page: Page) -> bool:
    """Whether a page that seems to be the last may be one that lacks its end: not if all are of this size.

    So many records had the walk's page before this one. Pages of one size are what a server's own cap makes.
    """
    return step.key_range.short_answers > 0 and (state.trust.false_ends > 0 or page.batch.num_rows != before)


def _ends_needed(state: State, walk: Walk) -> int:
    """How many answers in a row that end at the cursor's record prove that this walk ends there."""
    if walk.scope is not None:
        return state.trust.wide_ends_needed
    lone = walk.key_range.cursor is not None and not walk.key_range.anchors and not walk.of_slice.parts
    seen_before = walk.refresh is not None or walk.reopened
    return state.trust.lone_ends_needed if lone and not seen_before else state.trust.ends_needed


def _advanced(state: State, walk: Walk, page: Page, step: Step, past: int | None = None) -> pa.RecordBatch:
    """A page's new rows, those before the index ``past`` if that is said; the walk moves on."""
    trust, limit = state.trust, page.query.limit
    assert limit is not None
    rows = page.batch.num_rows if past is None else past
    new = _rows(walk, page).slice(step.first_new, max(0, rows - step.first_new))
    walk.fruitless = 0 if new.num_rows else walk.fruitless + 1
    proof.check_fruitful(walk.fruitless)
    trust.note_page(page.batch.num_rows)
    if walk.key_range.short_answers and new.num_rows:
        trust.note_went_on(walk.page_rows, limit)
    walks.note_records(walk, trust)
    retrying.note_success(walk)
    walks.note_page(walk, page.batch.num_rows)
    here = walk.key_range  # its ends may have been moved while the page was looked at
    walk.key_range = replace(
        step.key_range,
        start=here.start,
        stop=here.stop,
        limit=here.limit,
        first_keys=here.first_keys,
        rows=here.rows + new.num_rows if here.start else 0,
    )
    lead = walk.of_slice
    if (page.batch.num_rows >= limit or (lead.rows and new.num_rows)) and sizing.wants_origin(lead):
        lead.origin = discovery.origin(page)
    large = lead.origin is not None or splitting.worth_a_look(lead.rows + new.num_rows, lead.expected, limit)
    if lead.parts or large:  # most are never split
        walk.spacing = spacing.learned(walk.spacing, page.batch.column(walk.dataset.key))
    state.worked_limit = max(state.worked_limit, limit)
    return new


def _rows(walk: Walk, page: Page) -> pa.RecordBatch:
    """A page's rows, each of which says which send it is of."""
    return page.batch if walk.id_send is None else proof.of_send(page.batch, walk.id_send)


async def _take_list(
    state: State, walk: Walk, page: Page, failed_keys: Callable[[int], pa.Int64Array | None]
) -> Taken | None:
    assert walk.id_send is not None
    keys, failed, rows, asking = await to_thread.run_sync(_read_list, page, walk.id_send, failed_keys)
    early, walk.follows = walk.follows is not None, None
    if early and proof.lacks(keys, failed):  # they failed since it was asked for: that says nothing of the source
        retrying.note_success(walk)
        return None
    if rows.num_rows == 0:
        return _take_empty(state, walk, failed=failed)
    refresh = walk.refresh
    trust = state.trust
    trust.note_page(rows.num_rows)
    # An asking of an earlier run is surely apart in time; but if a message has failed since, it has to be here now.
    same = refresh is not None and asking == refresh.digest and not proof.lacks(keys, failed)
    earlier, walk.digest = asking if same else walk.digest, asking
    walk.agreeing = walk.agreeing + 1 if earlier == asking else 1
    trust.false_ends += earlier is not None and asking != earlier
    walk.page_rows = max(walk.page_rows, rows.num_rows)
    proof.check_not_shorter(rows.num_rows, longest=walk.page_rows)
    why = proof.unpaged_proof(keys, failed=failed, asking=asking, earlier=earlier, believed=not trust.false_ends)
    if why is Proof.AGREED and walk.agreeing < trust.ends_needed:
        why = None
    walks.note_records(walk, state.trust)
    retrying.note_success(walk)
    if why is None:
        walk.ready_at = anyio.current_time() + state.apart_s
        return None if refresh is not None else _taken(walk, None, None)
    if refresh is None:
        whole = None if walk.rows else Whole(walk.key, walk.expected)
        walk.rows = rows.num_rows
        return replace(_taken(walk, rows, why), whole=whole)
    refresh.brought = rows.num_rows
    ended = walks.progress(walk, ended=True)
    walk.refresh = None
    taken = _taken(walk, None, why)
    return taken if same else replace(taken, refreshed=rows, refresh=ended)


def _read_list(
    page: Page, id_send: int, failed_keys: Callable[[int], pa.Int64Array | None]
) -> tuple[pa.Int64Array, pa.Int64Array | None, pa.RecordBatch, str]:
    """A list's keys, those of the send's failed messages, and its rows in order, with their digest. Blocking."""
    keys, failed = proof.checked_keys(page), failed_keys(id_send)
    rows = in_lake_order(page.query.dataset, page.batch)
    return keys, failed, rows, proof.digest(rows) if rows.num_rows else ""


def _take_empty(state: State, walk: Walk, failed: pa.Int64Array | None) -> Taken | None:
    """Takes an answer without records. Rows that were held before stay, whatever it says."""
    refresh = walk.refresh
    if refresh is None:
        try:
            proof.check_may_be_empty(rows=walk.rows, expected=walk.expected, failed=failed)
        except Unproven:
            # A number that may be the user's own, and wrong, says nothing of the source.
            state.trust.false_empties += bool(walk.rows or walk.listed or (failed is not None and len(failed)))
            raise
    if refresh is None and walk.listed == 0:
        proven = True
    else:
        proven = walks.note_empty(walk, anyio.current_time(), state.trust, state.apart_s)
    retrying.note_success(walk)
    if not proven:
        return None
    if refresh is None:
        return _taken(walk, None, Proof.EMPTY)
    ended = walks.progress(walk, ended=True)
    walk.refresh = None
    walk.key_range = refresh.main
    return replace(_taken(walk, None, walk.proof), key_range=None, digest=None, refresh=ended)


def _taken(walk: Walk, rows: pa.RecordBatch | None, why: Proof | None) -> Taken:
    split = parts.key_ranges(walk)
    return Taken(
        slice_id=walk.slice_id,
        dataset=walk.dataset,
        rows=None if rows is None else _some(rows),
        key_range=walk.key_range if walk.dataset.paged and walk.key_range.cursor is not None and not split else None,
        proof=why,
        queries=walk.of_slice.queries,
        digest=walk.digest,
        since=walk.of_slice.since,
        key_ranges=split,
    )


def _some(rows: pa.RecordBatch) -> pa.RecordBatch | None:
    """The rows; None if there are none."""
    return rows if rows.num_rows else None


__all__ = ["take", "take_wide", "take_witness"]
