"""Sealing: segments become data files of the target size, whole and under their final name, or not at all.

A data file is written under ``_harvest/``, synced, and brought in; the ledger notes the intent; the file is renamed
into place; the ledger notes that it is done and forgets the segments; the segments go. After a crash anywhere, the
intent and the file's checksum say which side of the rename it was.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from itertools import chain
from typing import TYPE_CHECKING, Any, Protocol

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from harvester import __version__
from harvester.datasets import CATALOGUE, Dataset, Kind
from harvester.errors import LakeBroken
from harvester.lake import layout
from harvester.lake.entries import DataFileRecord, SegmentRecord, SliceRecord
from harvester.lake.formats.following import NoTables
from harvester.lake.segments import broken_if_unreadable, read_segment
from harvester.model import KEY_END

if TYPE_CHECKING:
    from collections.abc import Callable, Container, Iterable, Iterator, Sequence

    from harvester.lake.inventory import Inventory
    from harvester.lake.ledger import Ledger
    from harvester.lake.storage.store import Store
    from harvester.model import Proof, SliceKey

_SMALL_BYTES = 256 * 1024
"""Up to this many bytes in memory, compressing a file costs more time than it saves space."""

_FEW_ROWS = 64
"""Up to so many rows, looking for columns with few values costs more than the rows themselves."""

_SAMPLE_ROWS = 4096
_DICTIONARY_SHARE = 0.5
"""A dictionary pays where at most this share of a column's values are distinct."""


