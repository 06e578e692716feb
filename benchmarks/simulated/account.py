"""An account of any size that is all arithmetic: its keys follow from a few numbers for each send.

A page of it holds the columns that a harvest looks at on their way (the key, the send, and what is extra) and no other,
so that a record takes some nanoseconds in the real client, scheduler and proofs. Every message that is ``BOUNCED``-th
of its send has failed, and is in the send's list of bounces.
"""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING, Any, cast

import numpy as np
import pyarrow as pa

from harvester.datasets import BOUNCES, EXTRA, MESSAGES, PAGE_CAP, SENDS
from harvester.model import Send

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    import numpy.typing as npt

    Integers = npt.NDArray[np.int64]

FIRST_ID_SEND = 601_181
FIRST_ID_MESSAGE = 32_443
FIRST_KEY = 723_043_606
BOUNCED = 2_000
SENT_AT = datetime(2020, 3, 1, 9)  # noqa: DTZ001  the API's dates have no zone
_BETWEEN_SENDS = 16


class SimulatedAccount:
    """Sends of so many messages each, in the order of their keys.

    Attributes:
        rows: each send's number of messages.
        said: how many each of them says that it has.
        campaign_sends: so many sends make a campaign.
        stride: from one key of a send to the next.
    """

    def __init__(self, rows: Sequence[int], *, campaign_sends: int = 20, stride: int = 1) -> None:
        self.rows: Integers = np.asarray(rows, np.int64)
        self.said = self.rows
        self.campaign_sends = campaign_sends
        self.stride = stride
        self._before: Integers = np.concatenate([[0], np.cumsum(self.rows)])
        places = np.arange(len(self.rows), dtype=np.int64)
        self._first_keys: Integers = FIRST_KEY + self._before[:-1] * stride + places * _BETWEEN_SENDS

    @property
    def total(self) -> int:
        """All its messages."""
        return int(self._before[-1])

    def sends(self, *, sized: bool = True) -> Iterator[Send]:
        """Its sends, as a list names them that is proven; without sizes if they are not ``sized``."""
        for place, rows in enumerate(self.said.tolist()):
            yield Send(FIRST_ID_SEND + place, self.campaign(place), expected=rows if sized else None, proven=sized)

    def campaign(self, place: int) -> int:
        """The campaign of the send at that place."""
        return FIRST_ID_MESSAGE + place // self.campaign_sends

    def scope(self, id_send: int | None, id_message: int | None) -> tuple[int, int]:
        """The places, from the first to before the last, of the sends that a query is about."""
        if id_send is not None:
            return id_send - FIRST_ID_SEND, id_send - FIRST_ID_SEND + 1
        if id_message is not None:
            first = (id_message - FIRST_ID_MESSAGE) * self.campaign_sends
            return first, min(first + self.campaign_sends, len(self.rows))
        return 0, len(self.rows)

    def part(self, scope: tuple[int, int], start: int | None, limit: int) -> tuple[int, int]:
        """Which messages a query from the key ``start`` on brings: the number of the first, and how many."""
        first, last = int(self._before[scope[0]]), int(self._before[scope[1]])
        if start is not None:
            place = max(0, int(np.searchsorted(self._first_keys, start, "right")) - 1)
            within = -(-(start - int(self._first_keys[place])) // self.stride)
            number = int(self._before[place]) + min(max(within, 0), int(self.rows[place]))
            first = min(max(first, number), last)
        return first, min(limit, last - first)

    def messages(self, first: int, count: int) -> pa.RecordBatch:
        """So many messages from that number on."""
        if not count:
            return _messages(_NO_KEYS, _NO_KEYS, FIRST_ID_MESSAGE)
        place = int(np.searchsorted(self._before, first, "right")) - 1
        key = int(self._first_keys[place]) + (first - int(self._before[place])) * self.stride
        if first + count <= self._before[place + 1]:
            keys = np.arange(key, key + count * self.stride, self.stride, dtype=np.int64)
            return _messages(keys, np.full(count, FIRST_ID_SEND + place, np.int64), self.campaign(place))
        numbers = np.arange(first, first + count, dtype=np.int64)
        places = np.searchsorted(self._before, numbers, "right") - 1
        keys = self._first_keys[places] + (numbers - self._before[places]) * self.stride
        return _messages(keys, FIRST_ID_SEND + places, self.campaign(int(places[0])))

    def failed(self, place: int) -> pa.Int64Array:
        """The keys of a send's messages that failed, ascending."""
        first = int(self._first_keys[place])
        numbers = np.arange(0, int(self.rows[place]), BOUNCED, dtype=np.int64)
        return cast("pa.Int64Array", pa.array(first + numbers * self.stride))

    def bounces(self, place: int) -> pa.RecordBatch:
        """A send's list of bounces."""
        keys = self.failed(place).to_numpy()
        ids = np.full(len(keys), FIRST_ID_SEND + place, np.int64)
        columns: list[pa.Array[Any]] = [pa.array(ids), pa.array(keys), _NOTHING_EXTRA.slice(0, len(keys))]
        return pa.RecordBatch.from_arrays(columns, schema=_SEEN[BOUNCES.name])

    def listed(self, place: int, count: int) -> pa.RecordBatch:
        """The list of so many sends from that place on, with how many messages each says that it has."""
        columns: dict[str, Integers] = {
            SENDS.key: FIRST_ID_SEND + np.arange(place, place + count),
            "send_count": self.said[place : place + count],
        }
        return pa.RecordBatch.from_arrays(
            [pa.array(columns[one.name]) if one.name in columns else pa.nulls(count, one.type) for one in SENDS.schema],
            schema=SENDS.schema,
        )

    def key_sum(self, place: int) -> int:
        """The sum of a send's keys."""
        rows = int(self.rows[place])
        return rows * int(self._first_keys[place]) + self.stride * (rows * (rows - 1) // 2)


class OneSend(SimulatedAccount):
    """One send whose keys lie as they like."""

    def __init__(self, keys: Integers, said: int) -> None:
        """``keys`` are ascending; ``said`` is how many messages the send says that it has."""
        super().__init__([len(keys)])
        self.said = np.asarray([said], np.int64)
        self._keys = keys

    def part(self, scope: tuple[int, int], start: int | None, limit: int) -> tuple[int, int]:  # noqa: ARG002
        """As of any account."""
        first = 0 if start is None else int(np.searchsorted(self._keys, start))
        return first, min(limit, len(self._keys) - first)

    def messages(self, first: int, count: int) -> pa.RecordBatch:
        """As of any account."""
        keys = self._keys[first : first + count]
        return _messages(keys, np.full(len(keys), FIRST_ID_SEND, np.int64), FIRST_ID_MESSAGE)

    def failed(self, place: int) -> pa.Int64Array:  # noqa: ARG002
        """As of any account."""
        return cast("pa.Int64Array", pa.array(self._keys[::BOUNCED]))

    def key_sum(self, place: int) -> int:  # noqa: ARG002
        """As of any account."""
        return int(self._keys.sum())


_SEEN = {
    dataset.name: pa.schema([dataset.schema.field(name) for name in ("id_send", dataset.key, EXTRA, *more)])
    for dataset, more in ((MESSAGES, ("id_message", "message_date", "date_sent")), (BOUNCES, ()))
}
"""What a harvest looks at of a record on its way; all else it only hands on."""
_NO_KEYS: Integers = np.zeros(0, np.int64)
_NOTHING_EXTRA = pa.nulls(PAGE_CAP, pa.string())
_DATES = pa.repeat(pa.scalar(SENT_AT, pa.timestamp("us")), PAGE_CAP)


def _messages(keys: Integers, ids: Integers, campaign: int) -> pa.RecordBatch:
    """Records of messages; of which campaign is that of the first."""
    count = len(keys)
    columns: list[pa.Array[Any]] = [pa.array(ids), pa.array(keys), _NOTHING_EXTRA.slice(0, count)]
    columns += [pa.repeat(pa.scalar(campaign, pa.int64()), count), _DATES.slice(0, count), _DATES.slice(0, count)]
    return pa.RecordBatch.from_arrays(columns, schema=_SEEN[MESSAGES.name])


__all__ = ["BOUNCED", "FIRST_ID_MESSAGE", "FIRST_ID_SEND", "FIRST_KEY", "OneSend", "SimulatedAccount"]
