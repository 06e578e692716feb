"""Rows of a walk over many sends, to the slices that they belong to. A pure function over one page.

A slice that is wholly in one page, as most are where this is done, is complete at once if it has as many rows as its
``SEND_COUNT`` says and the page goes on after it. Should more of it come later after all, it is complete no more, and
goes on by itself. Records that the source erased meanwhile are not counted as gone here; a refresh finds them.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa

from harvester.datasets import MESSAGES
from harvester.harvest.proof import anchors
from harvester.lake.staging import Taken, Whole
from harvester.model import KeyRange, Proof, SliceKey

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from harvester.lake.wide import Member

    Lookup = Callable[[Sequence[int]], Mapping[int, Member]]


@dataclass(frozen=True, slots=True)
class Routed:
    """What a page came to.

    Attributes:
        pages: the part of each slice that has any.
        left: slices, by number, that were complete and are not: they leave their scope.
        rows: rows that are kept.
    """

    pages: tuple[Taken, ...]
    left: tuple[int, ...]
    rows: int


def sends_of(rows: pa.RecordBatch) -> list[int]:
    """The sends that some rows belong to, each once."""
    found: list[int] = np.unique(rows.column("id_send").to_numpy()).tolist()
    return found


def kept(rows: pa.RecordBatch, members: Mapping[int, Member]) -> pa.RecordBatch:
    """The rows that are kept for members, in key order."""
    of_members = np.isin(rows.column("id_send").to_numpy(), np.fromiter(members, np.int64, len(members)))
    return rows if of_members.all() else rows.filter(pa.array(of_members))


def route(
    rows: pa.RecordBatch, members: Mapping[int, Member], *, limit: int, short: bool, page_end: int | None = None
) -> Routed:
    """Takes a page apart.

    Args:
        rows: its new rows, in key order; each says which send it is of.
        members: the slices that its rows are kept for, by ``id_send``.
        limit: records to ask for, should a slice go on by itself.
        short: whether the page was shorter than asked.
        page_end: the page's last key, if that may not be among these rows.
    """
    ids = rows.column("id_send").to_numpy()
    wanted = np.flatnonzero(np.isin(ids, np.fromiter(members, np.int64, len(members))))
    if not len(wanted):
        return Routed((), (), 0)
    of_send = wanted[np.argsort(ids[wanted], kind="stable")]
    in_order = len(of_send) == len(ids) and bool((of_send[:-1] < of_send[1:]).all())
    of_members = rows if in_order else rows.take(pa.array(of_send, pa.int64()))
    starts = np.flatnonzero(np.diff(ids[of_send], prepend=-1))
    numbers = ids[of_send[starts]].tolist()
    stops = [*starts[1:].tolist(), len(of_send)]
    last_key = rows.column(MESSAGES.key)[-1].as_py() if page_end is None else page_end
    pages: list[Taken] = []
    left: list[int] = []
    count = 0
    for id_send, start, stop in zip(numbers, starts.tolist(), stops, strict=True):
        member = members[id_send]
        new = _unheld(of_members.slice(start, stop - start), member.held)
        if not new.num_rows:
            continue
        if member.complete:
            left.append(member.slice_id)
            nothing = Taken(member.slice_id, MESSAGES, rows=None, key_range=None, proof=None, queries=0, reopened=True)
            pages.append(nothing)
            continue
        pages.append(_part(id_send, member, new, limit=limit, ends_at=None if short else last_key))
        count += new.num_rows
    return Routed(tuple(pages), tuple(left), count)


def _unheld(rows: pa.RecordBatch, held: int | None) -> pa.RecordBatch:
    if held is None:
        return rows
    return rows.slice(int(np.searchsorted(rows.column(MESSAGES.key).to_numpy(), held, side="right")))


def _part(id_send: int, member: Member, rows: pa.RecordBatch, *, limit: int, ends_at: int | None) -> Taken:
    """A slice's part of a page; ``ends_at`` is the page's last key, if more may follow it."""
    keys = rows.column(MESSAGES.key)
    assert isinstance(keys, pa.Int64Array)
    last = keys[-1].as_py()
    total = member.rows + rows.num_rows
    older = () if member.held is None else (member.held, *member.anchors)
    reached = total == member.expected and last != ends_at
    taken = Taken(
        slice_id=member.slice_id,
        dataset=MESSAGES,
        rows=rows,
        key_range=KeyRange(cursor=last, held=last, anchors=anchors(keys, older), limit=limit),
        proof=Proof.COUNT if reached else None,
        queries=0,
        since=member.since,
    )
    whole = Whole(SliceKey(MESSAGES.name, id_send), member.expected)
    return taken if member.rows else replace(taken, whole=whole)


__all__ = ["Routed", "kept", "route", "sends_of"]
