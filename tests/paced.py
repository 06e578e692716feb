"""A harvest's pace in simulated time: an event loop of a few lines, servers with moods, and nothing that sleeps."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass, field
from heapq import heappop, heappush

from harvester.api.bucket import Bucket
from harvester.api.pace import Pace, Sent
from harvester.model import Borne


@dataclass(frozen=True, slots=True)
class Reply:
    """What a server makes of an attempt.

    Attributes:
        seconds: how long it takes to say so.
        status: 200, 429 or 503.
        retry_after_s: what goes with a refusal.
    """

    seconds: float
    status: int = 200
    retry_after_s: float | None = None


Latency = Callable[[], float]


def jittered(low_s: float, high_s: float, seed: int = 1) -> Latency:
    """Latencies between the two, as likely as each other."""
    dice = random.Random(seed)
    return lambda: dice.uniform(low_s, high_s)


@dataclass(slots=True)
class Server:
    """Bears so much, and says so.

    Attributes:
        latency: of an answer.
        rate: attempts a second that are let in; None for any number. May be changed at any time.
        burst: how many of them at once.
        most: attempts that may be under way at a time; None for any number.
        workers: attempts that are worked on at a time; the others stand in line. None for all.
        status: of a refusal.
        retry_after_s: what goes with it.
        chance: the part of attempts that are refused for no reason.
    """

    latency: Latency
    rate: float | None = None
    burst: int = 1
    most: int | None = None
    workers: int | None = None
    status: int = 429
    retry_after_s: float | None = 1.0
    chance: float = 0.0
    _permits: float = 0.0
    _at: float = -1e9
    _until: list[float] = field(default_factory=list)
    _dice: random.Random = field(default_factory=lambda: random.Random(3))

    def asked(self, now: float) -> Reply:
        """Takes an attempt."""
        no = Reply(0.001, self.status, self.retry_after_s)
        self._until = sorted(until for until in self._until if until > now)
        if self.chance and self._dice.random() < self.chance:
            return no
        if self.rate is not None:
            self._permits = min(self.burst, self._permits + (now - self._at) * self.rate)
            self._at = now
            if self._permits < 1 - 1e-9:
                return no
            self._permits -= 1
        if self.most is not None and len(self._until) >= self.most:
            return no
        begins = now
        if self.workers is not None and len(self._until) >= self.workers:
            begins = self._until[-self.workers]
        self._until.append(begins + self.latency())
        return Reply(self._until[-1] - now)


@dataclass(slots=True)
class Run:
    """One run against one server: as many attempts as may go, as soon as they may.

    Attributes:
        pace: what is tried.
        server: what is asked.
        burst: of the run.
        sent: when attempts left, in seconds.
        refused: when refusals came.
        answers: when answers came.
        pauses: from when until when there were pauses.
    """

    pace: Pace
    server: Server
    burst: int = 1
    now: float = 0.0
    sent: list[float] = field(default_factory=list)
    refused: list[float] = field(default_factory=list)
    answers: list[float] = field(default_factory=list)
    pauses: list[tuple[float, float]] = field(default_factory=list)
    _in_flight: int = 0
    _paused_until: float = 0.0
    _bucket: Bucket | None = None
    _coming: list[tuple[float, int, Sent, Reply]] = field(default_factory=list)

    def until(self, seconds: float, work: float = float("inf")) -> Run:
        """Goes on until a time, or until so many answers have come."""
        bucket = self._bucket = self._bucket or Bucket(self.pace.rate, self.burst)
        while self.now < seconds and len(self.answers) < work:
            bucket.change_rate(self.pace.rate, self.now)
            due = max(bucket.ready_at, self._paused_until) if self._in_flight < self.pace.concurrency else float("inf")
            comes = self._coming[0][0] if self._coming else float("inf")
            self.now = max(self.now, min(due, comes))
            if comes <= due:
                self._come()
            else:
                bucket.take(self.now)
                self._leave()
        return self

    def _leave(self) -> None:
        self._in_flight += 1
        self.sent.append(self.now)
        sent, reply = self.pace.sent("page", self.now), self.server.asked(self.now)
        heappush(self._coming, (self.now + reply.seconds, len(self.sent), sent, reply))

    def _come(self) -> None:
        _, _, sent, reply = heappop(self._coming)
        self._in_flight -= 1
        if reply.status == 200:
            self.answers.append(self.now)
            self.pace.answered(sent, self.now)
            return
        self.refused.append(self.now)
        if reply.status == 503 and reply.retry_after_s is None:
            self.pace.turned_away(sent, self.now)
            return
        pause_s = self.pace.throttled(sent, self.now, reply.retry_after_s)
        self.pauses.append((self.now, self.now + pause_s))
        self._paused_until = max(self._paused_until, self.now + pause_s)
        assert self._bucket is not None
        self._bucket.fill(self._paused_until)


def run_of(
    server: Server,
    rate: float,
    concurrency: int,
    *,
    burst: int = 1,
    adaptive: bool = True,
    borne: Borne | None = None,
) -> Run:
    """A run of these settings against a server."""
    pace = Pace(rate, concurrency, adaptive=adaptive, borne=borne, backoff_s=1.0, backoff_cap_s=60.0)
    return Run(pace, server, burst)


__all__ = ["Latency", "Reply", "Run", "Server", "jittered", "run_of"]
