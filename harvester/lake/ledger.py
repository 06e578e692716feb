"""The ledger: the transactional record of slices, key ranges, segments, data files and proofs.

Invariant: one transaction commits a page's segment together with the cursor that has passed it; so a cursor never
outruns its rows. Writers take turns; readers (``status``) never wait for them.

Everything here is blocking: call it from a worker thread.
"""

from __future__ import annotations

import os
import threading
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from itertools import islice
from typing import TYPE_CHECKING, Any

import sqlalchemy as sa
from sqlalchemy import event
from sqlalchemy.dialects.sqlite import insert
from sqlalchemy.exc import DatabaseError, SQLAlchemyError

from harvester.datasets import CATALOGUE
from harvester.errors import LakeBroken, LakeError, LakeFull
from harvester.lake.tables import FORMAT, data_files, facts, metadata, ranges, segments, slices
from harvester.model import KeyRange, Proof, Send, SliceKey

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence
    from pathlib import Path

_BATCH = 1000


@dataclass(frozen=True, slots=True)
class SliceRecord:
    """What the ledger knows of one slice that a harvest needs to go on with it.

    Attributes:
        id: the slice's number in this ledger.
        key: dataset and send.
        proof: why it is complete; None while it is not.
        rows: rows staged and sealed.
        expected: ``SEND_COUNT``, where known.
        gone: rows that the source no longer has.
        key_range: where the walk is; None for an unpaged dataset.
        digest: of the last asking of an unpaged dataset; None if there was none.
    """

    id: int
    key: SliceKey
    proof: Proof | None
    rows: int
    expected: int | None
    gone: int
    key_range: KeyRange | None
    digest: str | None


@dataclass(frozen=True, slots=True)
class SegmentRecord:
    """A segment: ``rows`` rows in the file ``name`` of ``bytes`` bytes, with keys from first to last."""

    name: str
    rows: int
    bytes: int
    unsettled: int
    first_key: int
    last_key: int
    id: int = 0


@dataclass(frozen=True, slots=True)
class DataFileRecord:
    """A data file: as SegmentRecord, and the covered range [start, stop), the generation and the SHA-256."""

    name: str
    rows: int
    bytes: int
    unsettled: int
    first_key: int
    last_key: int
    start: int
    stop: int
    generation: int
    checksum: str
    id: int = 0


@dataclass(frozen=True, slots=True)
class Advance:
    """What one accepted page changes in the ledger.

    Attributes:
        slice_id: the slice.
        segment: the page's new rows, made durable; None if it brought none.
        key_range: where the walk is after the page; None for an unpaged dataset.
        proof: why the slice is complete now; None while it is not.
        gone: rows that the source no longer has, so far.
        queries: queries that this run has asked of the slice, so far.
        digest: of this asking of an unpaged dataset, for the next asking to agree with; None for a paged one.
    """

    slice_id: int
    segment: SegmentRecord | None
    key_range: KeyRange | None
    proof: Proof | None
    gone: int
    queries: int
    digest: str | None = None


@dataclass(frozen=True, slots=True)
class Tally:
    """Counts of a run's selection, of one dataset. ``expected`` is None if any of its sends does not say."""

    slices: int
    complete: int
    gave_up: int
    rows: int
    expected: int | None


