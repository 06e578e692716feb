"""The ledger: the transactional record of slices, key ranges, segments, data files and proofs.

Invariant: one transaction commits a page's segment together with the cursor that has passed it; so a cursor never
outruns its rows. Writers take turns; readers (``status``) never wait for them.

Everything here is blocking: call it from a worker thread.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from itertools import groupby
from operator import itemgetter
from typing import TYPE_CHECKING, Any

import sqlalchemy as sa

from harvester.lake.entries import (
    Advance,
    FileRecord,
    Progress,
    SliceRecord,
    key_range_of,
    slice_record,
)
from harvester.lake.ledgers.dialects import insert_new, printable, upsert
from harvester.lake.ledgers.tables import (
    as_text,
    data_files,
    erased,
    put_ranges,
    range_values,
    ranges,
    refreshes,
    replace_ranges,
    segments,
    shares,
    slices,
)
from harvester.lake.scopes import put_step

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from datetime import datetime

    from harvester.lake.ledgers.database import Database
    from harvester.lake.wide import ScopeStep
    from harvester.model import SliceKey

_BATCH = 1000


@dataclass(frozen=True, slots=True)
class Ledger:
    """Slices, where their walks are, and why they are complete."""

    database: Database

    def record(self, slice_id: int) -> SliceRecord:
        """What is known of one slice."""
        return self.records(slices.c.id == slice_id)[0]

    def find(self, key: SliceKey) -> SliceRecord | None:
        """What is known of a slice, if anything."""
        found = self.records((slices.c.dataset == key.dataset) & (slices.c.id_send == key.id_send))
        return found[0] if found else None

    def records(self, condition: sa.ColumnElement[bool]) -> list[SliceRecord]:
        """What is known of the slices that a condition on ``slices`` holds for, by send."""
        query = (
            sa.select(slices, *(column.label(f"range_{column.name}") for column in ranges.c))
            .join_from(slices, ranges, isouter=True)
            .where(condition)
            .order_by(slices.c.id_send, slices.c.id, ranges.c.start)
        )
        with self.database.reading() as connection:
            rows = connection.execute(query).mappings().all()
        return [slice_record(list(of_slice)) for _, of_slice in groupby(rows, key=itemgetter("id"))]

    def progress(self, slice_id: int) -> Progress | None:
        """Where the refresh of a slice is; None if none has been begun."""
        with self.database.reading() as connection:
            row = connection.execute(sa.select(refreshes).where(refreshes.c.slice_id == slice_id)).mappings().first()
        if row is None:
            return None
        return Progress(key_range_of(row), bool(row["in_full"]), row["brought"], bool(row["ended"]))

    def walked(self, run: int | None) -> Iterator[sa.RowMapping]:
        """Every slice of a run's selection (of the lake if None), by send and dataset, read a thousand at a time."""
        after = (-1, -1)
        position = sa.tuple_(slices.c.id_send, slices.c.id)
        while True:
            query = sa.select(slices).order_by(slices.c.id_send, slices.c.id).limit(_BATCH)
            query = query.where(position > sa.tuple_(*after))
            if run is not None:
                query = query.where(slices.c.run == run)
            with self.database.reading() as connection:
                rows = connection.execute(query).mappings().all()
            yield from rows
            if len(rows) < _BATCH:
                return
            after = (rows[-1]["id_send"], rows[-1]["id"])

    # --- a page's one commit point, and its failures

    def advance(self, advances: Sequence[Advance], now: datetime, scope: ScopeStep | None = None) -> list[int]:
        """Commits pages, all of them or none; ``now`` is the time in UTC, without a zone.

        With ``scope``, they are what one page of that scope's walk came to, and the walk moves on with them.

        Returns the numbers of the data files that are about to get their names, in the pages' order.
        """
        with self.database.writing() as connection:
            if scope is not None:
                put_step(connection, scope)
            return _advance(connection, advances, as_text(now)) if advances else []

    def give_up(self, slice_id: int, error: str, queries: int, limit: int) -> None:
        """Notes that this run has given up on a slice, and why; the limit that it came to is where the next begins."""
        with self.database.writing() as connection:
            change = {"gave_up": 1, "error": printable(error), "queries": queries}
            connection.execute(slices.update().where(slices.c.id == slice_id).values(change))
            # The limit alone: the cursor is committed with its rows, and some may still be on their way.
            connection.execute(ranges.update().where(ranges.c.slice_id == slice_id).values(limit=limit))

    def note(self, slice_id: int, error: str | None, queries: int) -> None:
        """Notes how far this run got with a slice that it leaves unfinished."""
        with self.database.writing() as connection:
            change = {"error": printable(error), "queries": queries}
            connection.execute(slices.update().where(slices.c.id == slice_id).values(change))

    def note_size(self, slice_id: int, expected: int) -> None:
        """Notes how many messages the send of a slice has."""
        with self.database.writing() as connection:
            connection.execute(slices.update().where(slices.c.id == slice_id).values(expected=expected))


