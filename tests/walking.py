"""A send walked in memory and in simulated time: the real decisions and the real taking, and a source made of keys.

Nothing is waited for and nothing is sent. What is taken is committed a few pages later, and a kill loses what is not.
"""

from __future__ import annotations

import heapq
from bisect import bisect_left
from collections import deque
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import dataclass, field
from random import Random
from typing import Any, TypeVar

import pyarrow as pa

from harvester.config import Settings
from harvester.datasets import MESSAGES
from harvester.errors import AttemptFailed, ServerFailed
from harvester.harvest import ending, parts, plan, retrying, taking, walks
from harvester.harvest.lineup import Lineup
from harvester.harvest.plan import Ask, Confirm, Finished, Split, State, Wait
from harvester.harvest.walks import Walk
from harvester.lake.staging import Taken
from harvester.model import KeyRange, Page, Proof, Query
from tests.harvesting import settings_for_nothing

ID_SEND = 601
Result = TypeVar("Result")
Answer = Callable[[Query, list[int]], list[int]]
"""What a source makes of an answer: of the keys that are right, those that it serves. It may raise AttemptFailed."""


def honest(_: Query, keys: list[int]) -> list[int]:
    return keys


@dataclass(slots=True)
class Source:
    """A send's keys, ascending, and how they are served."""

    keys: Sequence[int]
    answer: Answer = honest
    inclusive: bool = True
    asked: list[Query] = field(default_factory=list)

    def serve(self, query: Query) -> list[int]:
        self.asked.append(query)
        assert query.limit is not None
        start = (query.start or 0) + (not self.inclusive)
        first = bisect_left(self.keys, start)
        return self.answer(query, list(self.keys[first : first + query.limit]))


@dataclass(slots=True)
class Committed:
    """What a lake would hold."""

    rows: list[int] = field(default_factory=list)
    key_ranges: tuple[KeyRange, ...] = ()
    proof: Proof | None = None
    gone: set[int] = field(default_factory=set)
    discarded: int = 0

    def take(self, page: Taken) -> None:
        if page.discards is not None:
            start, stop = page.discards
            self.discarded += 1
            self.rows = [key for key in self.rows if not start <= key < stop]
        if page.rows is not None:
            self.rows += page.rows.column(MESSAGES.key).to_numpy().tolist()
        if page.key_ranges or page.key_range:
            self.key_ranges = page.key_ranges or (page.key_range,)  # type: ignore[assignment]
        self.gone |= set(page.erased)
        self.proof = page.proof


@dataclass(slots=True)
class Walking:
    """One harvest of one send, perhaps killed and begun again. Times are in simulated seconds."""

    source: Source
    expected: int | None = None
    limit: int = 50
    concurrency: int = 12
    rate: float = 1000.0
    latency_s: Callable[[], float] = lambda: 1.0
    lag: int = 0
    committed: Committed = field(default_factory=Committed)
    now: float = 0.0
    splits: int = 0
    confirmations: int = 0
    most_parts: int = 1
    _permit_at: float = 0.0

    def run(self, until_asked: int | None = None) -> bool:
        """Walks until the send is complete, or so many queries have been asked in all; whether it is complete."""
        state, lead = self._begin()
        under_way: list[tuple[float, int, Walk, Query]] = []
        on_their_way: deque[Taken] = deque()
        dice = Random(5)
        while self.committed.proof is None:
            if until_asked is not None and len(self.source.asked) >= until_asked:
                return False
            state.in_flight = len(under_way)
            decision = plan.choose(state, self.now)
            permit = isinstance(decision, Ask | Split | Confirm)
            if permit and self._permit_at <= self.now:
                walk = plan.asked(decision)
                assert walk is not None
                self.splits += isinstance(decision, Split)
                self.confirmations += isinstance(decision, Confirm)
                self._permit_at = max(self._permit_at + 1 / self.rate, self.now)
                parts.trim(walk)
                walk.busy = True
                state.busy += 1
                self.most_parts = max(self.most_parts, len(lead.parts))
                due = (self.now + self.latency_s(), len(self.source.asked), walk, walk.query())
                heapq.heappush(under_way, due)
                self.source.asked.append(walk.query())
                continue
            assert not isinstance(decision, Finished)
            times = [self._permit_at] if permit else []
            times += [decision.until] if isinstance(decision, Wait) and decision.until is not None else []
            if under_way and under_way[0][0] <= min(times, default=under_way[0][0]):
                self.now, _, walk, query = heapq.heappop(under_way)
                walk.busy = False
                state.busy -= 1
                self._answered(state, walk, query, on_their_way, dice)
                self._commit(lead, on_their_way)
            else:
                assert times, "nothing is under way, and nothing can be asked"
                self.now = max(self.now, min(times))
        return True

    def _commit(self, lead: Walk, on_their_way: deque[Taken]) -> None:  # noqa: ARG002  other walks need it
        while len(on_their_way) > self.lag or (on_their_way and on_their_way[-1].proof):
            self.committed.take(on_their_way.popleft())

    def _begin(self) -> tuple[State, Walk]:
        here, *further = self.committed.key_ranges or (KeyRange(limit=self.limit),)
        lead = Walk(
            1,
            MESSAGES,
            ID_SEND,
            expected=self.expected,
            rows=len(self.committed.rows),
            key_range=here,
            full_limit=self.limit,
        )
        parts.resumed(lead, further)
        return (
            State(
                walks=Lineup({1: lead}),
                witness=walks.witness_walk(),
                concurrency=self.concurrency,
                share=1 << 30,
                body_bytes=1000,
                window=256,
                apart_s=0.01,
                alone=False,
                fed=True,
                splits=True,
                rate=self.rate,
                answer_s=self.latency_s(),
            ),
            lead,
        )

    def _answered(self, state: State, walk: Walk, query: Query, on_their_way: deque[Taken], dice: Random) -> None:
        if not ending.is_awaited(walk):
            return
        try:
            keys = self.source.serve(query)
            self.source.asked.pop()
            taken = self._taken(state, walk, query, keys)
        except AttemptFailed as error:
            if isinstance(error, ServerFailed):
                self.source.asked.pop()
            ending.note_failure(walk)
            retrying.note_failure(walk, error, self.now, SETTINGS, dice)
            return
        if taken is not None:
            walk.of_slice.done = taken.proof is not None
            on_their_way.append(taken)

    def _taken(self, state: State, walk: Walk, query: Query, keys: list[int]) -> Taken | None:
        """Takes an answer of these keys."""
        return at_once(taking.take(state, walk, Page(query, batch(keys), 1), _no_failures))


SETTINGS: Settings = settings_for_nothing()


def _no_failures(_: int) -> None:
    return None


def at_once(coroutine: Coroutine[Any, Any, Result]) -> Result:
    """What a coroutine returns that does not wait for anything."""
    try:
        coroutine.send(None)
    except StopIteration as ended:
        return ended.value  # type: ignore[no-any-return]
    raise AssertionError("it waits")


def batch(keys: Sequence[int]) -> pa.RecordBatch:
    """Messages with these keys, and nothing else."""
    nothing = [pa.nulls(len(keys), one.type) for one in MESSAGES.schema]
    rows = pa.RecordBatch.from_arrays(nothing, schema=MESSAGES.schema)
    for name, values in ((MESSAGES.key, keys), ("id_send", [ID_SEND] * len(keys))):
        place = MESSAGES.schema.get_field_index(name)
        rows = rows.set_column(place, MESSAGES.schema.field(place), pa.array(values, pa.int64()))
    return rows
