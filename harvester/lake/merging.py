"""Merging: what a refresh brought, into the rows that a data file holds. Batches in, batches out; nothing else.

Invariant: nothing goes away by silence. A row that the refresh did not bring stays, and is counted as gone; each key of
a paged dataset comes once, as it is now.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.compute as pc

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from harvester.datasets import Dataset


@dataclass(slots=True)
class Difference:
    """What is different after a refresh: rows that ``changed``, that are ``new`` within, and that are ``gone``."""

    changed: int = 0
    new: int = 0
    gone: int = 0


def merged(
    dataset: Dataset,
    held: Iterable[pa.RecordBatch],
    brought: Iterable[pa.RecordBatch],
    difference: Difference,
    *,
    start: int,
    stop: int,
    drop_gone: bool = False,
) -> Iterator[pa.RecordBatch]:
    """The rows of a data file as they are after a refresh, a batch at a time, in key order.

    Args:
        dataset: theirs.
        held: the file's rows, in key order.
        brought: what the refresh of the slice brought, in key order; keys outside the file's range are passed over.
        difference: counts what is different, as the batches are taken.
        start: the first key of the file's range.
        stop: the first key after it.
        drop_gone: whether rows that were not brought go.
    """
    if not dataset.paged:
        yield from _merged_list(dataset, held, brought, difference, drop_gone=drop_gone)
        return
    rows = _Rows(dataset, brought)
    rows.up_to(start - 1)
    for batch in held:
        keys = batch.column(dataset.key)
        now = rows.up_to(keys[-1].as_py())
        yield from _window(dataset, batch, now, difference, drop_gone=drop_gone)
    rest = rows.up_to(stop - 1)
    difference.new += sum(batch.num_rows for batch in rest)
    yield from rest


class _Rows:
    """Batches in key order, taken key by key."""

    def __init__(self, dataset: Dataset, batches: Iterable[pa.RecordBatch]) -> None:
        self._key = dataset.key
        self._batches = iter(batches)
        self._rest: pa.RecordBatch | None = None

    def up_to(self, key: int) -> list[pa.RecordBatch]:
        """All rows that are left whose key is at most ``key``."""
        found: list[pa.RecordBatch] = []
        while True:
            batch = self._rest if self._rest is not None else next(self._batches, None)
            self._rest = None
            if batch is None:
                return found
            count = pc.less_equal(batch.column(self._key), pa.scalar(key, pa.int64())).true_count
            if count:
                found.append(batch.slice(0, count))
            if count < batch.num_rows:
                self._rest = batch.slice(count)
                return found


def _window(
    dataset: Dataset, held: pa.RecordBatch, brought: list[pa.RecordBatch], difference: Difference, *, drop_gone: bool
) -> Iterator[pa.RecordBatch]:
    """Rows held and rows brought of the same stretch of keys, merged."""
    now = pa.Table.from_batches(brought, held.schema).combine_chunks()
    places = pc.index_in(held.column(dataset.key), value_set=now.column(dataset.key).combine_chunks())
    here = pc.is_valid(places)
    common = here.true_count
    gone = held.num_rows - common
    difference.gone += gone
    difference.new += now.num_rows - common
    before = held.filter(here) if gone else held
    difference.changed += count_different(pa.Table.from_batches([before]), now.take(places.drop_null()))
    if gone and not drop_gone:
        stays = pa.Table.from_batches([held.filter(pc.invert(here))])
        now = pa.concat_tables([now, stays]).sort_by(dataset.key)
    yield from now.combine_chunks().to_batches()


def count_different(before: pa.Table, now: pa.Table) -> int:
    """How many rows of two tables, as long as each other and of the same columns, are not the same."""
    differ: Any = None
    for old, new in zip(before.columns, now.columns, strict=True):
        if old.equals(new):
            continue
        unequal: Any = pc.fill_null(pc.not_equal(old, new), pa.scalar(value=False))
        unlike: Any = pc.or_(unequal, pc.not_equal(pc.is_null(old), pc.is_null(new)))
        differ = unlike if differ is None else pc.or_(differ, unlike)
    return 0 if differ is None else int(pc.sum(differ).as_py() or 0)


def in_lake_order(dataset: Dataset, rows: pa.RecordBatch | pa.Table) -> Any:  # noqa: ANN401  whichever was given
    """The rows of an unpaged dataset in key order; equal keys in the order of their other columns."""
    names = [dataset.key, *(name for name in rows.schema.names if name != dataset.key)]
    return rows.sort_by([(name, "ascending") for name in names])


def _merged_list(
    dataset: Dataset,
    held: Iterable[pa.RecordBatch],
    brought: Iterable[pa.RecordBatch],
    difference: Difference,
    *,
    drop_gone: bool,
) -> Iterator[pa.RecordBatch]:
    """As ``merged``, for a dataset whose keys may repeat: a key's rows replace each other, as many as there are."""
    before = pa.Table.from_batches(held, dataset.schema)
    now = pa.Table.from_batches(brought, dataset.schema)
    place = dataset.schema.get_field_index(dataset.key)
    old, new = list(_tuples(before)), list(_tuples(now))
    fresh = Counter(new)
    unmatched: list[int] = []
    for number, row in enumerate(old):
        if fresh[row]:
            fresh[row] -= 1
        else:
            unmatched.append(number)
    replacing = Counter[Any]()
    for row, count in fresh.items():
        replacing[row[place]] += count
    stays = []
    for number in unmatched:
        key = old[number][place]
        if replacing[key]:
            replacing[key] -= 1
            difference.changed += 1
        else:
            stays.append(number)
    difference.gone += len(stays)
    difference.new += sum(replacing.values())
    if stays and not drop_gone:
        now = pa.concat_tables([now, before.take(pa.array(stays, pa.int64()))])
    yield from in_lake_order(dataset, now).combine_chunks().to_batches()


def _tuples(table: pa.Table) -> Iterable[tuple[Any, ...]]:
    return zip(*(column.to_pylist() for column in table.columns), strict=True)


__all__ = ["Difference", "count_different", "in_lake_order", "merged"]