_DATE = sa.bindparam("date", type_=slices.c.newest.type)
_COUNT = (
    slices.update()
    .where(slices.c.id == sa.bindparam("slice_id"))
    .values(
        {name: slices.c[name] + sa.bindparam(f"new_{name}") for name in ("rows", "unsettled", "overdue", "gone")}
        | {
            "queries": sa.bindparam("asked"),
            "digest": sa.func.coalesce(sa.bindparam("of_list", type_=slices.c.digest.type), slices.c.digest),
            "newest": sa.case((slices.c.newest.is_(None) | (slices.c.newest < _DATE), _DATE), else_=slices.c.newest),
        }
    )
)
_CHECK = (
    slices.update()
    .where(slices.c.id == sa.bindparam("slice_id"))
    .values(
        proof=sa.bindparam("why"),
        error=None,
        gave_up=0,
        due=0,
        checked_run=slices.c.run,
        checked_at=sa.bindparam("now"),
    )
)
_NEW_ERASED = insert_new(erased)
_PUT_REFRESH = upsert(
    refreshes,
    ["slice_id"],
    lambda new: {column.name: new[column.name] for column in refreshes.c if not column.primary_key},
)


def _advance(connection: sa.Connection, advances: Sequence[Advance], now: str) -> list[int]:
    """A statement for all pages costs little more than for one: thousands of tiny sends are nothing but statements."""
    whole = [_values(step.slice_id, step.file) | {"sealed": 0} for step in advances if step.file is not None]
    numbers: list[int] = []
    if whole:
        query = data_files.insert().returning(data_files.c.id, sort_by_parameter_order=True)
        numbers = list(connection.scalars(query, whole))
    made_of = iter(numbers)
    staged = [
        _values(step.slice_id, segment) | {"refresh": refresh, "data_file_id": file and next(made_of)}
        for step in advances
        for segment, refresh, file in ((step.segment, 0, step.file), (step.refreshed, 1, None))
        if segment is not None
    ]
    if staged:
        connection.execute(segments.insert(), staged)
    gone = [{"slice_id": step.slice_id, "key": key} for step in advances for key in step.erased]
    if gone:
        connection.execute(_NEW_ERASED.on(connection), gone)
    connection.execute(_COUNT, [_counts(step) for step in advances])
    checks = [
        {"slice_id": step.slice_id, "why": step.proof and step.proof.value, "now": now}
        for step in advances
        if step.proof is not None or step.reopened
    ]
    if checks:
        connection.execute(_CHECK, checks)
    put_ranges(connection, [(step.slice_id, step.key_range) for step in advances if step.key_range is not None])
    # The last page says where all of a slice's walks are; what is split goes on being told of as a whole.
    replace_ranges(connection, {step.slice_id: step.key_ranges for step in advances if step.key_ranges})
    for step in advances:
        if step.refresh is not None:
            _put_progress(connection, step.slice_id, step.refresh)
    return numbers


def _counts(step: Advance) -> dict[str, Any]:
    new = step.segment
    return {
        "slice_id": step.slice_id,
        "asked": step.queries,
        "of_list": step.digest,
        "date": step.newest,
        "new_rows": new.rows if new else 0,
        "new_unsettled": new.unsettled if new else 0,
        "new_overdue": new.overdue if new else 0,
        "new_gone": len(step.erased),
    }


def _values(slice_id: int, file: FileRecord) -> dict[str, Any]:
    return {"slice_id": slice_id} | {field.name: getattr(file, field.name) for field in fields(file)[1:]}


def _put_progress(connection: sa.Connection, slice_id: int, progress: Progress) -> None:
    values = range_values(progress.key_range) | {
        "in_full": int(progress.in_full),
        "brought": progress.brought,
        "ended": int(progress.ended),
    }
    connection.execute(_PUT_REFRESH.on(connection), {"slice_id": slice_id} | values)
    if progress.ended:
        targets = (data_files.c.slice_id == slice_id) & (data_files.c.sealed == 1)
        if not progress.in_full:
            targets &= data_files.c.unsettled > 0
        connection.execute(data_files.update().where(targets).values(refresh=1))
        asked = (shares.c.slice_id == slice_id) & (shares.c.sealed == 1)
        if not progress.in_full:  # of a stretch that is in several files, all of it was asked
            waiting = shares.alias()
            of_slice = (waiting.c.slice_id == slice_id) & (waiting.c.sealed == 1) & (waiting.c.unsettled > 0)
            asked &= shares.c.start.in_(sa.select(waiting.c.start).where(of_slice))
        connection.execute(shares.update().where(asked).values(refresh=1))


__all__ = ["Ledger"]