class Ledger:
    """A ledger in an SQLite file (WAL, each commit synced)."""

    def __init__(self, engine: sa.Engine) -> None:
        self._engine = engine
        self._turn = threading.Lock()

    @classmethod
    def open(cls, path: Path, *, create: bool) -> Ledger:
        """Opens the ledger, or makes one. Raises LakeBroken if it isn't one that this version can use."""
        if create and not path.exists():
            os.close(os.open(path, os.O_WRONLY | os.O_CREAT, 0o600))
        engine = sa.create_engine(
            sa.URL.create("sqlite", database=str(path)), connect_args={"check_same_thread": False, "timeout": 60}
        )
        event.listen(engine, "connect", _synchronous)
        ledger = cls(engine)
        try:
            with ledger._writing() as connection:
                if create:
                    metadata.create_all(connection)
                    connection.execute(insert(facts).values(name="format", value=str(FORMAT)).on_conflict_do_nothing())
                found = connection.scalar(sa.select(facts.c.value).where(facts.c.name == "format"))
        except BaseException:
            ledger.close()
            raise
        if found != str(FORMAT):
            ledger.close()
            message = f"{path} has format {found}; this version of harvester reads format {FORMAT}: upgrade harvester"
            raise LakeBroken(message)
        return ledger

    def close(self) -> None:
        """Lets go of the file."""
        with suppress(SQLAlchemyError):
            self._engine.dispose()

    # --- a run and its selection

    def begin_run(self, account: str) -> int:
        """Notes that a run of this account begins, and gives it a number. Raises LakeError for another's lake."""
        with self._writing() as connection:
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
        with self._reading() as connection:
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
                    "expected": send.expected if CATALOGUE[dataset].paged else None,
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
            with self._writing() as connection:
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
        with self._reading() as connection:
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
        with self._reading() as connection:
            return [_record(row._mapping) for row in connection.execute(query)]  # noqa: SLF001 - SQLAlchemy's public name

    def walked(self, run: int | None) -> Iterator[sa.RowMapping]:
        """Every slice of a run's selection (of the lake if None), by send and dataset, read a thousand at a time."""
        after = (-1, -1)
        position = sa.tuple_(slices.c.id_send, slices.c.id)
        while True:
            query = sa.select(slices).order_by(slices.c.id_send, slices.c.id).limit(_BATCH)
            query = query.where(position > sa.tuple_(*after))
            if run is not None:
                query = query.where(slices.c.run == run)
            with self._reading() as connection:
                rows = connection.execute(query).mappings().all()
            yield from rows
            if len(rows) < _BATCH:
                return
            after = (rows[-1]["id_send"], rows[-1]["id"])

    # --- a page's one commit point, and its failures

    def advance(self, advances: Sequence[Advance]) -> None:
        """Commits pages, all of them or none."""
        with self._writing() as connection:
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
                    _put_range(connection, step.slice_id, step.key_range)

    def give_up(self, slice_id: int, error: str, queries: int, key_range: KeyRange | None) -> None:
        """Notes that this run has given up on a slice, and why. What it learned of the limit stays."""
        with self._writing() as connection:
            change = {"gave_up": 1, "error": error, "queries": queries}
            connection.execute(slices.update().where(slices.c.id == slice_id).values(change))
            if key_range is not None:
                _put_range(connection, slice_id, key_range)

    def note(self, slice_id: int, error: str | None, queries: int) -> None:
        """Notes how far this run got with a slice that it leaves unfinished."""
        with self._writing() as connection:
            change = {"error": error, "queries": queries}
            connection.execute(slices.update().where(slices.c.id == slice_id).values(change))

    # --- sealing

    def staged(self, slice_id: int) -> list[SegmentRecord]:
        """The slice's segments that no data file is being made of, in key order."""
        query = (
            sa.select(segments)
            .where((segments.c.slice_id == slice_id) & segments.c.data_file_id.is_(None))
            .order_by(segments.c.first_key, segments.c.id)
        )
        with self._reading() as connection:
            return [_segment(row) for row in connection.execute(query).mappings()]

    def staged_slices(self) -> list[int]:
        """The numbers of all slices that have segments."""
        with self._reading() as connection:
            return list(connection.scalars(sa.select(segments.c.slice_id).distinct().order_by(segments.c.slice_id)))

    def staged_bytes(self) -> tuple[int, int]:
        """How many segments there are, and their bytes."""
        with self._reading() as connection:
            count, size = connection.execute(sa.select(sa.func.count(), sa.func.sum(segments.c.bytes))).one()
        return count, size or 0

    def sealed_bytes(self) -> tuple[int, int]:
        """How many data files there are, and their bytes."""
        query = sa.select(sa.func.count(), sa.func.sum(data_files.c.bytes)).where(data_files.c.sealed == 1)
        with self._reading() as connection:
            count, size = connection.execute(query).one()
        return count, size or 0

    def files(self, slice_id: int) -> list[DataFileRecord]:
        """The slice's data files, in key order."""
        query = (
            sa.select(data_files)
            .where((data_files.c.slice_id == slice_id) & (data_files.c.sealed == 1))
            .order_by(data_files.c.first_key)
        )
        with self._reading() as connection:
            return [_data_file(row) for row in connection.execute(query).mappings()]

    def intend(self, slice_id: int, file: DataFileRecord, sealed: Sequence[SegmentRecord], replaces: int | None) -> int:
        """Notes that a written data file is about to get its name; returns its number."""
        with self._writing() as connection:
            values = asdict(file) | {"slice_id": slice_id, "sealed": 0, "replaces": replaces}
            del values["id"]
            number = connection.execute(data_files.insert().values(values)).inserted_primary_key
            assert number is not None
            ids = [segment.id for segment in sealed]
            connection.execute(segments.update().where(segments.c.id.in_(ids)).values(data_file_id=number[0]))
        return int(number[0])

    def fulfil(self, data_file_id: int) -> list[str]:
        """Notes that the data file has its name. Returns the names of its segments, for removal."""
        with self._writing() as connection:
            of_file = data_files.c.id == data_file_id
            replaced = connection.scalar(sa.select(data_files.c.replaces).where(of_file))
            sealed = segments.c.data_file_id == data_file_id
            names = list(connection.scalars(sa.select(segments.c.name).where(sealed)))
            connection.execute(segments.delete().where(sealed))
            connection.execute(data_files.delete().where(data_files.c.id == replaced))
            connection.execute(data_files.update().where(of_file).values(sealed=1, replaces=None))
        return names

    def forgo(self, data_file_id: int) -> None:
        """Notes that the data file did not get its name; its segments count as before."""
        with self._writing() as connection:
            made_of = segments.c.data_file_id == data_file_id
            connection.execute(segments.update().where(made_of).values(data_file_id=None))
            connection.execute(data_files.delete().where(data_files.c.id == data_file_id))

    # --- putting right

    def intended(self) -> list[DataFileRecord]:
        """Data files that may or may not have got their names."""
        with self._reading() as connection:
            rows = connection.execute(sa.select(data_files).where(data_files.c.sealed == 0)).mappings()
            return [_data_file(row) for row in rows]

    def all_segments(self) -> Iterator[tuple[int, SegmentRecord]]:
        """Every segment with its slice's number, read a thousand at a time."""
        after = 0
        while True:
            query = sa.select(segments).where(segments.c.id > after).order_by(segments.c.id).limit(_BATCH)
            with self._reading() as connection:
                rows = connection.execute(query).mappings().all()
            for row in rows:
                yield row["slice_id"], _segment(row)
            if len(rows) < _BATCH:
                return
            after = rows[-1]["id"]

    def lose(self, slice_id: int, lost: Sequence[SegmentRecord], key_range: KeyRange | None) -> None:
        """Takes segments out and moves the slice's cursor back; the slice is no longer complete."""
        with self._writing() as connection:
            connection.execute(segments.delete().where(segments.c.id.in_([segment.id for segment in lost])))
            connection.execute(slices.update().where(slices.c.id == slice_id).values(proof=None, digest=None))
            self._recount(connection, slice_id)
            if key_range is not None:
                _put_range(connection, slice_id, key_range)

    def _recount(self, connection: sa.Connection, slice_id: int) -> None:
        totals = {
            name: sum(
                sa.select(sa.func.coalesce(sa.func.sum(table.c[name]), 0))
                .where((table.c.slice_id == slice_id) & live)
                .scalar_subquery()
                for table, live in ((segments, sa.true()), (data_files, data_files.c.sealed == 1))
            )
            for name in ("rows", "unsettled")
        }
        connection.execute(slices.update().where(slices.c.id == slice_id).values(totals))

    # --- the database

    @contextmanager
    def _writing(self) -> Iterator[sa.Connection]:
        with self._turn, _translated(), self._engine.begin() as connection:
            yield connection

    @contextmanager
    def _reading(self) -> Iterator[sa.Connection]:
        with _translated(), self._engine.connect() as connection:
            yield connection


