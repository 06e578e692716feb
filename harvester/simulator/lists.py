"""The lists of campaigns and of a campaign's sends: what they show, and the records that show it.

How many messages were delivered is not counted but told from the account's shares: whoever holds a list against the
records may rely on ``SEND_COUNT``, not on ``DELIVERED_COUNT``.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from datetime import date, timedelta
from typing import TYPE_CHECKING

import pyarrow as pa

from harvester.simulator import banks
from harvester.simulator.parts import Block, Choice, Field

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence

    from harvester.simulator.account import Account
    from harvester.simulator.parts import Part

MONTH = timedelta(days=31)
"""How far back the list of campaigns goes if no range is said."""
QUARTER = timedelta(days=92)
"""How far back the list of a campaign's sends goes if no range is said."""


@dataclass(frozen=True, slots=True)
class Days:
    """A range of days, both ends included."""

    since: date
    until: date

    @classmethod
    def said(cls, since: date | None, until: date | None, today: date, span: timedelta) -> Days:
        """The range that is meant: up to today if no end is said, and as long as ``span`` if no beginning is."""
        end = until or today
        return cls(since or end - min(span, end - date.min), end)


@dataclass(frozen=True, slots=True)
class Listed:
    """One row of a list: a campaign or a send.

    Attributes:
        id: its ``ID_MESSAGE`` or ``ID_SEND``.
        name: its name or subject, as a place in its bank.
        date_s: when it was sent last, in seconds since 1970.
        count: its ``SEND_COUNT``.
    """

    id: int
    name: int
    date_s: int
    count: int


def listed_sends(account: Account, id_message: int, days: Days, hidden: Collection[int]) -> tuple[Listed, ...]:
    """The sends of a campaign (of none if there is no such campaign) in a range, but for hidden ones."""
    return tuple(
        Listed(account.id_send(ordinal), ordinal % banks.NAMES, account.date_s(ordinal), account.count(ordinal))
        for ordinal in account.sent_between(account.campaign(id_message) or range(0), days.since, days.until)
        if account.id_send(ordinal) not in hidden
    )


def listed_campaigns(
    account: Account, days: Days, hidden: Collection[int], *, totals: bool = False
) -> tuple[Listed, ...]:
    """The campaigns with a send in a range that is not hidden.

    Their ``SEND_COUNT`` is that of their sends in the range; with ``totals``, of all their sends.
    """
    counts: Counter[int] = Counter()
    last: dict[int, int] = {}
    for ordinal in account.sent_between(range(len(account)), days.since, days.until):
        if account.id_send(ordinal) not in hidden:
            last[account.id_message(ordinal)] = ordinal
            counts[account.id_message(ordinal)] += account.count(ordinal)
    if totals:
        every = Days(date.min, date.max)
        for id_message in last:
            counts[id_message] = sum(send.count for send in listed_sends(account, id_message, every, hidden))
    return tuple(
        Listed(id_message, id_message % banks.NAMES, account.date_s(ordinal), counts[id_message])
        for id_message, ordinal in last.items()
    )


def sends_block(account: Account, sends: Sequence[Listed]) -> Block:
    """Records of a campaign's sends."""
    return Block(
        "ID_SEND",
        len(sends),
        (
            _numbers("ID_SEND", [send.id for send in sends]),
            Field("SUBJECT", (Choice(account.banks.subjects, _picks(sends)),)),
            _dates("DATE", sends),
            *_counts(account, sends),
        ),
    )


def campaigns_block(account: Account, campaigns: Sequence[Listed]) -> Block:
    """Records of campaigns."""
    return Block(
        "ID_MESSAGE",
        len(campaigns),
        (
            _numbers("ID_MESSAGE", [campaign.id for campaign in campaigns]),
            Field("NAME", (Choice(account.banks.campaigns, _picks(campaigns)),)),
            _dates("DATE_LAST", campaigns),
            *_counts(account, campaigns),
        ),
    )


def _counts(account: Account, listed: Sequence[Listed]) -> tuple[Part, ...]:
    spec = account.spec
    lost = spec.failed if account.settled else spec.failed + spec.waiting
    counts = [row.count for row in listed]
    return (_numbers("SEND_COUNT", counts), _numbers("DELIVERED_COUNT", [round(n * (1 - lost)) for n in counts]))


def _numbers(name: str, values: Sequence[int]) -> Field:
    return Field(name, (pa.array(map(str, values), pa.string()),))


def _dates(name: str, listed: Sequence[Listed]) -> Field:
    return Field(name, (pa.array([banks.date_text(row.date_s) for row in listed], pa.string()),))


def _picks(listed: Sequence[Listed]) -> pa.UInt64Array:
    return pa.array([row.name for row in listed], pa.uint64())


__all__ = ["MONTH", "QUARTER", "Days", "Listed", "campaigns_block", "listed_campaigns", "listed_sends", "sends_block"]
