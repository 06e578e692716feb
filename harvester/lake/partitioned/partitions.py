"""Which partition rows belong to. Pure: rows in, values of partitions out.

Nouns: a partition's *value* is what its folder is named after, such as ``2024-05``.

Rows that don't say go to ``__HIVE_DEFAULT_PARTITION__``, as all engines call it; so do all rows of a dataset that has
no such column (``raw_bounces`` has no dates), but for campaigns: there the send's campaign counts, where it is known.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.compute as pc

from harvester.config import PartitionBy

if TYPE_CHECKING:
    from collections.abc import Callable

    from harvester.datasets import Dataset

NO_VALUE = "__HIVE_DEFAULT_PARTITION__"
_CAMPAIGN = "id_message"
_FORMATS = {PartitionBy.MONTH: "%Y-%m", PartitionBy.DAY: "%Y-%m-%d"}
_LENGTHS = {PartitionBy.MONTH: 7, PartitionBy.DAY: 10}
_FEW_ROWS = 64


def column_of(by: PartitionBy, dataset: Dataset) -> str | None:
    """The column that says which partition a row belongs to; None if the dataset has none."""
    name = _CAMPAIGN if by is PartitionBy.CAMPAIGN else next(iter(dataset.dates), None)
    return name if name in dataset.schema.names else None


def values_of(
    by: PartitionBy, dataset: Dataset, rows: pa.RecordBatch | pa.Table, otherwise: str = NO_VALUE
) -> list[str]:
    """The partitions of some rows, each once, in order.

    Args:
        by: what the lake is partitioned by.
        dataset: theirs.
        rows: the rows.
        otherwise: the value where the dataset has no such column.
    """
    column = column_of(by, dataset)
    if column is None:
        return [otherwise]
    found = rows.column(column)
    if rows.num_rows > _FEW_ROWS:
        found = pc.unique(_texts(by, found))
        return sorted(NO_VALUE if value is None else value for value in found.to_pylist())
    return sorted({NO_VALUE if value is None else _text(by)(value) for value in found.to_pylist()})


def rows_in(
    by: PartitionBy, dataset: Dataset, rows: pa.RecordBatch, value: str, otherwise: str = NO_VALUE
) -> pa.RecordBatch:
    """Those of some rows that belong to a partition. Arguments are those of ``values_of``."""
    values = values_of(by, dataset, rows, otherwise)
    if values == [value]:
        return rows
    if value not in values:
        return rows.slice(0, 0)
    column = column_of(by, dataset)
    assert column is not None
    texts: Any = _texts(by, rows.column(column))
    # A row without a value is in none of the others: what is null is not chosen.
    wanted: Any = pc.is_null(texts) if value == NO_VALUE else pc.equal(texts, pa.scalar(value))
    return rows.filter(wanted)


def _texts(by: PartitionBy, found: Any) -> Any:  # noqa: ANN401  whichever array was given
    return found.cast(pa.string()) if by is PartitionBy.CAMPAIGN else pc.strftime(found, _FORMATS[by])


def _text(by: PartitionBy) -> Callable[[object], str]:
    return str if by is PartitionBy.CAMPAIGN else lambda date: str(date)[: _LENGTHS[by]]


__all__ = ["NO_VALUE", "column_of", "rows_in", "values_of"]