@contextmanager
def _translated() -> Iterator[None]:
    try:
        yield
    except DatabaseError as error:
        reason = str(error.orig)
        if "full" in reason:
            message = f"could not write the ledger: {reason}. Free some space and run the same command again"
            raise LakeFull(message) from error
        raise LakeBroken(f"the ledger can't be used: {reason}") from error


def _synchronous(connection: Any, _record: object) -> None:  # noqa: ANN401 - the driver's own type
    cursor = connection.cursor()
    for pragma in ("journal_mode=WAL", "synchronous=FULL", "foreign_keys=ON"):
        cursor.execute(f"PRAGMA {pragma}")
    cursor.close()


def _put_range(connection: sa.Connection, slice_id: int, key_range: KeyRange) -> None:
    values = asdict(key_range) | {
        "anchors": " ".join(map(str, key_range.anchors)),
        "missing": " ".join(map(str, key_range.missing)),
    }
    row = insert(ranges).values(slice_id=slice_id, **values)
    connection.execute(row.on_conflict_do_update(index_elements=["slice_id", "start"], set_=values))


def _numbered(segment: SegmentRecord) -> dict[str, Any]:
    values = asdict(segment)
    del values["id"]
    return values


def _record(row: sa.RowMapping) -> SliceRecord:
    key_range = None
    if row["range_start"] is not None:
        key_range = KeyRange(
            start=row["range_start"],
            stop=row["range_stop"],
            cursor=row["range_cursor"],
            held=row["range_held"],
            anchors=tuple(map(int, row["range_anchors"].split())),
            limit=row["range_limit"],
            short_answers=row["range_short_answers"],
            missing=tuple(map(int, row["range_missing"].split())),
        )
    return SliceRecord(
        id=row["id"],
        key=SliceKey(row["dataset"], row["id_send"]),
        proof=Proof(row["proof"]) if row["proof"] else None,
        rows=row["rows"],
        expected=row["expected"],
        gone=row["gone"],
        key_range=key_range,
        digest=row["digest"],
    )


def _segment(row: sa.RowMapping) -> SegmentRecord:
    return SegmentRecord(**{name: row[name] for name in SegmentRecord.__slots__})


def _data_file(row: sa.RowMapping) -> DataFileRecord:
    return DataFileRecord(**{name: row[name] for name in DataFileRecord.__slots__})


__all__ = ["Advance", "DataFileRecord", "Ledger", "SegmentRecord", "SliceRecord", "Tally"]
