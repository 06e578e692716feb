"""The ledger: the transactional record of slices, key ranges, segments, data files and proofs.

Invariant: one transaction commits a page's segment together with the cursor that has passed it; so a cursor never
outruns its rows. Writers take turns; readers (``status``) never wait for them.

Everything here is blocking: call it from a worker thread.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from itertools import islice
from typing import TYPE_CHECKING, Any

import sqlalchemy as sa
from sqlalchemy.dialects.sqlite import insert

from harvester.datasets import CATALOGUE
from harvester.errors import LakeError
from harvester.lake.entries import Advance, SegmentRecord, SliceRecord, Tally, slice_record
from harvester.lake.tables import facts, put_range, ranges, segments, slices

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from harvester.lake.database import Database
    from harvester.model import Send, SliceKey

_BATCH = 1000


@dataclass(frozen=True, slots=True)
class Ledger:
    """Slices, where their walks are, and why they are complete."""

    database: Database

    # --- a run and its selection

    def begin_run(self, account: str) -> int:
        """Notes that a run of this account begins, and gives it a number. Raises LakeError for another's lake."""
        with self.database.writing() as connection:
            known = connection.scalar(sa.select(facts.c.value).where(facts.c.name == "account"))
            if known not in (None, account):
                message = f"this lake was harvested from the account {known}, not {account}; use another folder for it"
                raise LakeError(message)
            last = connection.scalar(sa.select(facts.c.value).where(facts.c.name == "run"))
            run = int(last or 0) + 1
            now = datetime.now(UTC).isoformat(timespec="seconds")
            for name, value in (("account", account), ("run", str(run)), ("last_run", now)):
                row = insert(facts).values(name=name, value=value)
                connection.execute(row.on_conflict_do_update(index_elements=["name"], set_={"value": value}))
        return run

    def last_run(self) -> datetime | None:
        """When the last run began, in UTC."""
        with self.database.reading() as connection:
            text = connection.scalar(sa.select(facts.c.value).where(facts.c.name == "last_run"))
        return datetime.fromisoformat(text) if text else None

    def select(self, run: int, sends: Iterable[Send], datasets: Sequence[str]) -> None:
        """Makes the sends' slices this run's selection. Reads ``sends`` as a stream, a thousand at a time."""
        rest = iter(sends)
        while batch := list(islice(rest, _BATCH)):
            rows = [
                {
                    "dataset": dataset,
                    "id_send": send.id_send,
                    "id_message": send.id_message,
                    "sent_at": send.sent_at.isoformat(" ") if send.sent_at else None,
                    "expected": send.expected if CATALOGUE[dataset].counted else None,
                    "run": run,
                }
                for send in batch
                for dataset in datasets
            ]
            new = insert(slices)
            known = {
                name: sa.func.coalesce(new.excluded[name], slices.c[name])
                for name in ("id_message", "sent_at", "expected")
            }
            fresh = {"run": run, "queries": 0, "changed": 0, "gave_up": 0, "error": None}
            upsert = new.on_conflict_do_update(index_elements=["dataset", "id_send"], set_={**known, **fresh})
            with self.database.writing() as connection:
                connection.execute(upsert, rows)

    def tally(self, run: int) -> dict[str, Tally]:
        """Counts of the run's selection, by dataset."""
        query = (
            sa.select(
                slices.c.dataset,
                sa.func.count(),
                sa.func.count(slices.c.proof),
                sa.func.sum(slices.c.gave_up),
                sa.func.sum(slices.c.rows),
                sa.func.sum(slices.c.expected),
                sa.func.count(slices.c.expected),
            )
            .where(slices.c.run == run)
            .group_by(slices.c.dataset)
        )
        with self.database.reading() as connection:
            return {
                name: Tally(count, complete, gave_up, rows, int(expected) if known == count else None)
                for name, count, complete, gave_up, rows, expected, known in connection.execute(query)
            }

    def pending(self, run: int, after: int, sends: int) -> list[SliceRecord]:
        """The incomplete slices of the next few sends of the selection, in order of send.

        Args:
            run: the run.
            after: sends up to this ``id_send`` are passed over.
            sends: how many sends to look at, at most.
        """
        selected = (slices.c.run == run) & slices.c.proof.is_(None) & (slices.c.gave_up == 0)
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

    def advance(self, advances: Sequence[Advance]) -> None:
        """Commits pages, all of them or none."""
        with self.database.writing() as connection:
            for step in advances:
                change: dict[str, Any] = {"gone": step.gone, "queries": step.queries}
                if step.proof is not None:
                    change |= {"proof": step.proof.value, "error": None, "gave_up": 0}
                if step.digest is not None:
                    change["digest"] = step.digest
                if step.segment is not None:
                    connection.execute(segments.insert().values(slice_id=step.slice_id, **_numbered(step.segment)))
                    change["rows"] = slices.c.rows + step.segment.rows
                    change["unsettled"] = slices.c.unsettled + step.segment.unsettled
                connection.execute(slices.update().where(slices.c.id == step.slice_id).values(change))
                if step.key_range is not None:
                    put_range(connection, step.slice_id, step.key_range)

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


def _numbered(segment: SegmentRecord) -> dict[str, Any]:
    values = asdict(segment)
    del values["id"]
    return values


__all__ = ["Ledger"]
