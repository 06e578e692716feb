"""What tests of partitioned lakes share: what readers find in one, held against the account's truth."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.dataset as ds

from harvester.datasets import CATALOGUE, DEFAULT
from harvester.simulator.account import Account
from harvester.simulator.truth import digest, expected


def files(lake: Path, dataset: str = "messages") -> list[Path]:
    """All data files of a dataset."""
    return sorted((lake / dataset).rglob("*.parquet"))


def held(lake: Path, dataset: str) -> pa.Table:
    """What a reader finds in all partitions of a dataset, in the order in which the truth is told."""
    schema = CATALOGUE[dataset].schema
    paths = files(lake, dataset)
    return ds.dataset([str(path) for path in paths], schema=schema).to_table() if paths else schema.empty_table()


def assert_exact(lake: Path, account: Account, datasets: Iterable[str] = DEFAULT) -> None:
    """The lake holds what the account sends of all its sends, in value and count; in key order within each send."""
    for name in datasets:
        dataset, rows = CATALOGUE[name], held(lake, name)
        true = [expected(account, dataset, id_send) for id_send in account.spec.sends.ids]
        assert rows.num_rows == sum(one.num_rows for one in true), name
        order: Any = [(column, "ascending") for column in dict.fromkeys(("id_send", dataset.key, *rows.schema.names))]
        whole = pa.concat_tables(true)
        assert digest(dataset, [rows.sort_by(order)]) == digest(dataset, [whole.sort_by(order)]), name
    assert not list((lake / "_harvest" / "writing").iterdir())
