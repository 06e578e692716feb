"""What the server has seen so far. Counted where requests arrive and leave; nothing here changes what is served."""

from __future__ import annotations

from collections import Counter, deque
from dataclasses import dataclass, field

ARRIVALS_KEPT = 100_000


@dataclass(slots=True)
class Stats:
    """Counts since the server began, or since they were reset.

    Attributes:
        requests: calls of the API, refused ones included.
        functions: calls by function; those of no function that exists under ``""``.
        sends: queries for messages by the ``ID_send`` that they name.
        starts: queries that name a start, ``ID_send_message``.
        in_flight: calls under way now.
        max_in_flight: the most calls that were under way at once.
        arrivals_s: when calls arrived, by the steady clock, in seconds; the newest ``ARRIVALS_KEPT``.
        faults: faults served, by kind.
        throttled: calls refused because of the rate.
        busy: calls refused because too many were under way.
        messages: messages served in whole answers.
        body_bytes: bytes of bodies, as sent (compressed or not).
        vanished: records erased because a page that ended with them was served.
        again: full pages of a send's messages that had been served whole before, from the same start.
    """

    requests: int = 0
    functions: Counter[str] = field(default_factory=Counter)
    sends: Counter[int] = field(default_factory=Counter)
    starts: int = 0
    in_flight: int = 0
    max_in_flight: int = 0
    arrivals_s: deque[float] = field(default_factory=lambda: deque(maxlen=ARRIVALS_KEPT))
    faults: Counter[str] = field(default_factory=Counter)
    throttled: int = 0
    busy: int = 0
    messages: int = 0
    body_bytes: int = 0
    vanished: int = 0
    again: int = 0
    _full_pages: set[tuple[int, int | None]] = field(default_factory=set)

    def entered(self) -> None:
        """A call is under way."""
        self.in_flight += 1
        self.max_in_flight = max(self.max_in_flight, self.in_flight)

    def left(self) -> None:
        """A call is no longer under way."""
        self.in_flight -= 1

    def served_full(self, id_send: int, start: int | None) -> None:
        """A page of a send's messages with as many as were asked for was served whole."""
        self.again += (id_send, start) in self._full_pages
        self._full_pages.add((id_send, start))

    def as_json(self) -> dict[str, object]:
        """All of it, as ``GET /stats`` sends it."""
        return {
            "requests": self.requests,
            "functions": dict(self.functions),
            "sends": {str(id_send): count for id_send, count in self.sends.items()},
            "starts": self.starts,
            "in_flight": self.in_flight,
            "max_in_flight": self.max_in_flight,
            "arrivals_s": list(self.arrivals_s),
            "faults": dict(self.faults),
            "throttled": self.throttled,
            "busy": self.busy,
            "messages": self.messages,
            "body_bytes": self.body_bytes,
            "vanished": self.vanished,
            "again": self.again,
        }


__all__ = ["ARRIVALS_KEPT", "Stats"]
