"""Lists of campaigns and of sends: which days to ask for, and what an answer says. Plain functions, no I/O.

Nouns: *days* are the range that one query of a list covers; a long range is asked in *parts*.

Invariant: no day is lost between two parts. Whether the API counts a range's last day in is not documented, so each
part begins with the last day of the one before, and a send that two lists name is one. Refuses a list with an entry
that has no usable id: what can't be named can't be harvested, and would be missing in silence.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import date, datetime, timedelta
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import msgspec

from harvester.datasets import EXTRA
from harvester.errors import OutOfOrder
from harvester.model import KEY_END, Send

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from harvester.model import Page

PART_DAYS = 92
"""The most days that one list of campaigns is asked for: a quarter of a year."""
JOINED_DAYS = 366
"""The most days that one list of a campaign's sends is asked for: a year."""

_ONE_DAY = timedelta(days=1)
_DATES_OF_RECORDS = ("message_date", "date_sent")
_EARLIEST = datetime(2000, 1, 1)  # noqa: DTZ001  the API's dates have no zone; an earlier one is a mistake


@dataclass(frozen=True, slots=True, order=True)
class Days:
    """A range of days, first and last included."""

    since: date
    until: date

    def __len__(self) -> int:
        return (self.until - self.since).days + 1

    def halves(self) -> tuple[Days, Days] | None:
        """The range in two parts, which share a day; None if it is too short for that."""
        if len(self) < 3:  # noqa: PLR2004  two days share no day with a part that is shorter than they are
            return None
        middle = self.since + (self.until - self.since) // 2
        return Days(self.since, middle), Days(middle, self.until)


@dataclass(frozen=True, slots=True)
class Campaign:
    """An entry of a list of campaigns.

    Attributes:
        id_message: the API's ``ID_message``.
        name: as it was sent; None where it was not.
        count: its number of messages in the list's range (``SEND_COUNT``), where the list says a number.
    """

    id_message: int
    name: str | None
    count: int | None


def parts(days: Days, most: int = PART_DAYS) -> tuple[Days, ...]:
    """The range in parts of about the same length and at most ``most`` days, in order of time.

    Each part begins with the last day of the one before.
    """
    steps = (days.until - days.since).days
    number = max(1, -(-steps // (most - 1)))
    edges = [days.since + timedelta(days=steps * n // number) for n in range(number + 1)]
    return tuple(Days(first, last) for first, last in pairwise(edges))


def joined(some: Iterable[Days], most: int = JOINED_DAYS) -> list[list[Days]]:
    """Parts that adjoin, grouped so that each group covers at most ``most`` days (or is a single part)."""
    groups: list[list[Days]] = []
    for part in sorted(some):
        last = groups[-1] if groups else []
        if last and part.since <= last[-1].until + _ONE_DAY and len(Days(last[0].since, part.until)) <= most:
            last.append(part)
        else:
            groups.append([part])
    return groups


def campaigns(page: Page) -> dict[int, Campaign]:
    """The campaigns that a list names, by id, in its order.

    A ``SEND_COUNT`` that is no number, or that differs where a campaign is named twice, is None.

    Raises:
        OutOfOrder: an entry has no usable ``ID_message``.
    """
    found: dict[int, Campaign] = {}
    for row in _rows(page):
        one = Campaign(row["id_message"], row["name"], _count(row))
        known = found.setdefault(one.id_message, one)
        if known.count != one.count:
            found[one.id_message] = Campaign(one.id_message, known.name, None)
    return found


def sends(page: Page) -> dict[int, Send]:
    """The sends that a list names, by id, in its order; of the campaign that was asked for.

    A ``SEND_COUNT`` that is no number is None, and so is a ``DATE`` that is no date. What differs where a send is named
    twice is None, too.

    Raises:
        OutOfOrder: an entry has no usable ``ID_send``.
    """
    found: dict[int, Send] = {}
    for row in _rows(page):
        one = Send(row["id_send"], page.query.id_message, _date(row), _count(row))
        known = found.get(one.id_send)
        found[one.id_send] = one if known is None else same(known, one)
    return found


def same(one: Send, other: Send) -> Send:
    """What two entries for the same send say together: where both say something, and not the same, nothing."""
    return Send(
        one.id_send,
        id_message=_agreed(one.id_message, other.id_message),
        sent_at=_agreed(one.sent_at, other.sent_at),
        expected=_agreed(one.expected, other.expected),
    )


def first_day(page: Page) -> date | None:
    """The earliest day that records of ``raw.messages`` say they were made or sent on; None if none says so."""
    found = [
        value
        for name in _DATES_OF_RECORDS
        for value in page.batch.column(name).to_pylist()
        if value is not None and value >= _EARLIEST
    ]
    return min(found).date() if found else None


def origin(page: Page) -> tuple[int, date] | None:
    """The campaign and the day of the first record of ``raw.messages``; None if it doesn't say both."""
    first = replace(page, batch=page.batch.slice(0, 1))
    id_message, day = first.batch.column("id_message").to_pylist(), first_day(first)
    return (id_message[0], day) if id_message and id_message[0] is not None and day is not None else None


def total(counts: Sequence[int | None]) -> int | None:
    """The counts added up; None if one is not known."""
    return None if None in counts else sum(count for count in counts if count is not None)


def _rows(page: Page) -> list[dict[str, Any]]:
    """The records of a list, the values that did not type under ``_extra``, by lower-case name."""
    key = page.query.dataset.key
    rows = page.batch.to_pylist()
    for row in rows:
        extra = row[EXTRA]
        row[EXTRA] = {} if extra is None else {name.lower(): it for name, it in msgspec.json.decode(extra).items()}
        if row[key] is None or not 0 < row[key] < KEY_END:
            raise OutOfOrder(f"{page.query}: an entry has no usable {key}")
    return rows


def _count(row: dict[str, Any]) -> int | None:
    count: int | None = row["send_count"]
    return count if count is not None and count >= 0 else None


def _date(row: dict[str, Any]) -> datetime | None:
    """``DATE``, also where it is a day without a time, which is no date to a column of the lake."""
    sent_at: datetime | None = row["date"]
    if sent_at is None:
        try:
            sent_at = datetime.fromisoformat(str(row[EXTRA].get("date")).strip())
        except ValueError:
            return None
    return sent_at if sent_at.tzinfo is None and sent_at >= _EARLIEST else None


def _agreed(one: Any, other: Any) -> Any:  # noqa: ANN401  of any type, twice the same
    if one is None or other is None:
        return other if one is None else one
    return one if one == other else None


__all__ = [
    "JOINED_DAYS",
    "PART_DAYS",
    "Campaign",
    "Days",
    "campaigns",
    "first_day",
    "joined",
    "origin",
    "parts",
    "same",
    "sends",
    "total",
]
