"""Refreshing: which parts of a complete slice are asked again, and how what came back takes its place.

What a refresh brings is staged like any page, in segments that do not count. Once all has been asked, each data file is
replaced as a whole, one after the other: it keeps its name and its range. Which of them are still to be replaced is in
the ledger, so that after a crash anywhere each is old or new, and the next start goes on.

Blocking; one thread at a time for each slice.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import pyarrow as pa
import pyarrow.compute as pc

from harvester.datasets import CATALOGUE
from harvester.lake.entries import Due
from harvester.lake.merging import Difference, merged
from harvester.lake.segments import read_segment
from harvester.lake.staging import count_waiting
from harvester.model import MOST_ANCHORS

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence
    from datetime import datetime

    from harvester.datasets import Dataset
    from harvester.lake.entries import DataFileRecord, Progress, SegmentRecord, SliceRecord
    from harvester.lake.sealing import Sealer


@dataclass(frozen=True, slots=True)
class Span:
    """Neighbouring data files of a slice that are asked again in one go.

    Attributes:
        start: the first key of their range; 0 where it begins with the slice.
        stop: the first key after it; of the slice's last file, the one after its last row.
        first_key: the first row's key.
        known: the last row's key of the file before; None if there is none.
        anchors: keys before that one, newest first.
    """

    start: int
    stop: int
    first_key: int
    known: int | None
    anchors: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class RefreshPlan:
    """What is to be asked again of a slice.

    Attributes:
        in_full: whether that is all of it.
        spans: parts still to be walked, in key order.
        progress: how far the first of them is walked; None if it is not begun.
    """

    in_full: bool
    spans: tuple[Span, ...]
    progress: Progress | None


@dataclass(slots=True)
class Refresher:
    """Plans the refresh of slices, and puts in place what it brought.

    Attributes:
        sealer: writes data files.
        drop_gone: whether rows that a refresh did not bring back go.
    """

    sealer: Sealer
    drop_gone: bool = False

    def plan(self, record: SliceRecord, files: Sequence[DataFileRecord] | None = None) -> RefreshPlan:
        """What is to be asked again of a slice, all of whose rows are sealed.

        ``files`` are what to ask again as a whole; None for the slice's data files.
        """
        if files is None:
            files = self.sealer.inventory.files(record.id)
        in_full = record.due is Due.ALL or not any(file.unsettled for file in files)
        spans = spans_of(files, [in_full or file.unsettled > 0 for file in files])
        progress = self.sealer.ledger.progress(record.id)
        if progress is not None and CATALOGUE[record.key.dataset].paged:
            at = next((place for place, span in enumerate(spans) if span.start == progress.key_range.start), None)
            if at is not None and progress.in_full == in_full and spans[at].stop == progress.key_range.stop:
                return RefreshPlan(in_full, spans[at:], progress)
        if progress is not None:
            self._end(record.id)
        return RefreshPlan(in_full, spans, None)

    def forget(self, slice_id: int) -> None:
        """Gives up a refresh, if one was begun, and what it brought."""
        if self.sealer.ledger.progress(slice_id) is not None:
            self._end(slice_id)

    def _end(self, slice_id: int) -> None:
        self.sealer.store.remove_all(self.sealer.inventory.end_refresh(slice_id))

    def put_in_place(self, slice_id: int, now: datetime) -> None:
        """Replaces the data files of a slice whose refresh has ended; else does nothing."""
        progress = self.sealer.ledger.progress(slice_id)
        if progress is None or not progress.ended or slice_id in self.sealer.in_doubt:
            return
        record = self.sealer.ledger.record(slice_id)
        brought = self.sealer.inventory.refreshed(slice_id)
        for file in self.sealer.inventory.files(slice_id, to_refresh=True):
            self._replace(record, file, brought, now)
        self._end(slice_id)

    def _replace(
        self, record: SliceRecord, file: DataFileRecord, brought: Sequence[SegmentRecord], now: datetime
    ) -> None:
        dataset = CATALOGUE[record.key.dataset]
        within = [part for part in brought if part.last_key >= file.start and part.first_key < file.stop]
        difference = Difference()
        drop = self.drop_gone and self._brings(file, dataset, within)  # a refresh that holds none of it empties no file
        rows = merged(
            dataset,
            self.sealer.read_file(file),
            (read_segment(self.sealer.store, part) for part in within),
            difference,
            start=file.start,
            stop=file.stop,
            drop_gone=drop,
        )
        seen = _Seen(record, now)
        name = self.sealer.tables.name_after(file.name, record.id)
        written = self.sealer.write(record, replace(file, name=name, generation=file.generation + 1), seen.watch(rows))
        after = replace(
            written,
            rows=seen.rows,
            first_key=seen.first_key,
            last_key=seen.last_key,
            unsettled=seen.unsettled,
            overdue=seen.overdue,
            gone=0 if drop else difference.gone,
            changed=difference.changed,
        )
        if difference.changed or difference.new or (drop and difference.gone):
            self.sealer.publish(record, after, (), replaces=file)
        else:
            self.sealer.store.remove(self.sealer.being_written(name))
            self.sealer.inventory.note_unchanged(record.id, after)

    def _brings(self, file: DataFileRecord, dataset: Dataset, within: Sequence[SegmentRecord]) -> bool:
        """Whether any of these segments holds a row of the file's range."""
        for part in within:
            keys = read_segment(self.sealer.store, part).column(dataset.key)
            inside = pc.and_(pc.greater_equal(keys, pa.scalar(file.start)), pc.less(keys, pa.scalar(file.stop)))
            if inside.true_count:
                return True
        return False


class _Seen:
    """Counts rows on their way into a file."""

    def __init__(self, record: SliceRecord, now: datetime) -> None:
        self.rows = self.unsettled = self.overdue = self.first_key = self.last_key = 0
        self._record = record
        self._dataset = CATALOGUE[record.key.dataset]
        self._now = now

    def watch(self, batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        for batch in batches:
            if not batch.num_rows:
                continue
            keys = batch.column(self._dataset.key)
            waiting = count_waiting(self._dataset, batch, self._now, self._record.since)
            self.first_key = self.first_key or keys[0].as_py()
            self.last_key = keys[-1].as_py()
            self.rows += batch.num_rows
            self.unsettled += waiting.unsettled
            self.overdue += waiting.overdue
            yield batch


def spans_of(files: Sequence[DataFileRecord], due: Sequence[bool]) -> tuple[Span, ...]:
    """The data files that are due, neighbours together.

    Args:
        files: a slice's data files, in key order.
        due: for each, whether it is due.
    """
    spans: list[Span] = []
    for place, file in enumerate(files):
        if not due[place]:
            continue
        last = place == len(files) - 1
        stop = file.last_key + 1 if last else file.stop
        if place and due[place - 1]:
            spans[-1] = replace(spans[-1], stop=stop)
            continue
        before = [key for earlier in reversed(files[:place]) for key in (earlier.last_key, earlier.first_key)]
        spans.append(
            Span(
                start=file.start,
                stop=stop,
                first_key=file.first_key,
                known=before[0] if before else None,
                anchors=tuple(dict.fromkeys(before))[1 : 1 + MOST_ANCHORS],
            )
        )
    return tuple(spans)


__all__ = ["RefreshPlan", "Refresher", "Span", "spans_of"]
