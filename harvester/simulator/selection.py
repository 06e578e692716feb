"""Which records answer a query: chosen at once, and put together block by block when the body is made."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from harvester.datasets import BOUNCES, CAMPAIGNS, MESSAGES, SENDS
from harvester.simulator import lists, logs, records
from harvester.simulator.records import BLOCK_ROWS, shortened

if TYPE_CHECKING:
    from collections.abc import Iterator

    from harvester.simulator.account import Account, Run
    from harvester.simulator.behaviour import Behaviour
    from harvester.simulator.lists import Listed
    from harvester.simulator.parts import Block
    from harvester.simulator.query import Asked


@dataclass(frozen=True, slots=True)
class Selection:
    """The records that answer a query.

    Attributes:
        account: whose they are.
        asked: the query.
        limit: the most of them that are sent, where the function pages.
        start: the lowest key that is sent; None for any.
        stop: all keys that are sent are lower, in a log; None for any.
        runs: the messages, if they are what is asked for.
        listed: the rows of the list, if it is one that is asked for.
    """

    account: Account
    asked: Asked
    limit: int
    start: int | None
    stop: int | None = None
    runs: tuple[Run, ...] = ()
    listed: tuple[Listed, ...] = ()

    def blocks(self, share: float | None = None) -> Iterator[Block]:
        """The records, put together; with ``share``, only that share of the first ones."""
        dataset = self.asked.dataset
        if dataset is MESSAGES:
            count = shortened(sum(run.count for run in self.runs), share)
            return (records.messages(self.account, some) for some in records.blocks(self.runs, most=count))
        if dataset is BOUNCES:
            return (block for ordinal in self.asked.ordinals for block in records.bounces(self.account, ordinal, share))
        if dataset is CAMPAIGNS or dataset is SENDS:
            return self._list(share)
        entries = logs.entries(
            self.account, dataset, self.asked.ordinals, start=self.start, stop=self.stop, limit=self.limit
        )
        return logs.blocks(self.account, dataset, entries.slice(0, shortened(len(entries), share)))

    def _list(self, share: float | None) -> Iterator[Block]:
        rows = self.listed[: shortened(len(self.listed), share)]
        block = lists.sends_block if self.asked.dataset is SENDS else lists.campaigns_block
        return (block(self.account, rows[first : first + BLOCK_ROWS]) for first in range(0, len(rows), BLOCK_ROWS))


def select(account: Account, asked: Asked, behaviour: Behaviour, *, lacking: bool = False) -> Selection:
    """The records that answer a query as the account stands; a list that is ``lacking`` has lost its last row."""
    limit = min(asked.limit, behaviour.page_cap)
    start = asked.start
    if start is not None and not behaviour.inclusive:
        start += 1
    stop = None
    if asked.message is not None:
        start = max(account.log_key(asked.message, 0), start or 0)
        stop = account.log_key(asked.message + 1, 0)
    runs: tuple[Run, ...] = ()
    listed: tuple[Listed, ...] = ()
    if asked.dataset is MESSAGES:
        runs = account.runs(asked.ordinals, start, limit)
    elif asked.days is not None:
        hidden = behaviour.hidden_sends
        if asked.id_message is None:
            listed = lists.listed_campaigns(account, asked.days, hidden, totals=behaviour.total_counts)
        else:
            listed = lists.listed_sends(account, asked.id_message, asked.days, hidden)
        listed = listed[:-1] if lacking else listed
    return Selection(account, asked, limit, start, stop, runs, listed)


__all__ = ["Selection", "select"]
