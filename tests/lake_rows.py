"""Rows for tests of the lake, made without the API's wing."""

from typing import Any

import pyarrow as pa

from harvester.datasets import MESSAGES, Dataset
from harvester.lake.staging import Taken
from harvester.model import KeyRange, Proof


def message_rows(*keys: int, id_send: int = 7, status: str = "sent") -> pa.RecordBatch:
    """Messages with these keys; each row's e-mail tells its key."""
    return rows_of(
        MESSAGES,
        *(
            {
                "id_send_message": key,
                "id_send": id_send,
                "email": f"{key}@example.com",
                "message_status": status,
                "tld": "com",
            }
            for key in keys
        ),
    )


def rows_of(dataset: Dataset, *rows: dict[str, Any]) -> pa.RecordBatch:
    """A batch of a dataset; what a row does not say is null."""
    return pa.RecordBatch.from_pylist(list(rows), schema=dataset.schema)


def page(slice_id: int, *keys: int, proof: Proof | None = None, status: str = "sent", id_send: int = 7) -> Taken:
    """An accepted page of messages that ends at its last key."""
    return Taken(
        slice_id=slice_id,
        dataset=MESSAGES,
        rows=message_rows(*keys, status=status, id_send=id_send) if keys else None,
        key_range=KeyRange(cursor=keys[-1], held=keys[-1], limit=10) if keys else None,
        proof=proof,
        queries=1,
    )
