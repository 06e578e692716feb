"""A lake to measure staging and sealing with, and pages to put into it."""

from __future__ import annotations

import tempfile
from contextlib import contextmanager
from datetime import datetime
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING

from benchmarks.account import served, unpacked
from benchmarks.figures import WrongResult
from harvester.api.json import JsonCodec
from harvester.api.records import RawTable, to_batch
from harvester.config import Tuning
from harvester.datasets import MESSAGES
from harvester.lake.lake import Lake, open_lake
from harvester.lake.staging import Taken
from harvester.model import KeyRange, Proof, Send, SliceKey

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    import pyarrow as pa

NOW = datetime(2026, 11, 1)  # noqa: DTZ001  the lake's times have no zone


class Filling:
    """A lake, into which sends are put that it does not know yet."""

    def __init__(self, lake: Lake) -> None:
        self.lake = lake
        self._run = lake.runs.begin("12345")
        self._numbers = count(1)

    def slices(self, many: int) -> list[int]:
        """So many new slices of messages, by their number in the ledger."""
        sends = [Send(next(self._numbers)) for _ in range(many)]
        self.lake.runs.select(self._run, sends, [MESSAGES.name], NOW)
        records = [self.lake.ledger.find(SliceKey(MESSAGES.name, send.id_send)) for send in sends]
        return [record.id for record in records if record is not None]


@contextmanager
def lake() -> Iterator[Filling]:
    """A lake that is thrown away."""
    with tempfile.TemporaryDirectory(prefix="benchmark-") as folder, open_lake(Path(folder), Tuning()) as opened:
        yield Filling(opened)


def page(slice_id: int, rows: pa.RecordBatch, *, last: bool = True) -> Taken:
    """An accepted page; the slice's last one comes with its proof."""
    key = rows.column(MESSAGES.key)[-1].as_py()
    proof = Proof.COUNT if last else None
    return Taken(slice_id, MESSAGES, rows, KeyRange(cursor=key, held=key), proof, 1)


def batches(many: int, rows: int) -> Sequence[pa.RecordBatch]:
    """Neighbouring pages of one send, decoded and typed; compact, as if each had come by itself."""
    with served(f"1x{many * rows}") as account:
        id_send, start = account.sends.ids[0], None
        found: list[pa.RecordBatch] = []
        for _ in range(many):
            table = JsonCodec(MESSAGES).decode(unpacked(account.page(id_send, start, rows)))
            if not isinstance(table, RawTable) or table.rows != rows:
                raise WrongResult("the account did not send a page")
            found.append(to_batch(table, MESSAGES, id_send=None))
            start = found[-1].column(MESSAGES.key)[-1].as_py() + 1
    return found


__all__ = ["NOW", "Filling", "batches", "lake", "page"]
