"""A selection of slices that no lake remembers: which are still to be asked, and what became of the others."""

from __future__ import annotations

from functools import partial
from itertools import count, islice
from typing import TYPE_CHECKING, NoReturn

from harvester.harvest import order
from harvester.lake.entries import SliceRecord
from harvester.model import SliceKey

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from datetime import datetime

    from harvester.datasets import Dataset
    from harvester.lake.refreshing import RefreshPlan
    from harvester.model import Proof, Send


class Selection:
    """The slices of one dataset; what the scheduler calls ``Slices``.

    Attributes:
        proofs: complete sends, and why.
        incomplete: sends that were given up, and why.
    """

    splits = False  # a reader has a send's rows in the order of their keys

    def __init__(self, dataset: Dataset, sends: Iterable[Send], now: datetime, limit: int) -> None:
        """Sends are asked once each, the largest first (``order``), and else in this order.

        ``now`` is the age of sends that don't say theirs, ``limit`` how many records one query brings.
        """
        self.proofs: dict[int, Proof] = {}
        self.incomplete: dict[int, str] = {}
        self._dataset = dataset
        self._rest = iter(sorted({send.id_send: send for send in sends}.values(), key=partial(self._part, limit)))
        self._now = now
        self._numbers = count(1)
        self._under_way: dict[int, int] = {}

    def take(self, sends: int) -> Sequence[SliceRecord]:
        """The next ones."""
        return [self._record(send) for send in islice(self._rest, sends)]

    def _part(self, limit: int, send: Send) -> tuple[int, int]:
        """As far as sizes decide about a send's place."""
        expected = send.expected if self._dataset.counted else None
        part, size, _ = order.place(send.id_send, begun=False, expected=expected, limit=limit)
        return part, size

    def _record(self, send: Send) -> SliceRecord:
        number = next(self._numbers)
        self._under_way[number] = send.id_send
        return SliceRecord(
            id=number,
            key=SliceKey(self._dataset.name, send.id_send),
            proof=None,
            rows=0,
            expected=send.expected if self._dataset.counted else None,
            key_range=None,
            digest=None,
            listed=send.expected if send.proven else None,
            since=send.sent_at or self._now,
        )

    def complete(self, slice_id: int, proof: Proof) -> None:
        """A slice is proven, and all of its rows were yielded."""
        self.proofs[self._under_way.pop(slice_id)] = proof

    def note_size(self, slice_id: int, expected: int) -> None:
        """As ``Slices.note_size``: nothing is split, so nobody asks."""

    def give_up(self, slice_id: int, error: str, queries: int, limit: int) -> None:  # noqa: ARG002  nobody resumes it
        """A slice is given up, for what reason."""
        self.incomplete[self._under_way.pop(slice_id)] = error

    def note(self, slice_id: int, error: str | None, queries: int) -> None:
        """A slice is left unfinished: nobody resumes it."""

    def failed_keys(self, id_send: int) -> None:
        """Which messages of a send failed is not known here, so bounces are proven by two askings that agree."""

    def plan_refresh(self, record: SliceRecord) -> RefreshPlan:
        """Nothing is ever refreshed."""
        return _never(record.key)

    def forget_refresh(self, slice_id: int) -> None:
        """Nothing is ever refreshed."""
        _never(slice_id)


def _never(slice_: SliceKey | int) -> NoReturn:
    raise AssertionError(f"{slice_} was never complete before")


__all__ = ["Selection"]
