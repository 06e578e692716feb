"""What an account holds, as a recipe: frozen data from which every record follows, without holding any of them.

Nouns: *sends* (which, and how many rows each), *account spec* (those, the shape of answers, and the seed).
A record is a function of (seed, send, index) alone, so a spec of a billion rows is as small as one of ten.
"""

from __future__ import annotations

import random
from dataclasses import dataclass, field
from datetime import date, datetime, timedelta
from typing import TYPE_CHECKING

from harvester.errors import UsageError
from harvester.model import KEY_END
from harvester.simulator.shape import Case, Nothing, Numbers, Shape, XmlTypes

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

FIRST_ID_SEND = 601_181
"""The first send's id where ids are not listed (the vendor's own example)."""
FIRST_KEY = 723_043_606
"""The first key of an ordinary account (next to the vendor's own example)."""
AWKWARD_FIRST_KEY = 2**53 + 1_000_001
"""The first key of an awkward account: odd and beyond 2^53, so that a reader that goes through a float is found out."""
BETWEEN_SENDS = 16
"""Keys that belong to nobody between the blocks of two sends: a cursor may well name one of them."""
FIRST_DATE = datetime.fromisoformat("2016-06-20 14:37:47")
"""When the first send went out, if nothing else is said (the vendor's own example)."""
_STEP_S = 25_201
"""The time from one send to the next, if nothing else is said: seven hours, and less where sends are many."""
_SPAN_S = 8 * 365 * 86_400
"""The longest time from the first send to the last, if nothing else is said."""
LOG_STRIDE = 8
"""Keys of log entries that belong to one key of a message; no message has as many entries in any one log."""
LARGEST_STRIDE = 2**31
"""The largest mean distance between keys: offsets within a stride are drawn from 32 bits."""


@dataclass(frozen=True, slots=True)
class Sends:
    """The sends of an account, in the order of their keys.

    Attributes:
        ids: each send's ``ID_send``; no id twice.
        rows: each send's number of messages, as long as ``ids``.
    """

    ids: Sequence[int]
    rows: Sequence[int]

    def __post_init__(self) -> None:
        if len(self.ids) != len(self.rows):
            raise UsageError(f"{len(self.ids)} sends can't have {len(self.rows)} row counts")
        if any(rows < 0 for rows in self.rows):
            raise UsageError("a send can't have fewer than no rows")
        if any(id_send <= 0 for id_send in self.ids) or len(set(self.ids)) != len(self.ids):
            raise UsageError("ids of sends are positive, and each stands once")


def equal(count: int, rows: int) -> Sends:
    """``count`` sends of ``rows`` messages each."""
    return Sends(range(FIRST_ID_SEND, FIRST_ID_SEND + count), (rows,) * count)


def listed(rows: Mapping[int, int]) -> Sends:
    """The sends given, ``ID_send`` → number of messages, in the mapping's order."""
    return Sends(tuple(rows), tuple(rows.values()))


def skewed(count: int, rows: int) -> Sends:
    """``count`` sends of ``rows`` messages together: the k-th largest has about 1/k of the largest's share (Zipf).

    The sizes stand in a fixed random order, so that the largest send is not always the first.
    """
    if count < 1:
        return Sends((), ())
    total = sum(1 / k for k in range(1, count + 1))
    sizes = [int(rows / (k * total)) for k in range(1, count + 1)]
    sizes[0] += rows - sum(sizes)
    random.Random(count).shuffle(sizes)  # noqa: S311 - a reproducible order, not a secret
    return Sends(range(FIRST_ID_SEND, FIRST_ID_SEND + count), tuple(sizes))


