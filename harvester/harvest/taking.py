"""Taking an answer: what it changes for its walk, and what of it goes to the lake.

Refuses, by raising a failure, whatever ``proof`` does not accept; the scheduler then asks again. The walk moves on
here, in memory; in the ledger it moves when the lake has committed the rows.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import anyio
from anyio import to_thread

from harvester.errors import Unproven
from harvester.harvest import plan, proof, walks
from harvester.lake.staging import Taken
from harvester.model import Proof

if TYPE_CHECKING:
    from collections.abc import Callable

    import pyarrow as pa

    from harvester.harvest.plan import State
    from harvester.harvest.walks import Walk
    from harvester.model import Page


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
    if walk.dataset.paged:
        return await _take_page(state, walk, page)
    return await _take_list(state, walk, page, failed_keys)


def take_witness(state: State, page: Page) -> None:
    """Takes the account's answer to the witness. Raises Unproven if it brought nothing."""
    if page.batch.num_rows == 0:
        raise Unproven("no rows of the account came back, so that an empty answer proves nothing")
    state.trust.note_page(page.batch.num_rows)
    walks.note_success(state.witness)
    plan.note_witness(state)


async def _take_page(state: State, walk: Walk, page: Page) -> Taken | None:
    trust, asked_from, rows = state.trust, walk.asked_from, page.batch.num_rows
    if rows == 0:
        trust.false_empties += asked_from is not None
        if asked_from is None:
            return _take_empty(state, walk, failed=None)
    limit = page.query.limit
    assert limit is not None
    keys = await to_thread.run_sync(proof.checked_keys, page)
    if walk.confirming:
        proof.check_holds(keys, walk.key_range.cursor)
    step = await to_thread.run_sync(proof.step, walk.key_range, asked_from, limit, keys, trust.ends_needed)
    assert walk.id_send is not None
    new = proof.of_send(page.batch, walk.id_send).slice(step.first_new)
    walk.fruitless = 0 if new.num_rows else walk.fruitless + 1
    proof.check_fruitful(walk.fruitless)
    trust.note_page(rows)
    if walk.key_range.short_answers and new.num_rows:
        trust.note_went_on(walk.page_rows, limit)
    walks.note_records(walk, state.trust)
    walks.note_success(walk)
    walk.page_rows = rows
    walk.rows += new.num_rows
    walk.gone += step.gone
    walk.key_range = replace(step.key_range, limit=walk.key_range.limit)
    if trust.false_ends and step.key_range.short_answers:
        walks.confirm_from_further_back(walk)
    state.worked_limit = max(state.worked_limit, limit)
    why = proof.walk_proof(step, rows=walk.rows, expected=walk.expected)
    return _taken(walk, new if new.num_rows else None, why)


async def _take_list(
    state: State, walk: Walk, page: Page, failed_keys: Callable[[int], pa.Int64Array | None]
) -> Taken | None:
    assert walk.id_send is not None
    keys = await to_thread.run_sync(proof.checked_keys, page)
    failed = await to_thread.run_sync(failed_keys, walk.id_send)
    if page.batch.num_rows == 0:
        return _take_empty(state, walk, failed=failed)
    rows = await to_thread.run_sync(proof.in_lake_order, walk.dataset, page.batch)
    asking = await to_thread.run_sync(proof.digest, rows)
    earlier, walk.digest = walk.digest, asking
    trust = state.trust
    trust.note_page(rows.num_rows)
    trust.false_ends += earlier is not None and asking != earlier
    walk.page_rows = max(walk.page_rows, rows.num_rows)
    proof.check_not_shorter(rows.num_rows, longest=walk.page_rows)
    why = proof.unpaged_proof(keys, failed=failed, asking=asking, earlier=earlier, believed=not trust.false_ends)
    walks.note_records(walk, state.trust)
    walks.note_success(walk)
    if why is None:
        walk.ready_at = anyio.current_time() + state.apart_s
        return _taken(walk, None, None)
    walk.rows = rows.num_rows
    return _taken(walk, rows, why)


def _take_empty(state: State, walk: Walk, failed: pa.Int64Array | None) -> Taken | None:
    try:
        proof.check_may_be_empty(rows=walk.rows, expected=walk.expected, failed=failed)
    except Unproven:
        state.trust.false_empties += 1
        raise
    proven = walks.note_empty(walk, anyio.current_time(), state.trust, state.apart_s)
    walks.note_success(walk)
    return _taken(walk, None, Proof.EMPTY) if proven else None


def _taken(walk: Walk, rows: pa.RecordBatch | None, why: Proof | None) -> Taken:
    return Taken(
        slice_id=walk.slice_id,
        dataset=walk.dataset,
        rows=rows,
        key_range=walk.key_range if walk.dataset.paged and walk.key_range.cursor is not None else None,
        proof=why,
        gone=walk.gone,
        queries=walk.queries,
        digest=walk.digest,
    )


__all__ = ["take", "take_witness"]
