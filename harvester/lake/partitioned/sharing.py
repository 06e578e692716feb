"""Shared files, written and read: rows of many slices, by send and then by key, one slice's after the other's.

And the one way in which they come and go: ``commit`` makes a change, whole or not at all. The files are written under
``_harvest/`` and synced; the ledger notes the change; they get their names; one transaction of the ledger says so; what
they take the place of is removed. A crash anywhere leaves a change that the next start finishes (``finish_changes``).
"""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, NamedTuple

import pyarrow as pa
import pyarrow.parquet as pq

from harvester import __version__
from harvester.datasets import CATALOGUE
from harvester.errors import LakeError
from harvester.lake import layout
from harvester.lake.partitioned.sharedfiles import remove_leaving
from harvester.lake.sealing import write_parquet
from harvester.lake.segments import broken_if_unreadable
from harvester.lake.staging import count_waiting
from harvester.model import KEY_END, Proof

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from harvester.config import PartitionBy
    from harvester.datasets import Dataset
    from harvester.lake.partitioned.sharedfiles import Change, Share, SharedFile, SharedFiles
    from harvester.lake.sealing import Sealer
    from harvester.lake.storage.store import Store

_ORDER = ("id_send",)
_GATHER_ROWS = 4096
"""Rows of many small slices are put together into batches of so many before they are encoded."""
_JOINED_ROWS = 100_000
"""Neighbouring stretches that lie in one file alone become one, up to so many rows: a refresh takes a stretch whole."""


class About(NamedTuple):
    """What is known of a slice that its files say, or that tells how old its rows are."""

    proof: Proof | None
    expected: int | None
    since: datetime | None = None


@dataclass(frozen=True, slots=True)
class Piece:
    """Rows of one share, on their way into a file.

    Attributes:
        share: what is known of it beforehand.
        batches: its rows, in key order.
        counted: whether its numbers are known; else they are counted on the way.
    """

    share: Share
    batches: Iterable[pa.RecordBatch]
    counted: bool = False


@dataclass(frozen=True, slots=True)
class Sharing:
    """Writes shared files of a lake, and makes changes of them. Blocking; one thread at a time.

    Attributes:
        sealer: knows the lake.
        files: what the ledger knows of shared files.
        by: what the lake is partitioned by.
        now: the time, without a zone, in UTC: rows that wait for too long before it count as settled.
    """

    sealer: Sealer
    files: SharedFiles
    by: PartitionBy
    now: datetime

    def write(
        self, file: SharedFile, pieces: Iterable[Piece], about: Mapping[int, About], *, join: bool = True
    ) -> SharedFile | None:
        """Writes a file, not yet under its name; returns its record, or None if there are no rows.

        Args:
            file: its dataset, partition, name and generation.
            pieces: its rows, in the order of sends, stretches and keys.
            about: what is known of the slices, by number.
            join: whether neighbouring stretches may become one.
        """
        dataset = CATALOGUE[file.dataset]
        held: list[Share] = []
        batches = _put_together(self._watched(dataset, pieces, about, held))
        first = next(batches, None)
        if first is None:
            return None
        name = self.sealer.being_written(file.name)
        footer = _Footer(self, file, held, about, join=join)
        with self.sealer.store.create(name) as sink:
            write_parquet(
                sink,
                dataset,
                footer,
                _chain(first, batches),
                row_group_bytes=self.sealer.row_group_bytes,
                order=_ORDER,
            )
        size, checksum = self.sealer.store.measured(name)
        return replace(
            file,
            rows=sum(share.rows for share in held),
            bytes=size,
            checksum=checksum,
            shares=tuple(held),
        )

    def _watched(
        self, dataset: Dataset, pieces: Iterable[Piece], about: Mapping[int, About], held: list[Share]
    ) -> Iterator[pa.RecordBatch]:
        """The rows of pieces; what shares there are is known when all are taken."""
        for piece in pieces:
            share = piece.share if piece.counted else replace(piece.share, rows=0, unsettled=0, overdue=0)
            for batch in piece.batches:
                if not batch.num_rows:
                    continue
                yield batch
                if not piece.counted:
                    known = about.get(share.slice_id)
                    share = _with(share, dataset, batch, self.now, known and known.since)
            if share.rows:
                held.append(share)

    def again(self, file: SharedFile) -> SharedFile:
        """What a file becomes that is written again: its record, to be written, under the same name.

        Or under another one, where tables follow: their earlier states need the old one.
        """
        name = file.name
        if self.sealer.tables.keeps:
            name = layout.shared_file(file.dataset, self.by.value, file.partition)
        return replace(file, id=0, name=name, generation=file.generation + 1)

    def commit(self, change: Change) -> None:
        """Makes a change of which all files are written. This is where data files come and go, and nowhere else.

        Tables are told, and follow when they are next flushed.
        """
        bring_in(self.sealer.store, change.added, self.sealer.epoch)
        number = self.files.intend(change)
        publish(self.sealer.store, change.added, self.sealer.epoch)
        finish(self.sealer.store, self.files, number)
        self.sealer.tables.shared_changed(
            {file.name: file.bytes for file in change.added}, [file.name for file in change.removed]
        )

    def footer(self, file: SharedFile, shares: Sequence[Share], about: Mapping[int, About]) -> layout.SharedFooter:
        """What a shared file says of itself."""
        told = []
        for share in shares:
            known = about.get(share.slice_id, About(None, None)) if share.stop == KEY_END else About(None, None)
            told.append(
                layout.Told(
                    share.id_send, share.start, share.stop, share.total, share.rows, known.proof, known.expected
                )
            )
        account, redaction = self.sealer.whose()
        return layout.SharedFooter(
            dataset=file.dataset,
            partition_by=self.by.value,
            partition=file.partition,
            generation=file.generation,
            harvested_at=datetime.now(UTC).isoformat(timespec="seconds"),
            version=__version__,
            shares=tuple(told),
            account=account,
            redaction=redaction or None,
        )


