"""Staging: a page becomes a segment, durable but not yet visible, and is committed together with its cursor.

Invariant: files first, synced, with their folder; then one transaction. A crash before it leaves files that nobody
knows, which the next start removes; a crash after it leaves nothing to do.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import pyarrow as pa
import pyarrow.compute as pc

from harvester.datasets import UNSETTLED, Dataset
from harvester.lake import layout
from harvester.lake.entries import Advance, SegmentRecord

if TYPE_CHECKING:
    from collections.abc import Sequence

    from harvester.lake.ledger import Ledger
    from harvester.lake.store import Store
    from harvester.model import KeyRange, Proof

_OPTIONS = pa.ipc.IpcWriteOptions(compression="lz4")


@dataclass(frozen=True, slots=True)
class Taken:
    """An accepted page, on its way into the lake.

    Attributes:
        slice_id: the slice's number in the ledger.
        dataset: its dataset.
        rows: the rows that are new, in key order; None if there are none.
        key_range: where the walk is after the page; None for an unpaged dataset.
        proof: why the slice is complete now; None while it is not.
        gone: rows that the source no longer has, so far.
        queries: queries that this run has asked of the slice, so far.
        digest: of this asking of an unpaged dataset.
    """

    slice_id: int
    dataset: Dataset
    rows: pa.RecordBatch | None
    key_range: KeyRange | None
    proof: Proof | None
    gone: int
    queries: int
    digest: str | None = None


def stage(store: Store, ledger: Ledger, pages: Sequence[Taken]) -> list[int]:
    """Makes pages durable and commits them, in the order given, all of them or none. Blocking.

    Returns:
        The bytes that each page's segment takes; 0 for a page without new rows.
    """
    advances = [
        Advance(
            slice_id=page.slice_id,
            segment=_write(store, page, page.rows) if page.rows is not None else None,
            key_range=page.key_range,
            proof=page.proof,
            gone=page.gone,
            queries=page.queries,
            digest=page.digest,
        )
        for page in pages
    ]
    if any(advance.segment for advance in advances):
        store.sync_folder(layout.SEGMENTS)
    ledger.advance(advances)
    return [advance.segment.bytes if advance.segment else 0 for advance in advances]


def _write(store: Store, page: Taken, rows: pa.RecordBatch) -> SegmentRecord:
    keys = rows.column(page.dataset.key)
    first, last = keys[0].as_py(), keys[-1].as_py()
    name = layout.segment(page.slice_id, first)
    with store.create(name) as sink, pa.ipc.new_file(sink, rows.schema, options=_OPTIONS) as writer:
        writer.write_batch(rows)
    return SegmentRecord(
        name=name,
        rows=rows.num_rows,
        bytes=store.size(name) or 0,
        unsettled=count_unsettled(page.dataset, rows),
        first_key=first,
        last_key=last,
    )


def count_unsettled(dataset: Dataset, rows: pa.RecordBatch) -> int:
    """How many of the rows may still change."""
    if dataset.status is None:
        return 0
    return pc.is_in(rows.column(dataset.status), value_set=pa.array(UNSETTLED)).true_count


__all__ = ["Taken", "count_unsettled", "stage"]
