"""Slices that come whole, in one small page: their segment is Parquet already, and a rename makes it their data file.

The transaction that commits such a page, its cursor and its proof says as well that its segment is about to become a
data file. Then all files of a group get their names, and one transaction says so. After a crash in between, each is
under its name, or a segment as any other.

Where sends are tiny, all are like this, and they are many: so each is encoded once, synced once, and moved once.
"""

from __future__ import annotations

import hashlib
from dataclasses import replace
from typing import TYPE_CHECKING

import pyarrow as pa

from harvester.lake import layout, little
from harvester.lake.entries import Advance, DataFileRecord, SegmentRecord
from harvester.lake.sealing import Sealer, refuse_strays, write_parquet
from harvester.lake.segments import crc32
from harvester.model import KEY_END

if TYPE_CHECKING:
    from collections.abc import Sequence

    from harvester.lake.staging import Taken, Whole

MOST_ROWS = 256
"""Encoding a larger page would keep others waiting to be staged; the sealer has a thread of its own."""


def whole_of(page: Taken) -> Whole | None:
    """The slice that is wholly in this page, if there is one, and the page is small."""
    ready = page.rows is not None and page.proof is not None and page.refreshed is None
    few = page.rows is not None and page.rows.num_rows <= MOST_ROWS
    return page.whole if ready and few else None


def make_room(sealer: Sealer, pages: Sequence[Taken]) -> None:
    """Makes the folders of slices that come whole. Raises LakeBroken if they hold anything. Blocking."""
    keys = [whole.key for whole in map(whole_of, pages) if whole is not None]
    for key in keys:
        refuse_strays(sealer.store, key, ())
    sealer.store.make_folders([layout.slice_folder(key) for key in keys])


def write_whole(
    sealer: Sealer, page: Taken, whole: Whole, segment: SegmentRecord
) -> tuple[SegmentRecord, DataFileRecord]:
    """Writes a page that comes whole as a segment; the folder of segments is not synced. Blocking.

    Args:
        sealer: knows the lake.
        page: the page.
        whole: its slice.
        segment: the page's record, as far as it is known before it is written.

    Returns:
        The records of the segment, and of the data file that it is about to become.
    """
    assert page.rows is not None
    file = DataFileRecord(
        name=layout.data_file(whole.key, segment.first_key, segment.last_key),
        rows=segment.rows,
        bytes=0,
        unsettled=segment.unsettled,
        overdue=segment.overdue,
        first_key=segment.first_key,
        last_key=segment.last_key,
        start=0,
        stop=KEY_END,
        generation=0,
        checksum="",
    )
    footer = sealer.footer(whole.key, file, page.proof, whole.expected)
    if page.rows.num_rows <= little.MOST_ROWS:
        content = pa.py_buffer(little.encoded(page.dataset, footer.encode(), page.rows))
    else:
        sink = pa.BufferOutputStream()
        write_parquet(sink, page.dataset, footer, [page.rows], row_group_bytes=sealer.row_group_bytes)
        content = sink.getvalue()
    name = layout.whole_segment(page.slice_id, segment.first_key)
    sealer.store.write(name, content)
    return (
        replace(segment, name=name, bytes=content.size, checksum=crc32(content)),
        replace(file, bytes=content.size, checksum=hashlib.sha256(content).hexdigest()),
    )


def publish_whole(sealer: Sealer, advances: Sequence[Advance], numbers: Sequence[int]) -> None:
    """Gives segments that are data files already their names, and has the ledger say so. Blocking.

    Args:
        sealer: knows the lake.
        advances: what was committed.
        numbers: of the data files among it, in the ledger.
    """
    whole = [(step, step.segment, step.file) for step in advances if step.segment is not None and step.file is not None]
    if whole:
        sealer.store.publish([(segment.name, file.name) for _, segment, file in whole])
        sealer.inventory.fulfil_whole(
            [(step.slice_id, number) for (step, *_), number in zip(whole, numbers, strict=True)]
        )


__all__ = ["make_room", "publish_whole", "whole_of", "write_whole"]
