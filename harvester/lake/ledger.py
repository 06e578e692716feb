"""The ledger: the transactional record of slices, key ranges, segments, data files and proofs.

Invariant: one transaction commits a page's segment together with the cursor that has passed it; so a cursor never
outruns its rows. Writers take turns; readers (``status``) never wait for them.

Everything here is blocking: call it from a worker thread.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import sqlalchemy as sa
from sqlalchemy.dialects.sqlite import insert

from harvester.lake.entries import Advance, Progress, SegmentRecord, SliceRecord, key_range_of, slice_record
from harvester.lake.tables import (
    as_text,
    data_files,
    erased,
    put_range,
    range_values,
    ranges,
    refreshes,
    segments,
    slices,
)

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from datetime import datetime

    from harvester.lake.database import Database
    from harvester.model import SliceKey

_BATCH = 1000


@dataclass(frozen=True, slots=True)
class Ledger:
    """Slices, where their walks are, and why they are complete."""

    database: Database

    def pending(self, run: int, after: int, sends: int) -> list[SliceRecord]:
        """The slices of the next few sends of the selection that are incomplete or due for refreshing, by send.

        Args:
            run: the run.
            after: sends up to this ``id_send`` are passed over.
            sends: how many sends to look at, at most.
        """
        selected = (slices.c.run == run) & (slices.c.proof.is_(None) | (slices.c.due > 0)) & (slices.c.gave_up == 0)
        ids = (
            sa.select(slices.c.id_send)
            .where(selected & (slices.c.id_send > after))
            .distinct()
            .order_by(slices.c.id_send)
            .limit(sends)
        )
        return self._records(selected & slices.c.id_send.in_(ids))

    def record(self, slice_id: int) -> SliceRecord:
        """What is known of one slice."""
        return self._records(slices.c.id == slice_id)[0]

    def find(self, key: SliceKey) -> SliceRecord | None:
        """What is known of a slice, if anything."""
        found = self._records((slices.c.dataset == key.dataset) & (slices.c.id_send == key.id_send))
        return found[0] if found else None

    def _records(self, condition: sa.ColumnElement[bool]) -> list[SliceRecord]:
        query = (
            sa.select(slices, *(column.label(f"range_{column.name}") for column in ranges.c))
            .join_from(slices, ranges, isouter=True)
            .where(condition)
            .order_by(slices.c.id_send, slices.c.id)
        )
        with self.database.reading() as connection:
            return [slice_record(row._mapping) for row in connection.execute(query)]  # noqa: SLF001 - SQLAlchemy's public name

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

    def advance(self, advances: Sequence[Advance], now: datetime) -> None:
        """Commits pages, all of them or none; ``now`` is the time in UTC, without a zone."""
        with self.database.writing() as connection:
            for step in advances:
                _advance(connection, step, now)

    def give_up(self, slice_id: int, error: str, queries: int, limit: int) -> None:
        """Notes that this run has given up on a slice, and why; the limit that it came to is where the next begins."""
        with self.database.writing() as connection:
            change = {"gave_up": 1, "error": error, "queries": queries}
            connection.execute(slices.update().where(slices.c.id == slice_id).values(change))
            # The limit alone: the cursor is committed with its rows, and some may still be on their way.
            connection.execute(ranges.update().where(ranges.c.slice_id == slice_id).values(limit=limit))

    def note(self, slice_id: int, error: str | None, queries: int) -> None:
        """Notes how far this run got with a slice that it leaves unfinished."""
        with self.database.writing() as connection:
            change = {"error": error, "queries": queries}
            connection.execute(slices.update().where(slices.c.id == slice_id).values(change))


def _advance(connection: sa.Connection, step: Advance, now: datetime) -> None:
    change: dict[str, Any] = {"queries": step.queries}
    if step.proof is not None or step.reopened:
        checked = {"checked_run": slices.c.run, "checked_at": as_text(now)}
        change |= {"proof": step.proof and step.proof.value, "error": None, "gave_up": 0, "due": 0, **checked}
    if step.digest is not None:
        change["digest"] = step.digest
    if step.segment is not None:
        _insert(connection, step.slice_id, step.segment, refresh=0)
        for name in ("rows", "unsettled", "overdue"):
            change[name] = slices.c[name] + getattr(step.segment, name)
    if step.newest is not None:
        change["newest"] = sa.func.max(sa.func.coalesce(slices.c.newest, step.newest), step.newest)
    if step.erased:
        rows = [{"slice_id": step.slice_id, "key": key} for key in step.erased]
        connection.execute(insert(erased).on_conflict_do_nothing(), rows)
        change["gone"] = slices.c.gone + len(rows)
    if step.refreshed is not None:
        _insert(connection, step.slice_id, step.refreshed, refresh=1)
    connection.execute(slices.update().where(slices.c.id == step.slice_id).values(change))
    if step.key_range is not None:
        put_range(connection, step.slice_id, step.key_range)
    if step.refresh is not None:
        _put_progress(connection, step.slice_id, step.refresh)


def _insert(connection: sa.Connection, slice_id: int, segment: SegmentRecord, *, refresh: int) -> None:
    values = asdict(segment)
    del values["id"]
    connection.execute(segments.insert().values(slice_id=slice_id, refresh=refresh, **values))


def _put_progress(connection: sa.Connection, slice_id: int, progress: Progress) -> None:
    values = range_values(progress.key_range) | {
        "in_full": int(progress.in_full),
        "brought": progress.brought,
        "ended": int(progress.ended),
    }
    row = insert(refreshes).values(slice_id=slice_id, **values)
    connection.execute(row.on_conflict_do_update(index_elements=["slice_id"], set_=values))
    if progress.ended:
        targets = (data_files.c.slice_id == slice_id) & (data_files.c.sealed == 1)
        if not progress.in_full:
            targets &= data_files.c.unsettled > 0
        connection.execute(data_files.update().where(targets).values(refresh=1))


__all__ = ["Ledger"]
