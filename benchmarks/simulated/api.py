"""The API in simulated time: what stands below the real client in a socket's place, and what reads its answers.

It answers as the simulated server does (``harvester.simulator.behaviour`` says how: latency, rate, faults), but for the
bytes: an answer says its size, which counts against the memory budget and takes its time on the link, and which records
it holds; nobody makes or decodes their text.
"""

from __future__ import annotations

import asyncio
import struct
from array import array
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import msgspec

from benchmarks.simulated.account import FIRST_ID_SEND
from benchmarks.simulated.link import Link
from harvester.api.records import RawTable, Words
from harvester.api.transport import Answer, ConnectedLate
from harvester.api.wires import JsonSpeaker
from harvester.datasets import BOUNCES, MESSAGES, PAGE_CAP, SENDS
from harvester.errors import Cut
from harvester.simulator.behaviour import Behaviour, Chance, Fault, RateLimit

if TYPE_CHECKING:
    from collections.abc import Callable

    import pyarrow as pa

    from benchmarks.simulated.account import SimulatedAccount
    from harvester.api.transport import Transport
    from harvester.budget import Hold
    from harvester.config import Settings
    from harvester.datasets import Dataset
    from harvester.model import Query

RECORD_BYTES = 1000
"""What a record takes in an answer's body."""
PACKED_RECORD_BYTES = 125
"""What it takes on the wire."""
_EMPTY_BYTES = 25
_FAULTS = frozenset({Fault.FAILED, Fault.RESET, Fault.EMPTY, Fault.SHORT})
_HEAD = struct.Struct("<2sqqq")  # gzip's magic; place of the send, or -1; number of the first record; how many
_SIZE = struct.Struct("<I")  # how gzip says the size of the body


def packed_bytes(rows: int) -> int:
    """What an answer of so many records takes on the wire."""
    return _EMPTY_BYTES + rows * PACKED_RECORD_BYTES


@dataclass(slots=True)
class Asked:
    """What the API has seen.

    Attributes:
        at: when each attempt came, in seconds, ascending.
        refused: attempts that were refused: too many a second, or too many at once.
        in_pause: attempts that came while a pause went on that it had asked for.
        in_flight: attempts under way.
        most_in_flight: the most of them at a time.
        lost: attempts that a kill cut off before their answers were there.
        sent_bytes: bytes of all answers.
        last_at: when the last answer was sent.
    """

    at: array[float]
    refused: int = 0
    in_pause: int = 0
    in_flight: int = 0
    most_in_flight: int = 0
    lost: int = 0
    sent_bytes: int = 0
    last_at: float = 0.0


