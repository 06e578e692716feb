"""Renewing: what refreshes brought takes its place in shared files, of all slices at once.

A file that holds thousands of slices is written again once, not once for each of them; and only if rows of it are
different, or if it tells of a stretch that has another number of rows now. All of it is one change.

Blocking; whoever renews has the gatherer's turn.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.compute as pc

from harvester.config import PartitionBy
from harvester.datasets import CATALOGUE
from harvester.lake import layout
from harvester.lake.entries import DataFileRecord
from harvester.lake.ledgers.tables import shares
from harvester.lake.merging import Difference, merged
from harvester.lake.partitioned.partitions import NO_VALUE, rows_in, values_of
from harvester.lake.partitioned.sharedfiles import Change, Share, SharedFile, stretches
from harvester.lake.partitioned.sharing import About, Piece, ShareReader
from harvester.lake.segments import read_segment
from harvester.lake.staging import count_waiting
from harvester.model import KEY_END

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from harvester.datasets import Dataset
    from harvester.lake.entries import SegmentRecord
    from harvester.lake.partitioned.gathering import Gatherer


@dataclass(frozen=True, slots=True)
class Renewed:
    """A stretch as it is after a refresh.

    Attributes:
        held: the rows of each of its shares as they are in its file.
        now: the rows of each of its shares as they should be.
        elsewhere: rows that belong to a partition that has no share of it, by its value.
        difference: what is different.
        gone: rows that were not brought back, and stay.
    """

    held: Sequence[pa.Table]
    now: Sequence[pa.Table]
    elsewhere: Mapping[str, pa.Table]
    difference: Difference
    gone: int

    @property
    def different(self) -> bool:
        """Whether any row is another than before."""
        return bool(self.difference.changed or self.difference.new)

    @property
    def total(self) -> int:
        """Its rows."""
        return sum(table.num_rows for table in (*self.now, *self.elsewhere.values()))


@dataclass(frozen=True, slots=True)
class _Stretch:
    """A stretch that a refresh has asked again: its shares in key order, and what was brought."""

    slice_id: int
    start: int
    stop: int
    shares: Sequence[Share]
    brought: Sequence[SegmentRecord]

    @property
    def total(self) -> int:
        return self.shares[0].total


@dataclass(slots=True)
class Renewer:
    """Puts in place what refreshes of a partitioned lake brought.

    Attributes:
        gatherer: knows the lake.
        drop_gone: whether rows that a refresh did not bring back go.
    """

    gatherer: Gatherer
    drop_gone: bool = False

    def files_of(self, slice_id: int) -> list[DataFileRecord]:
        """A slice's stretches, as if each were a data file: what a refresh is planned by."""
        held = self.gatherer.files.shares_of([slice_id])[slice_id]
        return [
            DataFileRecord(
                name=f"{start}",
                rows=sum(share.rows for share in some),
                bytes=0,
                unsettled=sum(share.unsettled for share in some),
                overdue=sum(share.overdue for share in some),
                first_key=min(share.first_key for share in some),
                last_key=max(share.last_key for share in some),
                start=start,
                stop=stop,
                generation=0,
                checksum="",
            )
            for (start, stop), some in stretches(held).items()
        ]

    def put_in_place(self) -> None:
        """Puts in place what refreshes that have ended brought; all of it."""
        inventory = self.gatherer.sealer.inventory
        ended = inventory.refreshed_slices()
        by_dataset = defaultdict[str, list[int]](list)
        for record in (self.gatherer.sealer.ledger.record(slice_id) for slice_id in ended):
            by_dataset[record.key.dataset].append(record.id)
        for dataset, ids in by_dataset.items():
            _Renewal(self, CATALOGUE[dataset], ids).make()


