"""How the server behaves: how slow it is, what it refuses, and what goes wrong. Frozen options and the state they need.

Chance is seeded: the n-th request that is let in meets the same fault and the same latency in every run.
"""

from __future__ import annotations

import math
import random
from collections import deque
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import TYPE_CHECKING

from harvester.datasets import PAGE_CAP
from harvester.errors import UsageError
from harvester.simulator.faults import Fault

if TYPE_CHECKING:
    from collections.abc import Mapping


NO_FAULTS: Mapping[Fault, float] = MappingProxyType({})


@dataclass(frozen=True, slots=True, kw_only=True)
class Behaviour:
    """How the server behaves. Raises UsageError if a value can't be meant.

    Attributes:
        page_cap: the most records in one answer, whatever the limit asked for.
        inclusive: whether the record that the cursor names comes back with the answer.
        latency_s: the least and the most time that an answer takes before it begins, in seconds.
        rate: requests a second that are let in; None for any number. Above it: 429, with ``Retry-After``.
        burst: requests that are let in at once after a silence, where there is a rate.
        most_in_flight: requests that may be under way at a time; None for any number.
        workers: requests that are worked on at a time, where latency is the work; the others stand in line, so that
            latency grows with their number. None for all.
        busy_status: the status of the answer to one too many of them.
        gzip: bodies of 1 KiB and more are compressed for clients that accept it.
        faults: the probability of each kind of fault; each request meets one at most. Together 1 at most.
        script: what the first requests that are let in meet, one after the other, before chance takes over.
        fault_seed: of the faults and of the latency's jitter.
        retry_after_s: the ``Retry-After`` that goes with statuses as faults or for being busy; None for none.
        fail_sends: ``ID_send`` of sends that always answer 500.
        vanish: the probability that a page's last record is erased once the page is served.
        disallowed: no address is allowed: every call is refused with ``Disallowed IP``.
        no_reports: the account may not call the functions that list campaigns and sends: ``Unauthorized``.
        unsteady_lists: the probability that a list of campaigns or sends lacks its last entry.
        total_counts: a campaign's ``SEND_COUNT`` is that of all its sends, not of those in the range asked for.
        hidden_sends: ``ID_send`` of sends that no list shows.
    """

    page_cap: int = PAGE_CAP
    inclusive: bool = True
    latency_s: tuple[float, float] = (0.0, 0.0)
    rate: float | None = None
    burst: int = 1
    most_in_flight: int | None = None
    workers: int | None = None
    busy_status: int = 503
    gzip: bool = True
    faults: Mapping[Fault, float] = field(default_factory=lambda: NO_FAULTS)
    script: tuple[Fault | None, ...] = ()
    fault_seed: int = 0
    retry_after_s: float | None = None
    fail_sends: frozenset[int] = frozenset()
    vanish: float = 0.0
    disallowed: bool = False
    no_reports: bool = False
    unsteady_lists: float = 0.0
    total_counts: bool = False
    hidden_sends: frozenset[int] = frozenset()

    def __post_init__(self) -> None:
        low, high = self.latency_s
        checks = [
            (self.page_cap >= 1, "a page holds at least one record"),
            (0 <= low <= high, "the latency goes from a least to a most time, neither negative"),
            (self.rate is None or self.rate > 0, "the rate is more than 0"),
            (self.burst >= 1, "the burst is at least 1"),
            (self.most_in_flight is None or self.most_in_flight >= 1, "at least one request may be in flight"),
            (self.workers is None or self.workers >= 1, "at least one request is worked on"),
            (min(self.faults.values(), default=0) >= 0, "probabilities of faults are not negative"),
            (math.fsum(self.faults.values()) <= 1, "the probabilities of all faults are at most 1 together"),
            (0 <= self.vanish <= 1, "the probability of vanishing goes from 0 to 1"),
            (0 <= self.unsteady_lists <= 1, "the probability that a list lacks an entry goes from 0 to 1"),
        ]
        for holds, message in checks:
            if not holds:
                raise UsageError(message)


class Chance:
    """Draws what each request meets, from a generator of its own."""

    def __init__(self, behaviour: Behaviour) -> None:
        self._random = random.Random(behaviour.fault_seed)  # noqa: S311 - reproducible faults, not secrets
        self._faults = tuple(sorted((Fault(kind), share) for kind, share in behaviour.faults.items()))
        self._script = deque(behaviour.script)
        self._latency_s = behaviour.latency_s
        # A generator of its own: how many lists are asked for makes no difference to what else goes wrong.
        self._lists = random.Random(behaviour.fault_seed)  # noqa: S311 - likewise
        self._unsteady = behaviour.unsteady_lists

    def fault(self) -> Fault | None:
        """The fault that the next request meets, if any."""
        if self._script:
            return self._script.popleft()
        drawn = self._random.random()
        for fault, probability in self._faults:
            if drawn < probability:
                return fault
            drawn -= probability
        return None

    def latency_s(self) -> float:
        """How long the next answer takes to begin, in seconds."""
        low, high = self._latency_s
        return low if low == high else self._random.uniform(low, high)

    def lacking(self) -> bool:
        """Whether the next list lacks its last entry."""
        return self._lists.random() < self._unsteady

    def share(self) -> float:
        """How much is left of something that is cut short, from 0 to 1."""
        return self._random.random()


class RateLimit:
    """A bucket of permits that fills at a rate. Time is given to it, in seconds by any steady clock."""

    def __init__(self, rate: float, burst: int, now_s: float) -> None:
        self._rate = rate
        self._burst = burst
        self._permits = float(burst)
        self._at_s = now_s

    def wait_s(self, now_s: float) -> float:
        """0 if a request is let in now, which takes a permit; else the time until the next would be."""
        self._permits = min(self._burst, self._permits + (now_s - self._at_s) * self._rate)
        self._at_s = now_s
        if self._permits >= 1:
            self._permits -= 1
            return 0.0
        return (1 - self._permits) / self._rate


__all__ = ["NO_FAULTS", "Behaviour", "Chance", "Fault", "RateLimit"]