class SimulatedApi:
    """Serves an account. What ``Client`` takes for its transport.

    Attributes:
        asked: what it has seen.
    """

    def __init__(self, account: SimulatedAccount, behaviour: Behaviour, *, bytes_per_s: float | None = None) -> None:
        if unknown := set(behaviour.faults) - _FAULTS:
            raise ValueError(f"there are no such faults in simulated time: {', '.join(sorted(unknown))}")
        self.asked = Asked(array("d"))
        self._account = account
        self._behaviour = behaviour
        self._chance = Chance(behaviour)
        self._link = Link(bytes_per_s) if bytes_per_s else None
        self._limit = RateLimit(behaviour.rate, behaviour.burst, 0.0) if behaviour.rate else None
        self._paused_until = 0.0

    async def post(
        self,
        path: str,
        payload: bytes,
        content_type: str = "application/json",
        hold: Hold | None = None,
        leave: Callable[[], bool] | None = None,
    ) -> Answer:
        """As ``Transport.post``. There always is a connection."""
        if leave is not None and not leave():
            raise ConnectedLate
        assert (path, content_type) == (JsonSpeaker.path, JsonSpeaker.content_type)
        asked, now = self.asked, asyncio.get_running_loop().time()
        asked.at.append(now)
        asked.in_pause += now < self._paused_until
        asked.in_flight += 1
        asked.most_in_flight = max(asked.most_in_flight, asked.in_flight)
        try:
            return await self._answer(msgspec.json.decode(payload), hold, now)
        except asyncio.CancelledError:
            asked.lost += 1
            raise
        finally:
            asked.in_flight -= 1
            asked.last_at = asyncio.get_running_loop().time()

    async def _answer(self, call: dict[str, Any], hold: Hold | None, now: float) -> Answer:
        behaviour = self._behaviour
        wait_s = self._limit.wait_s(now) if self._limit else 0.0
        if wait_s:
            return self._refuse(429, max(wait_s, behaviour.retry_after_s or 0.0), now)
        if behaviour.most_in_flight is not None and self.asked.in_flight > behaviour.most_in_flight:
            return self._refuse(behaviour.busy_status, behaviour.retry_after_s, now)
        fault = self._chance.fault()
        await asyncio.sleep(self._chance.latency_s())
        parameters = call["parameters"]
        id_send = _number(parameters, "ID_send")
        if fault is Fault.FAILED or id_send in behaviour.fail_sends:
            return _status(500)
        place, first, rows = self._part(call["function"], parameters, id_send)
        if fault is Fault.EMPTY:
            rows = 0
        elif fault is Fault.SHORT:
            rows = min(rows, 1 + int(rows * self._chance.share()))
        size = packed_bytes(rows)
        if hold is not None:
            await hold.grow(size)
        if self._link is not None:
            await self._link.transfer(size)
        if fault is Fault.RESET:
            raise Cut("the connection ended before the answer was whole")
        self.asked.sent_bytes += size
        head = _HEAD.pack(b"\x1f\x8b", place, first, rows) + _SIZE.pack(rows * RECORD_BYTES + 2)
        return Answer(200, "application/json", "gzip", None, (head,), size)

    def _part(self, function: str, parameters: dict[str, str], id_send: int | None) -> tuple[int, int, int]:
        if function == BOUNCES.function:
            assert id_send is not None
            place = id_send - FIRST_ID_SEND
            return place, 0, self._account.bounces(place).num_rows
        scope = self._account.scope(id_send, _number(parameters, "ID_message"))
        if function == SENDS.function:
            return scope[0], 0, scope[1] - scope[0]
        assert function == MESSAGES.function
        limit = min(_number(parameters, "limit") or PAGE_CAP, self._behaviour.page_cap)
        first, rows = self._account.part(scope, _number(parameters, "ID_send_message"), limit)
        return -1, first, rows

    def _refuse(self, status: int, retry_after_s: float | None, now: float) -> Answer:
        self.asked.refused += 1
        if retry_after_s is not None:
            self._paused_until = max(self._paused_until, now + retry_after_s)
        return _status(status, retry_after_s)


def _number(parameters: dict[str, str], name: str) -> int | None:
    return int(parameters[name]) if name in parameters else None


def _status(status: int, retry_after_s: float | None = None) -> Answer:
    retry_after = None if retry_after_s is None else f"{retry_after_s:.9f}"
    return Answer(status, "text/plain", "", retry_after, (b"no",), 2)


@dataclass(frozen=True, slots=True)
class _Part(RawTable):
    """Records that an answer holds, by where they are in the account."""

    place: int = -1
    first: int = 0


class SimulatedSpeaker(JsonSpeaker):
    """Asks as JSON does, and reads what ``SimulatedApi`` answers."""

    def __init__(self, settings: Settings, account: SimulatedAccount) -> None:
        super().__init__(settings)
        self._account = account

    def read(self, dataset: Dataset, answer: Answer, cap: int) -> RawTable | Words:  # noqa: ARG002
        """As ``Speaker.read``."""
        if answer.status != 200:
            return Words("Error")
        _, place, first, rows = _HEAD.unpack_from(answer.chunks[0])
        return _Part(rows, (), {}, place=place, first=first)

    def typed(self, decoded: RawTable, query: Query) -> pa.RecordBatch:
        """As ``Speaker.typed``."""
        assert isinstance(decoded, _Part)
        if query.dataset is SENDS:
            return self._account.listed(decoded.place, decoded.rows)
        if decoded.place < 0 or not decoded.rows:
            return (
                self._account.messages(decoded.first, decoded.rows)
                if query.dataset is MESSAGES
                else (self._account.bounces(0).slice(0, 0))
            )
        return self._account.bounces(decoded.place)


def as_transport(api: SimulatedApi) -> Transport:
    """The API where the client wants its transport: it asks it for nothing else."""
    return api  # type: ignore[return-value]


__all__ = [
    "PACKED_RECORD_BYTES",
    "RECORD_BYTES",
    "Asked",
    "SimulatedApi",
    "SimulatedSpeaker",
    "as_transport",
    "packed_bytes",
]