@dataclass(frozen=True, slots=True, kw_only=True)
class AccountSpec:
    """An account, as a recipe. Raises UsageError if a value can't be meant.

    Attributes:
        seed: every record follows from it; two specs that are equal serve the same bytes.
        sends: which sends, and how many messages each; see ``equal``, ``listed`` and ``skewed``.
        gap: the mean distance between neighbouring keys of a send: 1 is dense, more is irregular.
        first_key: the account's lowest possible key; None for a large one, beyond 2^53 in an awkward account.
        room: keys, in rows, that each send's block has left for messages that come later; see ``Account.grow``.
        sends_per_campaign: neighbouring sends that share an ``ID_message``.
        first_date: when the first send went out, without a zone.
        days_between: the time from one send to the next, in days; None for seven hours, or less where sends are many.
        today: the day up to which lists go that are asked for without a range; None for the day after the last send.
        failed: the share of messages that bounced, from 0 to 1.
        waiting: the share of messages that wait for delivery until the account settles, from 0 to 1.
        opened: the share of delivered messages that carry ``s_*`` fields, from 0 to 1.
        opened_later: the share of delivered messages that carry them only once the account settles, from 0 to 1.
        awkward: text that breaks careless readers: ``},{``, quotes, newlines, emoji, zero dates, ids beyond 2^53.
        foul: some values hold what is not text: bytes that are not UTF-8, NUL, halves of surrogate pairs. See ``foul``.
        shape: how answers look.
        client_id: the client id that is let in.
        client_md5: the MD5 code that is let in.
    """

    seed: int = 0
    sends: Sends = field(default_factory=lambda: equal(1, 1000))
    gap: int = 1
    first_key: int | None = None
    room: int = 0
    sends_per_campaign: int = 4
    first_date: datetime = FIRST_DATE
    days_between: float | None = None
    today: date | None = None
    failed: float = 0.03
    waiting: float = 0.0
    opened: float = 0.33
    opened_later: float = 0.0
    awkward: bool = False
    foul: bool = False
    shape: Shape = field(default_factory=Shape)
    client_id: str = "12345"
    client_md5: str = field(default="0123456789abcdef0123456789abcdef", repr=False)

    def __post_init__(self) -> None:
        checks = [
            (1 <= self.gap <= LARGEST_STRIDE, f"the gap between keys goes from 1 to {LARGEST_STRIDE}, not {self.gap}"),
            (self.sends_per_campaign >= 1, "a campaign has at least one send"),
            (self.room >= 0, "the room for later messages is not negative"),
            (self.first_date.tzinfo is None, "dates have no zone"),
            (self._dated, "the sends' dates must lie between the years 1970 and 9999, one after the other"),
            (
                self.opened >= 0 and self.opened_later >= 0 and self.opened + self.opened_later <= 1,
                "the shares of messages opened at once and later are not negative, and at most 1 together",
            ),
            (
                self.failed >= 0 and self.waiting >= 0 and self.failed + self.waiting <= 1,
                "the shares of failed and waiting messages are not negative, and at most 1 together",
            ),
            (self.lowest_key > 0, "keys are positive"),
            (
                self.lowest_key + self._span_of_keys * LOG_STRIDE < KEY_END,
                "the last keys would not fit into 63 bits; choose a smaller gap or a lower first key",
            ),
        ]
        for holds, message in checks:
            if not holds:
                raise UsageError(message)

    @property
    def lowest_key(self) -> int:
        """No key is lower; the first send's block begins here."""
        if self.first_key is not None:
            return self.first_key
        return AWKWARD_FIRST_KEY if self.awkward else FIRST_KEY

    @property
    def step_s(self) -> int:
        """The time from one send to the next, in seconds."""
        if self.days_between is not None:
            return round(self.days_between * 86_400)
        return min(_STEP_S, _SPAN_S // max(1, len(self.sends.ids)))

    @property
    def last_date(self) -> datetime:
        """When the last send went out; the first one's date where there are none."""
        return self.first_date + timedelta(seconds=self.step_s * max(0, len(self.sends.ids) - 1))

    @property
    def _dated(self) -> bool:
        try:
            return self.step_s >= 0 and self.first_date.year >= 1970 and self.last_date.year <= 9998  # noqa: PLR2004
        except (OverflowError, ValueError):
            return False

    @property
    def _span_of_keys(self) -> int:
        """The distance from the lowest key to one that is above all."""
        sends = self.sends
        return (sum(sends.rows) + len(sends.ids) * self.room) * self.gap + len(sends.ids) * BETWEEN_SENDS


__all__ = [
    "AWKWARD_FIRST_KEY",
    "BETWEEN_SENDS",
    "FIRST_DATE",
    "FIRST_ID_SEND",
    "FIRST_KEY",
    "LOG_STRIDE",
    "AccountSpec",
    "Case",
    "Nothing",
    "Numbers",
    "Sends",
    "Shape",
    "XmlTypes",
    "equal",
    "listed",
    "skewed",
]
