"""Gathering: sealing where a lake is partitioned by anything else than sends, so that a data file holds many of them.

What waits is gathered until one partition has enough for a data file of the target size, or all of it has enough for
sixteen; or at the end of a run. Then all that waits of the slices in question is sealed, into as many files as there
are partitions, in one change: of a slice, no file ever tells of rows that another one should hold and doesn't.

Of a slice that is not complete, the last segment stays: it may turn out to be the slice's end, which says the proof.
"""

from __future__ import annotations

import threading
from collections import defaultdict
from dataclasses import dataclass, field, replace
from datetime import datetime
from itertools import groupby
from typing import TYPE_CHECKING, NamedTuple

import sqlalchemy as sa

from harvester.config import PartitionBy
from harvester.datasets import CATALOGUE
from harvester.lake import layout
from harvester.lake.entries import SegmentRecord, segment_record
from harvester.lake.ledgers.dialects import total
from harvester.lake.ledgers.tables import ranges, segments, shares, slices
from harvester.lake.partitioned.partitions import NO_VALUE, column_of, rows_in, values_of
from harvester.lake.partitioned.sharedfiles import Change, Share, SharedFile, SharedFiles, end_of, reaches_end
from harvester.lake.partitioned.sharing import About, Piece, ShareReader, Sharing
from harvester.lake.segments import read_segment
from harvester.model import KEY_END, Proof

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    import pyarrow as pa

    from harvester.lake.sealing import Sealer

_FULL_AT_ONCE = 16
"""So many data files' worth waits at most, whichever partitions it is of."""
_STRETCH_SHARE = 4
"""A stretch is no larger than this part of a row group, so that a refresh can take it whole."""


class Waits(NamedTuple):
    """A slice that has something to seal.

    Attributes:
        id: its number.
        dataset: its dataset's name.
        id_send: its send.
        campaign: the partition of its campaign, as far as the ledger knows it.
        about: its proof, and the like.
        staged: its segments, in key order, that are to be sealed.
    """

    id: int
    dataset: str
    id_send: int
    campaign: str
    about: About
    staged: tuple[SegmentRecord, ...]


