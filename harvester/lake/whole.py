"""Slices that come whole, in one small page: their segment is Parquet already, and a rename makes it their data file.

The transaction that commits such a page, its cursor and its proof says as well that its segment is about to become a
data file. Then all files of a group get their names, and one transaction says so. After a crash in between, each is
under its name, or a segment as any other.

Where sends are tiny, all are like this, and they are many: so each is encoded once, synced once, and moved once.
"""

from __future__ import annotations

import hashlib
from dataclasses import replace
from typing import TYPE_CHECKING, NamedTuple

import pyarrow as pa

from harvester.lake import layout, little
from harvester.lake.entries import Advance, DataFileRecord, SegmentRecord
from harvester.lake.sealing import Sealer, refuse_strays, write_parquet
from harvester.lake.segments import crc32
from harvester.model import KEY_END

if TYPE_CHECKING:
    from collections.abc import Sequence

    from harvester.datasets import Dataset
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
    keys = [(whole.key, page.slice_id) for page in pages if (whole := whole_of(page)) is not None]
    sealer.store.each(lambda pair: refuse_strays(sealer.store, pair[0], sealer.tables.kept(pair[1])), keys)
    sealer.store.make_folders([layout.slice_folder(key) for key, _ in keys])


def write_wholes(
    sealer: Sealer, pages: Sequence[Taken], segments: Sequence[SegmentRecord | None]
) -> dict[int, tuple[SegmentRecord, DataFileRecord]]:
    """Writes those of some pages that come whole as segments; the folder of segments is not synced. Blocking.

    Args:
        sealer: knows the lake.
        pages: the pages.
        segments: their records, as far as they are known before they are written.

    Returns:
        By the place of each that came whole, the records of its segment and of the data file that this becomes.
    """
    planned = {
        place: _planned(sealer, page, whole, segment)
        for place, (page, segment) in enumerate(zip(pages, segments, strict=True))
        if (whole := whole_of(page)) is not None and segment is not None
    }
    few: dict[str, list[_Planned]] = {}
    for each in planned.values():
        if each.rows.num_rows <= little.MOST_ROWS:
            few.setdefault(each.dataset.name, []).append(each)
    contents: dict[str, bytes] = {}
    for together in few.values():
        files = little.encoded(together[0].dataset, [(each.footer.encode(), each.rows) for each in together])
        contents.update(zip([each.segment.name for each in together], files, strict=True))
    return {place: _written(sealer, each, contents.get(each.segment.name)) for place, each in planned.items()}


class _Planned(NamedTuple):
    """A page that comes whole, and the records of its segment and its data file before either is written."""

    dataset: Dataset
    rows: pa.RecordBatch
    footer: layout.Footer
    segment: SegmentRecord
    file: DataFileRecord


def _planned(sealer: Sealer, page: Taken, whole: Whole, segment: SegmentRecord) -> _Planned:
    assert page.rows is not None
    file = DataFileRecord(
        name=sealer.tables.name_for(layout.data_file(whole.key, segment.first_key, segment.last_key), page.slice_id),
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
    name = layout.whole_segment(page.slice_id, segment.first_key, epoch=sealer.epoch)
    return _Planned(page.dataset, page.rows, footer, replace(segment, name=name), file)


def _written(sealer: Sealer, planned: _Planned, few: bytes | None) -> tuple[SegmentRecord, DataFileRecord]:
    """Writes a file; ``few`` is its content, where a little one has been encoded already."""
    if few is not None:
        content = pa.py_buffer(few)
    else:
        sink = pa.BufferOutputStream()
        group_bytes = sealer.row_group_bytes
        write_parquet(sink, planned.dataset, planned.footer, [planned.rows], row_group_bytes=group_bytes)
        content = sink.getvalue()
    sealer.store.write(planned.segment.name, content)
    return (
        replace(planned.segment, bytes=content.size, checksum=crc32(content)),
        replace(planned.file, bytes=content.size, checksum=hashlib.sha256(content).hexdigest()),
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
        for step, _, file in whole:
            sealer.tables.changed(step.slice_id, file)
        sealer.tables.settled([step.slice_id for step, *_ in whole])


__all__ = ["make_room", "publish_whole", "whole_of", "write_wholes"]
