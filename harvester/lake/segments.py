"""Segments: pages as files. Written and synced, and read back only if they are what was written.

Mostly a segment is an Arrow IPC file. One that is all of a slice, and small, is a data file already, but for its name:
see ``whole``.
"""

from __future__ import annotations

import os
from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING, TypeVar

import pyarrow as pa
import pyarrow.parquet as pq
from isal import isal_zlib

from harvester.errors import LakeBroken
from harvester.lake import layout
from harvester.lake.entries import SegmentRecord
from harvester.lake.storage.folder import remedy

if TYPE_CHECKING:
    from collections.abc import Iterator

    from harvester.lake.storage.store import Store

Written = TypeVar("Written", bound=SegmentRecord)

_SMALL_BYTES = 64 * 1024
"""Up to this many bytes in memory, packing a segment costs more than it saves."""
_PACKED = pa.ipc.IpcWriteOptions(compression="lz4")
_PLAIN = pa.ipc.IpcWriteOptions()


def write_segment(store: Store, segment: Written, rows: pa.RecordBatch) -> Written:
    """Writes a page, which is still to be brought in, and its folder to be synced.

    Returns its record with its size. Raises LakeError. Blocking.
    """
    options = _PLAIN if rows.get_total_buffer_size() <= _SMALL_BYTES else _PACKED
    with store.create(segment.name) as sink, pa.ipc.new_file(sink, rows.schema, options=options) as writer:
        writer.write_batch(rows)
    with broken_if_unreadable(segment.name), pa.memory_map(store.local(segment.name)) as source:
        content = source.read_buffer()
        return replace(segment, bytes=content.size, checksum=crc32(content))


def read_segment(store: Store, segment: SegmentRecord) -> pa.RecordBatch:
    """A segment's rows. Raises LakeBroken if they are not what the ledger says. Blocking."""
    with broken_if_unreadable(segment.name):
        content = store.mapped(segment.name, segment.bytes)
        if segment.checksum is not None and crc32(content) != segment.checksum:
            message = (
                f"the segment {segment.name} has changed since it was written: run again, and it is asked for anew"
            )
            raise LakeBroken(message)
        if layout.is_whole(segment.name):
            batch = pq.read_table(pa.BufferReader(content), use_threads=False).combine_chunks().to_batches()[0]
        else:
            batch = pa.ipc.open_file(content).get_batch(0)
    if batch.num_rows != segment.rows:
        raise LakeBroken(f"the segment {segment.name} holds {batch.num_rows} rows instead of {segment.rows}")
    return batch


def is_sound(store: Store, segment: SegmentRecord) -> bool:
    """Whether a segment is there as it was written. Raises LakeError. Blocking."""
    if store.size(segment.name) != segment.bytes:
        return False
    if segment.checksum is None:
        return True
    with broken_if_unreadable(segment.name):
        return crc32(store.mapped(segment.name, segment.bytes)) == segment.checksum


def crc32(content: pa.Buffer) -> int:
    """The CRC-32 of these bytes."""
    return isal_zlib.crc32(memoryview(content))


@contextmanager
def broken_if_unreadable(name: str) -> Iterator[None]:
    """Turns a failure to read a file of the lake into LakeBroken."""
    try:
        yield
    except (OSError, pa.ArrowException) as error:
        reason, what_to_do = str(error), None
        if isinstance(error, OSError) and error.errno:
            reason, what_to_do = os.strerror(error.errno), remedy(error)
        what_to_do = what_to_do or "harvester verify names all that is wrong with a lake"
        raise LakeBroken(f"{name} in the lake can't be read: {reason}. {what_to_do}") from error


__all__ = ["broken_if_unreadable", "crc32", "is_sound", "read_segment", "write_segment"]