@dataclass(slots=True)
class Gatherer:
    """Seals a partitioned lake. Blocking; threads take turns.

    Attributes:
        sealer: knows the lake, and seals it where it is partitioned by sends.
        files: what the ledger knows of shared files.
        clock: tells the time, without a zone, in UTC.
        turn: who works on shared files has it.
    """

    sealer: Sealer
    files: SharedFiles
    clock: Callable[[], datetime]
    by_of_ledger: Callable[[], PartitionBy]
    turn: threading.Lock = field(default_factory=threading.Lock)
    _by: PartitionBy | None = None
    _waiting: defaultdict[str, float] | None = None

    @property
    def by(self) -> PartitionBy:
        """What the lake is partitioned by."""
        if self._by is None:
            self._by = self.by_of_ledger()
        return self._by

    @property
    def shares(self) -> bool:
        """Whether data files hold rows of many sends."""
        return self.by is not PartitionBy.SEND

    @property
    def sharing(self) -> Sharing:
        """What writes files, as of now."""
        return Sharing(self.sealer, self.files, self.by, self.clock())

    def values_of(self, dataset: str, rows: pa.RecordBatch) -> str | None:
        """The partitions of a page's rows, with a space between; None where data files are of one send."""
        return " ".join(values_of(self.by, CATALOGUE[dataset], rows)) if self.shares else None

    # --- when

    def waits(self, partitions: str | None, size: int) -> None:
        """Notes that so many bytes of segments wait."""
        if partitions is not None:
            self._known()[partitions] += size

    @property
    def due(self) -> bool:
        """Whether enough waits for sealing."""
        sizes = list(self._known().values())  # at once: other threads add to them
        return max(sizes, default=0) >= self._full_bytes or sum(sizes) >= _FULL_AT_ONCE * self._full_bytes

    @property
    def _full_bytes(self) -> float:
        return self.sealer.target_bytes / self.sealer.ratio

    def _known(self) -> defaultdict[str, float]:
        if self._waiting is None:
            self._waiting = self._in_ledger()
        return self._waiting

    def _in_ledger(self) -> defaultdict[str, float]:
        known = defaultdict[str, float](float)
        query = sa.select(segments.c.partitions, total(segments.c.bytes)).where(
            (segments.c.refresh == 0) & segments.c.partitions.is_not(None)
        )
        with self.files.database.reading() as connection:
            for partitions, size in connection.execute(query.group_by(segments.c.partitions)):
                known[partitions] = size
        return known

    # --- sealing

    def seal(self, *, everything: bool = False) -> None:
        """Seals what is due; with ``everything`` all that waits, also of slices that are not complete."""
        if not everything and not self.due:
            return
        with self.turn:
            if everything or self.due:
                self._seal(everything=everything)

    def _seal(self, *, everything: bool) -> None:
        full = {partitions for partitions, size in list(self._known().items()) if size >= self._full_bytes}
        for _, some in groupby(self._found(everything=everything), key=lambda one: one.dataset):
            batch = [
                one
                for one in some
                if everything or not full or any(segment.partitions in full for segment in one.staged)
            ]
            if batch:
                self._seal_slices(batch)
        self._waiting = self._in_ledger()
        if not everything and self.due:
            # What is left is the end of slices that are under way, and waits for what comes after it.
            self._waiting = defaultdict(float)

    def _found(self, *, everything: bool) -> list[Waits]:
        """Slices that have something to seal, by dataset and send."""
        end = sa.select(sa.func.min(ranges.c.stop)).where(ranges.c.slice_id == slices.c.id).scalar_subquery()
        free = (segments.c.refresh == 0) & segments.c.data_file_id.is_(None) & segments.c.change.is_(None)
        query = (
            sa.select(segments)
            .join_from(segments, slices)
            .where(free & (segments.c.first_key < sa.func.coalesce(end, KEY_END)))
            .order_by(segments.c.slice_id, segments.c.first_key, segments.c.id)
        )
        staged = defaultdict[int, list[SegmentRecord]](list)
        with self.files.database.reading() as connection:
            for row in connection.execute(query).mappings():
                staged[row["slice_id"]].append(segment_record(row))
        found: list[Waits] = []
        for row in self._slices(sorted({*staged, *self._unmarked()})):
            mine = staged[row["id"]]
            if row["proof"] is None and not everything:
                mine = mine[:-1]
            if mine or row["proof"] is not None:
                found.append(_waits(row, mine))
        return sorted(found, key=lambda one: (one.dataset, one.id_send))

    def _unmarked(self) -> list[int]:
        """Complete slices whose shares do not say so."""
        ended = sa.select(shares.c.slice_id).where(shares.c.stop == KEY_END)
        query = sa.select(shares.c.slice_id).join_from(shares, slices).where(slices.c.proof.is_not(None)).distinct()
        with self.files.database.reading() as connection:
            return list(connection.scalars(query.where(shares.c.slice_id.not_in(ended))))

    def _slices(self, ids: Sequence[int]) -> Iterator[sa.RowMapping]:
        for place in range(0, len(ids), 500):
            with self.files.database.reading() as connection:
                query = sa.select(slices).where(slices.c.id.in_(ids[place : place + 500]))
                yield from connection.execute(query).mappings().all()

    def about(self, slice_ids: Sequence[int]) -> dict[int, About]:
        """What is known of slices."""
        return {row["id"]: _about(row) for row in self._slices(sorted(set(slice_ids)))}

    def campaigns(self, slice_ids: Sequence[int]) -> dict[int, str]:
        """The partition of each slice's campaign, as far as the ledger knows it."""
        return {row["id"]: _campaign(row) for row in self._slices(sorted(set(slice_ids)))}

    def _seal_slices(self, batch: Sequence[Waits]) -> None:
        """Seals slices of one dataset, in one change."""
        held = self.files.shares_of([one.id for one in batch])
        plan: list[tuple[Waits, Share, list[SegmentRecord]]] = []
        ends: dict[tuple[int, int], int] = {}
        for one in batch:
            plan += self._stretches(one, held[one.id])
            last = max((share.start for share in held[one.id]), default=0)
            if reaches_end(held[one.id]) and one.staged:  # the slice was complete, and has grown
                ends[one.id, last] = end_of(held[one.id])[1] + 1
            elif not one.staged and held[one.id] and not reaches_end(held[one.id]):
                ends[one.id, last] = KEY_END
        about = {one.id: one.about for one in batch}
        added = list(self._written(batch[0].dataset, plan, about))
        removed = self._moved_ends({share.file for mine in held.values() for share in mine}, ends)
        rewritten = [file for file in (self.rewrite(old, ends) for old in removed) if file is not None]
        if added or rewritten:
            numbers = [segment.id for one in batch for segment in one.staged]
            self._learn(added, [segment for one in batch for segment in one.staged])
            self.sharing.commit(
                Change(dataset=batch[0].dataset, added=[*added, *rewritten], removed=removed, segments=numbers)
            )
            self.sealer.tables.flush()

    def _learn(self, added: Sequence[SharedFile], staged: Sequence[SegmentRecord]) -> None:
        """Learns how large a data file is that is made of so many bytes of segments."""
        size = sum(segment.bytes for segment in staged)
        if size >= self.sealer.target_bytes // 16:
            self.sealer.ratio = sum(file.bytes for file in added) / size

    def _stretches(self, one: Waits, held: Sequence[Share]) -> list[tuple[Waits, Share, list[SegmentRecord]]]:
        """What is staged of a slice, in stretches, each with its segments."""
        end, last_key = end_of(held)
        start = last_key + 1 if end == KEY_END else end
        most = self.sealer.row_group_bytes / _STRETCH_SHARE
        found: list[tuple[Waits, Share, list[SegmentRecord]]] = []
        group: list[SegmentRecord] = []
        for place, segment in enumerate(one.staged):
            group.append(segment)
            at_end = place == len(one.staged) - 1
            if at_end or (sum(each.bytes for each in group) >= most and CATALOGUE[one.dataset].paged):
                stop = KEY_END if at_end and one.about.proof is not None else segment.last_key + 1
                total = sum(each.rows for each in group)
                share = Share(slice_id=one.id, id_send=one.id_send, start=start, stop=stop, total=total)
                found.append((one, share, group))
                start, group = stop, []
        return found

    def _written(
        self, dataset: str, plan: Sequence[tuple[Waits, Share, list[SegmentRecord]]], about: Mapping[int, About]
    ) -> Iterator[SharedFile]:
        """Writes new files: of each partition as many as it needs."""
        by_value = defaultdict[str, list[tuple[Waits, Share, SegmentRecord]]](list)
        for one, share, group in plan:
            for segment in group:
                for value in self._values(one, segment):
                    by_value[value].append((one, share, segment))
        for value, items in sorted(by_value.items()):
            for some in _cut(items, self._full_bytes):
                name = layout.shared_file(dataset, self.by.value, value)
                file = SharedFile(
                    dataset=dataset, partition=value, name=name, rows=0, bytes=0, generation=0, checksum=""
                )
                written = self.sharing.write(file, self._pieces(some, value), about)
                if written is not None:
                    yield written

    def _values(self, one: Waits, segment: SegmentRecord) -> list[str]:
        if column_of(self.by, CATALOGUE[one.dataset]) is None:
            return [self._otherwise(one.campaign)]
        return (segment.partitions or "").split() or values_of(
            self.by, CATALOGUE[one.dataset], read_segment(self.sealer.store, segment)
        )

    def _otherwise(self, campaign: str) -> str:
        return campaign if self.by is PartitionBy.CAMPAIGN else NO_VALUE

    def _pieces(self, items: Sequence[tuple[Waits, Share, SegmentRecord]], value: str) -> Iterator[Piece]:
        for share, some in groupby(items, key=lambda item: item[1]):
            yield Piece(share, self._rows([(one, segment) for one, _, segment in some], value))

    def _rows(self, items: Sequence[tuple[Waits, SegmentRecord]], value: str) -> Iterator[pa.RecordBatch]:
        for one, segment in items:
            rows = read_segment(self.sealer.store, segment)
            if segment.partitions == value and column_of(self.by, CATALOGUE[one.dataset]) is not None:
                yield rows
                continue
            yield rows_in(self.by, CATALOGUE[one.dataset], rows, value, self._otherwise(one.campaign))

    def _moved_ends(self, files: set[int], ends: Mapping[tuple[int, int], int]) -> list[SharedFile]:
        """Those of these files that say where a stretch ends that ends elsewhere now."""
        if not ends:
            return []
        return [
            file
            for file in self.files.with_shares(sorted(files))
            if any((share.slice_id, share.start) in ends for share in file.shares)
        ]

    def rewrite(self, old: SharedFile, ends: Mapping[tuple[int, int], int]) -> SharedFile | None:
        """Writes a file again, with the same rows, where stretches end elsewhere now."""
        reader = ShareReader(self.sealer.store, self.sealer.row_group_bytes)
        about = self.about([share.slice_id for share in old.shares])
        pieces = (
            Piece(replace(share, stop=ends.get((share.slice_id, share.start), share.stop)), batches, counted=True)
            for share, batches in reader.all(old)
        )
        return self.sharing.write(self.sharing.again(old), pieces, about, join=False)