class _Footer:
    """A footer that is made when all rows are written, since only then it is known what it says."""

    def __init__(
        self, sharing: Sharing, file: SharedFile, held: list[Share], about: Mapping[int, About], *, join: bool
    ) -> None:
        self._sharing, self._file, self._held, self._about, self._join = sharing, file, held, about, join

    def encode(self) -> dict[str, str]:
        if self._join:
            self._held[:] = joined(self._held)
        return self._sharing.footer(self._file, self._held, self._about).encode()


def joined(shares: Sequence[Share]) -> list[Share]:
    """The shares of a file, with neighbouring stretches of a slice as one that are in no other file."""
    found: list[Share] = []
    for share in shares:
        last = found[-1] if found else None
        if (
            last is not None
            and (last.slice_id, last.stop) == (share.slice_id, share.start)
            and last.rows == last.total
            and share.rows == share.total
            and last.rows + share.rows <= _JOINED_ROWS
        ):
            found[-1] = replace(
                last,
                stop=share.stop,
                total=last.total + share.total,
                rows=last.rows + share.rows,
                unsettled=last.unsettled + share.unsettled,
                overdue=last.overdue + share.overdue,
                gone=last.gone + share.gone,
                last_key=share.last_key,
            )
        else:
            found.append(share)
    return found


def _with(share: Share, dataset: Dataset, batch: pa.RecordBatch, now: datetime, since: datetime | None) -> Share:
    keys = batch.column(dataset.key)
    waiting = count_waiting(dataset, batch, now, since)
    return replace(
        share,
        first_key=share.first_key if share.rows else keys[0].as_py(),
        last_key=keys[-1].as_py(),
        rows=share.rows + batch.num_rows,
        unsettled=share.unsettled + waiting.unsettled,
        overdue=share.overdue + waiting.overdue,
    )


