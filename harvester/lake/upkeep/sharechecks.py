"""Shared files held against the ledger, and the ledger's stretches of a slice against each other.

Everything here says what it sees at this instant: while a run is at work, files change.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from harvester.config import PartitionBy
from harvester.datasets import CATALOGUE
from harvester.errors import LakeAway, LakeError
from harvester.lake import layout
from harvester.lake.partitioned.partitions import column_of, values_of
from harvester.lake.partitioned.sharedfiles import stretches
from harvester.lake.staging import count_waiting, newest
from harvester.lake.upkeep.contents import NotOurs, Unreadable
from harvester.lake.upkeep.findings import Finding, Kind
from harvester.redaction import in_words

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from datetime import datetime

    from harvester.datasets import Dataset
    from harvester.lake.layout import SharedFooter, Told
    from harvester.lake.partitioned.sharedfiles import Share, SharedFile
    from harvester.lake.upkeep.contents import Source
    from harvester.lake.upkeep.filechecks import Checks

_BATCH = 16_384


def read_footer(source: Source, dataset: Dataset) -> SharedFooter:
    """What a shared file says of itself. Raises Unreadable. Blocking."""
    try:
        with pq.ParquetFile(source) as file:
            return _footer(file, dataset)
    except (OSError, pa.ArrowException) as error:
        raise Unreadable(f"can't be read as Parquet ({' '.join(str(error).split())[:160]})") from error


def _footer(file: pq.ParquetFile, dataset: Dataset) -> SharedFooter:
    try:
        footer = layout.SharedFooter.decode(file.metadata.metadata or {})
    except (KeyError, ValueError) as error:
        raise NotOurs("was not written by harvester: it does not say what it covers") from error
    if not file.schema_arrow.equals(dataset.schema):
        raise Unreadable(f"does not have the columns of {dataset.name}")
    if sum(told.rows for told in footer.shares) != file.metadata.num_rows:
        raise Unreadable("does not hold as many rows as it says")
    return footer


@dataclass(frozen=True, slots=True)
class Content:
    """What a file's rows say of one share: see ``contents.Contents``."""

    first_key: int
    last_key: int
    unsettled: int = 0
    overdue: int = 0
    newest: str | None = None
    id_message: int | None = None


def read_shares(source: Source, dataset: Dataset, *, now: datetime | None = None) -> tuple[SharedFooter, list[Content]]:
    """Reads a file to its end, of all columns; what each share holds. Raises Unreadable, also if rows break a rule.

    Without ``now``, the time in UTC without a zone, that is its first and its last key alone.
    """
    try:
        with pq.ParquetFile(source, page_checksum_verification=True) as file:
            footer = _footer(file, dataset)
            found = list(_contents(file, footer, dataset, now))
            return footer, found
    except (OSError, pa.ArrowException, ValueError) as error:
        raise Unreadable(f"can't be read as Parquet ({' '.join(str(error).split())[:160]})") from error


def _contents(file: pq.ParquetFile, footer: SharedFooter, dataset: Dataset, now: datetime | None) -> Iterator[Content]:
    """Each share's ends; every column is read, so that a page that has changed is found."""
    by = PartitionBy(footer.partition_by)
    batches = file.iter_batches(_BATCH, use_threads=False)
    rest: list[pa.RecordBatch] = []
    has_column = column_of(by, dataset) is not None
    before: tuple[int, int] | None = None
    for told in footer.shares:
        mine: list[pa.RecordBatch] = []
        wanted = told.rows
        while wanted:
            batch = rest.pop() if rest else next(batches)
            if has_column and values_of(by, dataset, batch) != [footer.partition]:
                raise Unreadable("holds rows of another partition")
            mine.append(batch.slice(0, wanted))
            if batch.num_rows > wanted:
                rest.append(batch.slice(wanted))
            wanted -= mine[-1].num_rows
        found = _ends(told, pa.Table.from_batches(mine), dataset)
        if before is not None and (told.id_send, found.first_key) < before:
            raise Unreadable("holds sends out of order")
        before = (told.id_send, found.last_key)
        yield found if now is None else _more(found, mine, dataset, now)


def _more(found: Content, rows: Sequence[pa.RecordBatch], dataset: Dataset, now: datetime) -> Content:
    waiting = [count_waiting(dataset, batch, now, None) for batch in rows]
    campaigns: set[int] = set()
    if "id_message" in dataset.schema.names:
        campaigns = {one for batch in rows for one in batch.column("id_message").to_pylist() if one is not None}
    return replace(
        found,
        unsettled=sum(one.unsettled for one in waiting),
        overdue=sum(one.overdue for one in waiting),
        newest=max(filter(None, (newest(dataset, batch) for batch in rows)), default=None),
        id_message=campaigns.pop() if len(campaigns) == 1 else None,
    )