def _waits(row: sa.RowMapping, staged: Sequence[SegmentRecord]) -> Waits:
    return Waits(row["id"], row["dataset"], row["id_send"], _campaign(row), _about(row), tuple(staged))


def _campaign(row: sa.RowMapping) -> str:
    return NO_VALUE if row["id_message"] is None else str(row["id_message"])


def _about(row: sa.RowMapping) -> About:
    since = row["sent_at"] or row["first_seen"]
    proof = Proof(row["proof"]) if row["proof"] else None
    return About(proof, row["expected"], datetime.fromisoformat(since) if since else None)


def _cut(
    items: Sequence[tuple[Waits, Share, SegmentRecord]], full_bytes: float
) -> list[list[tuple[Waits, Share, SegmentRecord]]]:
    """What of a partition goes into which file; a small rest joins its neighbour."""
    groups: list[list[tuple[Waits, Share, SegmentRecord]]] = []
    group: list[tuple[Waits, Share, SegmentRecord]] = []
    size = 0.0
    for item in items:
        group.append(item)
        size += item[2].bytes / max(1, len((item[2].partitions or "").split()))
        if size >= full_bytes:
            groups.append(group)
            group, size = [], 0.0
    if group and groups and size < full_bytes / 4:
        groups[-1] += group
    elif group:
        groups.append(group)
    return groups


__all__ = ["Gatherer", "Waits"]