@dataclass(slots=True)
class Sealer:
    """Makes data files out of staged segments. Blocking; one thread at a time for each slice.

    Attributes:
        store: the lake's files.
        ledger: what is known of slices.
        inventory: what is known of files.
        target_bytes: the size that data files aim at.
        row_group_bytes: the size in memory that row groups aim at.
        ratio: a data file's size to that of its segments, learned from those made so far.
        account: reads from the ledger whose lake it is; None if that is not known.
        redaction: reads from the ledger what is done to people's data: a label, empty where nothing is.
        tables: is told of data files, and says what those are called that replace others.
        in_doubt: slices of which a data file may or may not have got its name: more of them would be made beside
            ranges that are not known. The next run puts them right.
    """

    store: Store
    ledger: Ledger
    inventory: Inventory
    target_bytes: int
    row_group_bytes: int
    ratio: float = 0.5
    account: Callable[[], str | None] = lambda: None
    redaction: Callable[[], str] = str
    tables: NoTables = field(default_factory=NoTables)
    in_doubt: set[int] = field(default_factory=set)
    _known_whole: set[int] = field(default_factory=set)
    _owner: str | None = None
    _label: str = ""

    def seal(self, slice_id: int, *, everything: bool = False) -> None:
        """Seals what is due of a slice.

        A complete slice is sealed to its end, and its last file says the proof; of an incomplete one, full files are
        sealed, or, with ``everything``, all that is staged. Of a slice that is split, that is its first range.
        """
        if slice_id in self.in_doubt:
            return
        record = self.ledger.record(slice_id)
        complete = record.proof is not None
        staged = self.inventory.sealable(slice_id)
        groups = plan_files(staged, self.target_bytes / self.ratio, complete=complete, everything=everything)
        for number, group in enumerate(groups):
            self._seal_group(record, group, last=complete and number == len(groups) - 1)
        if complete and not staged:
            self._mark_last(record)

    def _seal_group(self, record: SliceRecord, group: Sequence[SegmentRecord], *, last: bool) -> None:
        files = self.inventory.files(record.id)
        self._refuse_strays(record, files)
        if files and files[-1].stop == KEY_END:  # the slice was complete, and has grown
            if files[-1].bytes < self.target_bytes / 4:
                self._add_to_last(record, files[-1], group, last=last)
                return
            cut = self._rewrite(record, replace(files[-1], stop=files[-1].last_key + 1))
            files = [*files[:-1], cut]
        first_key = min(segment.first_key for segment in group)
        last_key = max(segment.last_key for segment in group)
        file = DataFileRecord(
            name=self.tables.name_for(layout.data_file(record.key, first_key, last_key), record.id),
            rows=sum(segment.rows for segment in group),
            bytes=0,
            unsettled=sum(segment.unsettled for segment in group),
            overdue=sum(segment.overdue for segment in group),
            first_key=first_key,
            last_key=last_key,
            start=max((file.stop for file in files), default=0),
            stop=KEY_END if last else last_key + 1,
            generation=0,
            checksum="",
        )
        written = self.write(record, file, (read_segment(self.store, segment) for segment in group))
        if (size := sum(segment.bytes for segment in group)) >= self.target_bytes // 16:
            self.ratio = written.bytes / size
        self.publish(record, written, group, replaces=None)

    def _refuse_strays(self, record: SliceRecord, files: Sequence[DataFileRecord]) -> None:
        if record.id not in self._known_whole:
            known = {file.name for file in files} | self.tables.kept(record.id)
            refuse_strays(self.store, record.key, known)
            self._known_whole.add(record.id)

    def _add_to_last(
        self, record: SliceRecord, last_file: DataFileRecord, group: Sequence[SegmentRecord], *, last: bool
    ) -> None:
        """Puts a small new part of a slice into its last data file, under the name that it has."""
        last_key = max(segment.last_key for segment in group)
        file = replace(
            last_file,
            name=self.tables.name_after(last_file.name, record.id),
            rows=last_file.rows + sum(segment.rows for segment in group),
            unsettled=last_file.unsettled + sum(segment.unsettled for segment in group),
            overdue=last_file.overdue + sum(segment.overdue for segment in group),
            last_key=last_key,
            stop=KEY_END if last else last_key + 1,
            changed=0,
        )
        batches = chain(self.read_file(last_file), (read_segment(self.store, segment) for segment in group))
        self.publish(record, self.write(record, file, batches), group, replaces=last_file)

    def _mark_last(self, record: SliceRecord) -> None:
        """Writes the last data file again, so that it covers the rest of the keys and says the proof."""
        files = self.inventory.files(record.id)
        if files and files[-1].stop != KEY_END:
            self._rewrite(record, replace(files[-1], stop=KEY_END))

    def _rewrite(self, record: SliceRecord, file: DataFileRecord) -> DataFileRecord:
        """Writes a data file again, with the same rows and another range."""
        after = replace(file, name=self.tables.name_after(file.name, record.id), changed=0)
        written = self.write(record, after, self.read_file(file))
        self.publish(record, written, (), replaces=file)
        return written

    def merge(self, record: SliceRecord, files: Sequence[DataFileRecord]) -> None:
        """Makes one data file of some that adjoin, under the name of the first; the others are still to be removed."""
        file = replace(
            files[0],
            name=self.tables.name_after(files[0].name, record.id),
            rows=sum(each.rows for each in files),
            unsettled=sum(each.unsettled for each in files),
            overdue=sum(each.overdue for each in files),
            gone=sum(each.gone for each in files),
            changed=0,
            last_key=files[-1].last_key,
            stop=files[-1].stop,
            generation=max(each.generation for each in files),
        )
        written = self.write(record, file, chain.from_iterable(map(self.read_file, files)))
        self.publish(record, written, (), replaces=files[0], merges=files[1:])

    def publish(
        self,
        record: SliceRecord,
        file: DataFileRecord,
        group: Sequence[SegmentRecord],
        replaces: DataFileRecord | None,
        *,
        merges: Sequence[DataFileRecord] = (),
    ) -> None:
        """Gives a written data file its name, in the ledger as well, and removes the segments it is made of."""
        self.store.bring_in([self.being_written(file.name)])
        self.in_doubt.add(record.id)
        old = [*([replaces] if replaces is not None else []), *merges]
        taken = replaces.id if replaces is not None else None
        number = self.inventory.intend(record.id, file, group, taken, [each.id for each in merges])
        self.store.publish([(self.being_written(file.name), file.name)])
        made_of = self.inventory.fulfil(number)
        self.in_doubt.discard(record.id)
        self.tables.changed(record.id, file, [each.name for each in old])
        self.store.remove_all(made_of)

    def being_written(self, name: str) -> str:
        """The name of a data file until it is whole."""
        return layout.being_written(name, epoch=self.epoch)

    @property
    def epoch(self) -> int | None:
        """Which of the lake's holders this is: see ``layout.segment``."""
        return self.ledger.database.epoch

    def read_file(self, record: DataFileRecord) -> Iterator[pa.RecordBatch]:
        """A data file's rows, a batch at a time."""
        with (
            broken_if_unreadable(record.name),
            self.store.at_hand(record.name) as copy,
            pq.ParquetFile(copy.source) as file,
        ):
            yield from file.iter_batches()

    def write(self, record: SliceRecord, file: DataFileRecord, batches: Iterable[pa.RecordBatch]) -> DataFileRecord:
        """Writes a data file, not yet under its name; returns its record with its size and checksum."""
        dataset = CATALOGUE[record.key.dataset]
        footer = self.footer(record.key, file, record.proof, record.expected)
        name = self.being_written(file.name)
        with self.store.create(name) as sink:
            write_parquet(sink, dataset, footer, batches, row_group_bytes=self.row_group_bytes)
        size, checksum = self.store.measured(name)
        return replace(file, bytes=size, checksum=checksum)

    def footer(self, key: SliceKey, file: DataFileRecord, proof: Proof | None, expected: int | None) -> layout.Footer:
        """What a data file of a slice says of itself; its proof and ``SEND_COUNT`` only in the slice's last file."""
        owner, label = self.whose()
        return layout.Footer(
            dataset=key.dataset,
            id_send=key.id_send,
            start=file.start,
            stop=file.stop,
            generation=file.generation,
            harvested_at=datetime.now(UTC).isoformat(timespec="seconds"),
            version=__version__,
            proof=proof if file.stop == KEY_END else None,
            expected=expected if file.stop == KEY_END else None,
            account=owner,
            redaction=label or None,
        )

    def whose(self) -> tuple[str | None, str]:
        """Whose lake it is, and the label of what is done to people's data; read from the ledger once."""
        if self._owner is None:
            self._owner, self._label = self.account(), self.redaction()
        return self._owner, self._label