def _ends(told: Told, rows: pa.Table, dataset: Dataset) -> Content:
    """The first and the last key of a share, whose rows keep the rules."""
    found = rows.select(["id_send", dataset.key]).combine_chunks()
    sends: Any = found.column("id_send")
    keys: Any = found.column(dataset.key)
    if sends.null_count or pc.unique(sends).to_pylist() != [told.id_send]:
        raise Unreadable("holds rows of another send than it says")
    if keys.null_count:
        raise Unreadable(f"holds rows without {dataset.key}")
    rule = pc.less if dataset.paged else pc.less_equal
    first, last = keys[0].as_py(), keys[-1].as_py()
    if pc.all(rule(keys.slice(0, len(keys) - 1), keys.slice(1))).as_py() is False:
        raise Unreadable(f"holds rows out of the order of {dataset.key}, or twice")
    if first < told.start or last >= told.stop:
        raise Unreadable("holds rows outside of the keys that it says it covers")
    return Content(first, last)


def shared_findings(checks: Checks, file: SharedFile) -> list[Finding]:
    """Holds a shared file against the ledger."""
    return [
        Finding(kind, file.dataset, None, file.name, what, checks.shared_again) for kind, what in _wrong(checks, file)
    ]


def _wrong(checks: Checks, file: SharedFile) -> list[tuple[Kind, str]]:
    try:
        size = checks.store.size(file.name)
        if size is None:
            return [(Kind.MISSING, f"The file is not there; it held {file.rows:,} rows.")]
        return _wrong_inside(checks, file, size)
    except LakeAway:
        raise
    except Unreadable as error:
        return [(Kind.DAMAGED, f"The file {error}.")]
    except LakeError as error:
        return [(Kind.DAMAGED, f"The file can't be read: {error}.")]


def _wrong_inside(checks: Checks, file: SharedFile, size: int) -> list[tuple[Kind, str]]:
    dataset = CATALOGUE[file.dataset]
    ends = [(one.first_key, one.last_key) for one in file.shares]
    if checks.quick or size != file.bytes:
        with checks.store.opened(file.name) as source:
            footer = read_footer(source, dataset)
        same = size == file.bytes
    else:
        with checks.store.at_hand(file.name) as copy:
            same = copy.checksum() == file.checksum
            footer, contents = read_shares(copy.source, dataset)
        if same and [(one.first_key, one.last_key) for one in contents] != ends:
            return [(Kind.ROWS, "The file holds other keys than the ledger says.")]
    if (what := _what_it_is(checks, file, footer)) is not None:
        return [what]
    return [] if same else [(Kind.DAMAGED, "The file has bytes that have changed.")]


def _what_it_is(checks: Checks, file: SharedFile, footer: SharedFooter) -> tuple[Kind, str] | None:
    """Which file it is, by its footer, if it is another one than the ledger says."""
    if (what := _of_another(checks, footer)) is not None:
        return Kind.FOREIGN, f"The file is {what}."
    of = (footer.dataset, footer.partition, footer.generation)
    if of != (file.dataset, file.partition, file.generation):
        said = f"of {footer.dataset}, {footer.partition}, written {footer.generation + 1} times"
        noted = f"of {file.dataset}, {file.partition}, written {file.generation + 1} times"
        return Kind.SWAPPED, f"The file is one {said}, not {noted}."
    told = [(one.id_send, one.start, one.stop, one.total, one.rows) for one in footer.shares]
    if told != [(one.id_send, one.start, one.stop, one.total, one.rows) for one in file.shares]:
        return Kind.SWAPPED, "The file says that it holds other rows than the ledger says."
    return None


def _of_another(checks: Checks, footer: SharedFooter) -> str | None:
    if None not in {footer.account, checks.account} and footer.account != checks.account:
        return f"of the account {footer.account}, not of {checks.account}"
    if (footer.redaction or "") != checks.redaction:
        return f"harvested {in_words(footer.redaction)}, and the lake {in_words(checks.redaction)}"
    return None


def of_stretches(held: Sequence[Share]) -> Iterator[tuple[Kind, str]]:
    """What does not fit among a slice's shares. The text completes "of this slice, …"."""
    found = stretches(held)
    ranges = sorted(found)
    if ranges and ranges[0][0] != 0:
        yield Kind.RANGES, f"the keys below {ranges[0][0]} are in no file"
    for before, after in pairwise(ranges):
        if after[0] > before[1]:
            yield Kind.RANGES, f"the keys from {before[1]} to {after[0] - 1} are in no file"
        if after[0] < before[1]:
            yield Kind.RANGES, f"the keys from {after[0]} on are covered twice"
    for (start, stop), some in found.items():
        rows, total = sum(share.rows for share in some), some[0].total
        if rows != total or any(share.total != total for share in some):
            yield Kind.COUNTS, f"of {total:,} rows from key {start} on, {rows:,} are in data files"
        for share in some:
            if not start <= share.first_key <= share.last_key < stop:
                yield Kind.RANGES, f"rows from key {share.first_key} on lie outside of the keys that they count for"


__all__ = ["Content", "of_stretches", "read_footer", "read_shares", "shared_findings"]