class _Renewal:
    """One change, of slices of a dataset."""

    def __init__(self, renewer: Renewer, dataset: Dataset, ids: Sequence[int]) -> None:
        self._gatherer = renewer.gatherer
        self._drop_gone = renewer.drop_gone
        self._dataset = dataset
        self._ids = ids
        self._sharing = self._gatherer.sharing
        self._store = self._gatherer.sealer.store
        self._reader = ShareReader(self._store, self._gatherer.sealer.row_group_bytes)
        self._stretches = list(self._asked())
        of = {share.file for stretch in self._stretches for share in stretch.shares}
        self._files = {file.id: file for file in self._gatherer.files.with_shares(sorted(of))}
        self._campaigns = self._gatherer.campaigns(ids)

    def _asked(self) -> Iterator[_Stretch]:
        files, inventory = self._gatherer.files, self._gatherer.sealer.inventory
        held, asked = files.shares_of(self._ids), files.to_refresh(self._ids)
        for slice_id in self._ids:
            brought = inventory.refreshed(slice_id)
            for (start, stop), some in stretches(held[slice_id]).items():
                if (slice_id, start) in asked:
                    within = [one for one in brought if one.last_key >= start and one.first_key < stop]
                    yield _Stretch(slice_id, start, stop, some, within)

    def make(self) -> None:
        """Makes it."""
        about = self._gatherer.about(
            [*self._ids, *(share.slice_id for file in self._files.values() for share in file.shares)]
        )
        dirty: set[int] = set()
        moved: defaultdict[str, list[_Stretch]] = defaultdict(list)
        shares_now: dict[tuple[int, int, int], Share] = {}
        changed = dict.fromkeys(self._ids, 0)
        for stretch in self._stretches:
            found = self._renewed(stretch)
            changed[stretch.slice_id] += found.difference.changed
            total_changed = found.total != stretch.total
            for number, share in enumerate(stretch.shares):
                if total_changed or (found.different and not found.now[number].equals(found.held[number])):
                    dirty.add(share.file)
                gone = found.gone if not number else 0
                now = replace(share, total=found.total, gone=gone)
                shares_now[_place(share)] = self._counted(now, found.now[number], about)
            for value in found.elsewhere:
                moved[value].append(stretch)
        removed = [file for number, file in self._files.items() if number in dirty]
        added = [file for file in (self._rewritten(old, shares_now, about) for old in removed) if file is not None]
        added += [file for file in (self._new(value, some, about) for value, some in moved.items()) if file is not None]
        self._note([share for share in shares_now.values() if share.file not in dirty])
        self._sharing.commit(Change(dataset=self._dataset.name, added=added, removed=removed, refreshed=changed))
        self._gatherer.sealer.tables.flush()

    def _counted(self, share: Share, rows: pa.Table, about: Mapping[int, About]) -> Share:
        waiting = [
            count_waiting(self._dataset, batch, self._sharing.now, about[share.slice_id].since)
            for batch in rows.to_batches()
        ]
        return replace(
            share, unsettled=sum(one.unsettled for one in waiting), overdue=sum(one.overdue for one in waiting)
        )

    def _note(self, unchanged: Sequence[Share]) -> None:
        """Notes what a refresh found of rows that stay as they are."""
        with self._gatherer.files.database.writing() as connection:
            for share in unchanged:
                mine = (shares.c.file_id == share.file) & (shares.c.slice_id == share.slice_id)
                mine &= (shares.c.start == share.start) & (shares.c.first_key == share.first_key)
                values = {"unsettled": share.unsettled, "overdue": share.overdue, "gone": share.gone}
                connection.execute(shares.update().where(mine).values(values))

    def _rewritten(
        self, old: SharedFile, shares_now: Mapping[tuple[int, int, int], Share], about: Mapping[int, About]
    ) -> SharedFile | None:
        asked = {(stretch.slice_id, stretch.start): stretch for stretch in self._stretches}

        def pieces() -> Iterator[Piece]:
            start = 0
            for share in old.shares:
                stretch = asked.get((share.slice_id, share.start))
                if stretch is None:
                    yield Piece(share, self._reader.rows(old.name, start, share.rows), counted=True)
                else:
                    now = self._renewed(stretch).now[stretch.shares.index(share)]
                    yield Piece(shares_now[_place(share)], now.to_batches())
                start += share.rows

        return self._sharing.write(self._sharing.again(old), pieces(), about, join=False)

    def _new(self, value: str, some: Sequence[_Stretch], about: Mapping[int, About]) -> SharedFile | None:
        """A new file of rows that belong to a partition that had none of their stretches."""
        by = self._gatherer.by.value
        name = layout.shared_file(self._dataset.name, by, value)
        file = SharedFile(
            dataset=self._dataset.name, partition=value, name=name, rows=0, bytes=0, generation=0, checksum=""
        )

        def pieces() -> Iterator[Piece]:
            for stretch in sorted(some, key=lambda one: (one.shares[0].id_send, one.start)):
                found = self._renewed(stretch)
                share = replace(stretch.shares[0], total=found.total, gone=0)
                yield Piece(share, found.elsewhere[value].to_batches())

        return self._sharing.write(file, pieces(), about)

    def _renewed(self, stretch: _Stretch) -> Renewed:
        """A stretch with what a refresh brought of it."""
        schema, key = self._dataset.schema, self._dataset.key
        held = [
            pa.Table.from_batches(self._reader.read(self._files[share.file], share), schema) for share in stretch.shares
        ]
        brought = [self._within(read_segment(self._store, one), stretch) for one in stretch.brought]
        brought = [batch for batch in brought if batch.num_rows]
        drop, difference = self._drop_gone and bool(brought), Difference()
        before = pa.concat_tables(held)
        if len(held) > 1:
            before = before.sort_by(key)
        rows = merged(
            self._dataset,
            before.combine_chunks().to_batches(),
            brought,
            difference,
            start=stretch.start,
            stop=stretch.stop,
            drop_gone=drop,
        )
        now, elsewhere = self._apart(pa.Table.from_batches(rows, schema), stretch)
        return Renewed(held, now, elsewhere, difference, 0 if drop else difference.gone)

    def _within(self, rows: pa.RecordBatch, stretch: _Stretch) -> pa.RecordBatch:
        keys = rows.column(self._dataset.key)
        above = pc.greater_equal(keys, pa.scalar(stretch.start, pa.int64()))
        if stretch.stop == KEY_END:
            return rows if above.true_count == rows.num_rows else rows.filter(above)
        return rows.filter(pc.and_(above, pc.less(keys, pa.scalar(stretch.stop, pa.int64()))))

    def _apart(self, rows: pa.Table, stretch: _Stretch) -> tuple[list[pa.Table], dict[str, pa.Table]]:
        """Rows by the share that they belong to; and those that belong to none, by partition."""
        by, dataset = self._gatherer.by, self._dataset
        values = [self._files[share.file].partition for share in stretch.shares]
        # Where rows don't say, they stay where they are.
        otherwise = values[0] if values else NO_VALUE
        if by is not PartitionBy.CAMPAIGN:
            otherwise = NO_VALUE
        now: list[pa.Table] = [rows.schema.empty_table()] * len(values)
        elsewhere: dict[str, pa.Table] = {}
        for value in values_of(by, dataset, rows, otherwise):
            batches = [rows_in(by, dataset, batch, value, otherwise) for batch in rows.combine_chunks().to_batches()]
            mine = pa.Table.from_batches(batches, rows.schema)
            places = [place for place, one in enumerate(values) if one == value]
            if not places:
                elsewhere[value] = mine
            for place, part in zip(places, self._cut(mine, [stretch.shares[place] for place in places]), strict=True):
                now[place] = part
        return now, elsewhere

    def _cut(self, rows: pa.Table, some: Sequence[Share]) -> list[pa.Table]:
        """Rows of one partition among the shares that are in it: mostly there is one."""
        keys = rows.column(self._dataset.key)
        parts: list[pa.Table] = []
        for share, after in pairwise([*some, None]):
            assert share is not None
            place = sum(part.num_rows for part in parts)
            if after is None:
                parts.append(rows.slice(place))
            else:
                until: Any = pc.less(keys, pa.scalar(after.first_key, pa.int64()))
                parts.append(rows.slice(place, (pc.sum(until).as_py() or 0) - place))
        return parts


def _place(share: Share) -> tuple[int, int, int]:
    return share.file, share.slice_id, share.first_key


__all__ = ["Renewed", "Renewer"]