def refuse_strays(store: Store, key: SliceKey, known: Container[str]) -> None:
    """Raises LakeBroken if a slice has data files that the ledger lacks: more beside them would double rows.

    No crash leaves any: they tell of a ledger, or the end of its write-ahead log, that was lost or put back.
    """
    folder = layout.slice_folder(key)
    strays = sorted(name for name in store.names(folder) if name not in known and name.endswith(".parquet"))
    if strays:
        message = (
            f"the lake holds {strays[0]}, which its ledger does not know: a newer ledger was lost. "
            "Put it back, or rebuild it from the data files: harvester recover"
        )
        raise LakeBroken(message)


def plan_files(
    staged: Sequence[SegmentRecord], target_bytes: float, *, complete: bool, everything: bool
) -> list[list[SegmentRecord]]:
    """Which segments go together into a data file, in key order.

    Args:
        staged: the segments, in key order.
        target_bytes: how many bytes of segments make a full data file.
        complete: whether no more segments will come: all are sealed, and a small rest joins its neighbour.
        everything: whether to seal all of them although more will come.

    Without either, only full files are made, and the last segment stays: it may turn out to be the slice's end, whose
    file says the proof.
    """
    groups: list[list[SegmentRecord]] = []
    group: list[SegmentRecord] = []
    size = 0
    candidates = staged if complete or everything else staged[:-1]
    for segment in candidates:
        group.append(segment)
        size += segment.bytes
        if size >= target_bytes:
            groups.append(group)
            group, size = [], 0
    if group and (complete or everything):
        if groups and size < target_bytes / 4:
            groups[-1] += group
        else:
            groups.append(group)
    return groups


class Tells(Protocol):
    """What a data file says of itself."""

    def encode(self) -> dict[str, str]:
        """As Parquet key-value metadata."""
        ...


def write_parquet(
    sink: pa.NativeFile,
    dataset: Dataset,
    footer: Tells,
    batches: Iterable[pa.RecordBatch],
    *,
    row_group_bytes: int,
    order: Sequence[str] = (),
) -> None:
    """Writes one data file: rows in the order given, row groups of about ``row_group_bytes`` in memory.

    Rows are sorted by the columns of ``order``, and then by key. The footer is asked what it says after the last row.
    """
    groups = _row_groups(batches, row_group_bytes)
    first, size = next(groups)
    options: dict[str, Any] = {
        "compression": "zstd" if size > _SMALL_BYTES else "none",
        "use_dictionary": worth_a_dictionary(first) or False,
        "write_statistics": [column.name for column in dataset.columns if column.kind is not Kind.TEXT],
        "sorting_columns": [pq.SortingColumn(dataset.schema.get_field_index(name)) for name in (*order, dataset.key)],
        "write_page_checksum": True,  # a byte that flips is found, also where the ledger is lost
    }
    with pq.ParquetWriter(sink, dataset.schema, **options) as writer:
        for group, _ in chain([(first, size)], groups):
            writer.write_table(group, row_group_size=max(1, group.num_rows))
        writer.add_key_value_metadata(footer.encode())


def _row_groups(batches: Iterable[pa.RecordBatch], row_group_bytes: int) -> Iterator[tuple[pa.Table, int]]:
    """Tables that each become a row group, and their bytes in memory."""
    group: list[pa.RecordBatch] = []
    size = 0
    for batch in batches:
        group.append(batch)
        size += _bytes_of(batch)
        if size >= row_group_bytes:
            yield pa.Table.from_batches(group), size
            group, size = [], 0
    if group:
        yield pa.Table.from_batches(group), size


def _bytes_of(rows: pa.RecordBatch) -> int:
    """What rows take in memory, in bytes; of few rows, which may be part of more, it is what all of those take."""
    whole = rows.get_total_buffer_size()
    return whole if whole <= _SMALL_BYTES else rows.nbytes  # which takes ten times as long, with so many columns


def worth_a_dictionary(rows: pa.Table) -> list[str]:
    """The names of the columns whose values repeat enough, judged by the first rows; none where rows are few."""
    if rows.num_rows <= _FEW_ROWS:
        return []
    sample = rows.slice(0, _SAMPLE_ROWS)
    return [
        name
        for name, column in zip(sample.schema.names, sample.columns, strict=True)
        if pc.count_distinct(column).as_py() <= _DICTIONARY_SHARE * sample.num_rows
    ]


__all__ = ["Sealer", "plan_files", "refuse_strays", "worth_a_dictionary", "write_parquet"]
