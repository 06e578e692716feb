"""Which sends are walked together: by send, by campaign, or all of the account in one, by the queries that it costs.

One walk over a scope brings the rows of every send in it, wanted or not. So it is chosen only where all of those are
known: a scope that may hold more than what is known of it, or a send of unknown size, is never guessed at. Only sends
that nothing was asked of yet go together; others count as what is brought along.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from harvester.config import Scope
from harvester.harvest.paging import pages

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

    from harvester.harvest.finding import Found

_FEW = 4
"""Sends that average less than this part of a page are walked together,"""
_WORTH = 2
"""if that takes less than this part of the queries: one walk has one cursor, and many have one each."""


@dataclass(slots=True)
class Sums:
    """What is known of the sends of one campaign, or of all.

    Attributes:
        wanted: sends that are wanted, and that nothing was asked of yet.
        rows: the messages that those have.
        queries: what it takes to ask those one by one.
        others: messages of the other sends that are known.
        unsized: whether any send does not say how many messages it has.
    """

    wanted: int = 0
    rows: int = 0
    queries: int = 0
    others: int = 0
    unsized: bool = False

    def add(self, size: int | None, limit: int, *, wanted: bool) -> None:
        """One send more, of so many messages; None if that is not known."""
        self.unsized |= size is None
        if wanted:
            self.wanted += 1
            self.rows += size or 0
            self.queries += pages(size or 0, limit)
        else:
            self.others += size or 0

    def __add__(self, more: Sums) -> Sums:
        """Both together."""
        return Sums(
            self.wanted + more.wanted,
            self.rows + more.rows,
            self.queries + more.queries,
            self.others + more.others,
            self.unsized or more.unsized,
        )

    def together(self, limit: int) -> int:
        """How many queries one walk over all of them takes."""
        return pages(self.rows + self.others, limit)

    def is_worth_it(self, limit: int) -> bool:
        """Whether one walk over all of them takes far fewer queries than one each."""
        few = _FEW * self.rows < limit * self.wanted
        return few and not self.unsized and _WORTH * self.together(limit) <= self.queries


@dataclass(frozen=True, slots=True)
class Known:
    """Of which scopes all sends are known: those of the account, or of some campaigns."""

    account: bool = False
    campaigns: Collection[int] = ()

    def holds(self, id_message: int) -> bool:
        """Whether all sends of a campaign are known."""
        return self.account or id_message in self.campaigns


@dataclass(frozen=True, slots=True)
class Chosen:
    """What is walked as one: the account, or these campaigns. All other sends are walked one by one."""

    account: bool = False
    campaigns: frozenset[int] = field(default_factory=frozenset)

    def queries(self, campaigns: Mapping[int | None, Sums], limit: int) -> int:
        """How many queries it takes to bring all that is wanted of these campaigns."""
        if self.account:
            return _all(campaigns).together(limit)
        return sum(
            sums.together(limit) if id_message in self.campaigns else sums.queries
            for id_message, sums in campaigns.items()
        )


def known_by(found: Found | None) -> Known:
    """Of which scopes all sends are known, by how finding them went; None where they were named."""
    if found is None or not found.always or not found.proven:
        return Known()
    return Known(account=found.campaigns is None, campaigns=frozenset(found.campaigns or ()))


class Weighing:
    """Adds up what is known of sends, campaign by campaign, and chooses."""

    def __init__(self, limit: int) -> None:
        """``limit`` is how many records a query asks for."""
        self.campaigns: defaultdict[int | None, Sums] = defaultdict(Sums)
        self._limit = limit

    def add(self, id_message: int | None, size: int | None, *, wanted: bool) -> None:
        """One send more: its campaign and size, where known; ``wanted`` if it is, and nothing was asked of it yet."""
        self.campaigns[id_message].add(size, self._limit, wanted=wanted)

    def choose(self, scope: Scope, known: Known) -> Chosen:
        """What is walked as one."""
        return choose(scope, self.campaigns, self._limit, known)


def choose(scope: Scope, campaigns: Mapping[int | None, Sums], limit: int, known: Known) -> Chosen:
    """Chooses what is walked as one.

    Args:
        scope: what was asked for; ``AUTO`` for what takes fewest queries.
        campaigns: what is known of the sends of each campaign, and, by None, of those whose campaign is not known.
        limit: records to ask for in one query.
        known: of which scopes no more sends can come up than those.
    """
    wanted = {id_message: sums for id_message, sums in campaigns.items() if sums.wanted and id_message is not None}
    match scope:
        case Scope.SEND:
            return Chosen()
        case Scope.CAMPAIGN:
            return Chosen(campaigns=frozenset(wanted))
        case Scope.ACCOUNT:
            return Chosen(account=any(sums.wanted for sums in campaigns.values()))
        case Scope.AUTO:
            worth = {one for one, sums in wanted.items() if known.holds(one) and sums.is_worth_it(limit)}
            by_campaign = Chosen(campaigns=frozenset(worth))
            together = _all(campaigns)
            if known.account and together.is_worth_it(limit):
                account = Chosen(account=True)
                if account.queries(campaigns, limit) < by_campaign.queries(campaigns, limit):
                    return account
            return by_campaign


def _all(campaigns: Mapping[int | None, Sums]) -> Sums:
    return sum(campaigns.values(), Sums())


__all__ = ["Chosen", "Known", "Sums", "Weighing", "choose", "known_by"]
