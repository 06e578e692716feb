"""Reading back what the lake holds of a slice, staged and sealed alike."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from harvester.datasets import FAILED, MESSAGES
from harvester.lake.partitioned.sharing import ShareReader
from harvester.lake.segments import broken_if_unreadable, read_segment

if TYPE_CHECKING:
    from collections.abc import Iterator

    from harvester.lake.inventory import Inventory
    from harvester.lake.partitioned.sharedfiles import SharedFiles
    from harvester.lake.storage.store import Store

_FEW_ROWS = 64
_NO_KEYS = pa.array([], pa.int64())


def failed_keys(store: Store, inventory: Inventory, slice_id: int, shared: SharedFiles | None = None) -> pa.Int64Array:
    """The keys of the failed messages among those that the lake holds of a slice. Blocking.

    A message that a refresh has found to have failed is among them, before and after its data file is replaced.
    """
    assert MESSAGES.status is not None
    names = [MESSAGES.key, MESSAGES.status]
    parts = list(map(failed_of, _columns(store, inventory, slice_id, names)))
    if shared is not None:
        reader = ShareReader(store, 0, names)
        held = shared.shares_of([slice_id])[slice_id]
        for file in shared.with_shares({share.file for share in held}):
            for share in file.shares:
                if share.slice_id == slice_id:
                    parts += map(failed_of, reader.read(file, share))
    keys = pa.concat_arrays(parts) if parts else pa.array([], pa.int64())
    assert isinstance(keys, pa.Int64Array)
    return keys


def failed_of(messages: pa.RecordBatch) -> pa.Int64Array:
    """The keys of those of these messages that failed."""
    assert MESSAGES.status is not None
    statuses = messages.column(MESSAGES.status)
    if messages.num_rows <= _FEW_ROWS and FAILED not in statuses.to_pylist():  # at a tenth of the time
        return _NO_KEYS
    keys = messages.column(MESSAGES.key).filter(pc.equal(statuses, pa.scalar(FAILED)))
    assert isinstance(keys, pa.Int64Array)
    return keys


def _columns(store: Store, inventory: Inventory, slice_id: int, names: list[str]) -> Iterator[pa.RecordBatch]:
    for data_file in inventory.files(slice_id):
        with (
            broken_if_unreadable(data_file.name),
            store.opened(data_file.name) as source,
            pq.ParquetFile(source, pre_buffer=not isinstance(source, str)) as file,
        ):
            yield from file.iter_batches(columns=names)
    for segment in [*inventory.staged(slice_id), *inventory.refreshed(slice_id)]:
        yield read_segment(store, segment).select(names)


__all__ = ["failed_keys", "failed_of"]