def _chain(first: pa.RecordBatch, rest: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
    yield first
    yield from rest


def _put_together(batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
    """The same rows in fewer batches: each has a cost of its own for every column."""
    few: list[pa.RecordBatch] = []
    rows = 0
    for batch in batches:
        few.append(batch)
        rows += batch.num_rows
        if rows >= _GATHER_ROWS:
            yield _one(few)
            few, rows = [], 0
    if few:
        yield _one(few)


def _one(batches: list[pa.RecordBatch]) -> pa.RecordBatch:
    if len(batches) == 1:
        return batches[0]
    table = pa.Table.from_batches(batches).combine_chunks()
    return table.to_batches()[0]


def bring_in(store: Store, added: Iterable[SharedFile], epoch: int | None) -> None:
    """Has files where whoever takes over finds them that a holder of this epoch has written."""
    store.bring_in([layout.being_written(file.name, epoch=epoch) for file in added])


def publish(store: Store, added: Iterable[SharedFile], epoch: int | None) -> None:
    """Gives files their names that a holder of this epoch has written."""
    names = [(layout.being_written(file.name, epoch=epoch), file.name) for file in added]
    if names:
        store.publish(names)


def finish(store: Store, files: SharedFiles, number: int) -> None:
    """Has the ledger say that a change is made, and removes what it has no use for any more."""
    store.remove_all(files.fulfil(number))
    remove_leaving(store, files)


def finish_changes(store: Store, files: SharedFiles) -> tuple[int, int]:
    """Finishes what a crash left, or undoes it: how many changes were finished, and how many undone.

    A change is finished if all of its files are there, under their names or as they were written; or if one of them
    has taken another's name already, since then there is no way back. Whoever began it may still be at it, on another
    machine, and not know that it was cut off: then its files get their names by it or from here, and either is well.
    """
    finished = undone = 0
    for number in files.pending():
        added = files.added_by(number)
        written = _written(store, added)  # before what is there: what gets its name meanwhile is seen there, then
        there = {
            file.name
            for file in added
            if file.name not in written and store.holds(file.name, file.bytes, file.checksum)
        }
        known = files.names()
        if len(there) + len(written) == len(added) or any(name in known for name in there):
            for file in (file for file in added if file.name in written):
                _give_name(store, written[file.name], file)
            finish(store, files, number)
            finished += 1
        else:
            files.forgo(number)
            for file in added:
                if file.name in written:
                    store.remove(written[file.name])
                if file.name not in known:
                    store.remove(file.name)
            undone += 1
    remove_leaving(store, files)
    return finished, undone


def _written(store: Store, added: Sequence[SharedFile]) -> dict[str, str]:
    """Files that are whole, and do not have their names yet: where they are, by the name that they are to have."""
    by_name = {layout.being_written(file.name): file for file in added}
    found: dict[str, str] = {}
    for name in store.names(layout.WRITING):
        file = by_name.get(layout.without_epoch(name))
        if file is not None and store.holds(name, file.bytes, file.checksum):
            found[file.name] = name
    return found


def _give_name(store: Store, written: str, file: SharedFile) -> None:
    try:
        store.publish([(written, file.name)])
    except LakeError:
        if not store.holds(file.name, file.bytes, file.checksum):
            raise


# --- reading


@dataclass(slots=True)
class ShareReader:
    """Reads shares out of files, with the row groups that it read last at hand: shares are mostly read in order.

    Attributes:
        store: the lake's files.
        most_bytes: so much memory, in bytes, the row groups that are kept take at most, but for the latest.
        columns: which columns to read; None for all.
    """

    store: Store
    most_bytes: int
    columns: list[str] | None = None
    _groups: OrderedDict[tuple[str, int], pa.Table] = field(default_factory=OrderedDict)
    _ends: dict[str, list[int]] = field(default_factory=dict)

    def read(self, file: SharedFile, share: Share) -> Iterator[pa.RecordBatch]:
        """A share's rows, in key order. Raises LakeBroken if the file can't be read."""
        start = 0
        for one in file.shares:
            if one == share:
                break
            start += one.rows
        yield from self.rows(file.name, start, share.rows)

    def all(self, file: SharedFile) -> Iterator[tuple[Share, list[pa.RecordBatch]]]:
        """All shares of a file, in order, each with its rows."""
        start = 0
        for share in file.shares:
            yield share, list(self.rows(file.name, start, share.rows))
            start += share.rows

    def rows(self, name: str, start: int, count: int) -> Iterator[pa.RecordBatch]:
        """So many rows of a file, from a place on."""
        ends = self._ends_of(name)
        before = 0
        for number, end in enumerate(ends):
            if count and start < end:
                table = self._group(name, number)
                here = min(count, end - start)
                yield from table.slice(start - before, here).to_batches()
                start, count = start + here, count - here
            before = end

    def _ends_of(self, name: str) -> list[int]:
        if name not in self._ends:
            with broken_if_unreadable(name), self.store.opened(name) as source, pq.ParquetFile(source) as file:
                total = 0
                ends = []
                for number in range(file.metadata.num_row_groups):
                    total += file.metadata.row_group(number).num_rows
                    ends.append(total)
            self._ends[name] = ends
        return self._ends[name]

    def _group(self, name: str, number: int) -> pa.Table:
        found = self._groups.get((name, number))
        if found is None:
            with (
                broken_if_unreadable(name),
                self.store.opened(name) as source,
                pq.ParquetFile(source, pre_buffer=not isinstance(source, str)) as file,
            ):
                found = file.read_row_group(number, columns=self.columns, use_threads=False)
            self._groups[name, number] = found
            while len(self._groups) > 1 and sum(table.nbytes for table in self._groups.values()) > self.most_bytes:
                self._groups.popitem(last=False)
        else:
            self._groups.move_to_end((name, number))
        return found


__all__ = [
    "About",
    "Piece",
    "ShareReader",
    "Sharing",
    "bring_in",
    "finish",
    "finish_changes",
    "joined",
    "publish",
]
