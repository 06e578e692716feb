"""Lists of campaigns and sends: what askings of one list prove. Plain state, changed synchronously; nothing here asks.

Invariant ("no silent end", for lists): a list is believed only if its sends add up to its campaign's own
``SEND_COUNT``, or if askings in a row, apart in time, agree on all that any asking of it has named. A list that names
nothing has to do so again after the same function has named something. What any asking named is never taken back.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Generic, TypeVar

from harvester.api import discovery
from harvester.api.discovery import Campaign, Days
from harvester.datasets import CAMPAIGNS, SENDS
from harvester.errors import Unproven
from harvester.harvest.questions import Asking
from harvester.harvest.trust import ASKINGS
from harvester.model import Proof, Query, Send

if TYPE_CHECKING:
    from harvester.harvest.questions import Source
    from harvester.model import Page

Entry = TypeVar("Entry", Campaign, Send)
_ASKINGS_OF_ODD = 5
"""So many askings of sends that don't add up, where others do, must have brought nothing new."""


@dataclass(slots=True, kw_only=True)
class Listing(Asking, Generic[Entry]):
    """A list, and what askings of it have named.

    Attributes:
        days: the days that it covers.
        entries: all that any asking named, by id; the latest asking's word for each.
        proof: why it is believed; None while it is not.
        parts: the lists that are asked instead of it, since it is too big to serve.
    """

    days: Days
    entries: dict[int, Entry] = field(default_factory=dict)
    proof: Proof | None = None
    parts: tuple[Listing[Entry], ...] = ()
    _agreeing: int = 0
    _since_grown: int = 0
    _empty_answers: int = 0
    _empty_since: float | None = None
    _contradictions: int = 0
    _contradicted_at: float | None = None

    def read(self, page: Page) -> dict[int, Entry]:
        """The entries of an answer."""
        raise NotImplementedError

    def adds_up(self, entries: dict[int, Entry]) -> bool:  # noqa: ARG002  a list of campaigns has nothing to add up to
        """Whether an answer is known to be the whole truth by what it says itself."""
        return False

    def askings_needed(self, source: Source) -> int:  # noqa: ARG002  likewise
        """How many askings must have brought nothing new, from a source that was not caught."""
        return ASKINGS

    def check_may_be_empty(self) -> None:
        """Raises Unproven if it is known that the list is not empty."""
        if self.entries:
            raise Unproven(f"an empty list, where another asking named {len(self.entries)}")

    def take(self, page: Page, now: float, source: Source) -> None:
        """Takes an answer. Raises PageRefused if it can't be one."""
        entries = self.read(page)
        if entries:
            source.named_at[self.query.dataset.name] = now
            source.trust.note_page(len(entries))
        if self.adds_up(entries):
            self.entries |= entries
            source.added_up += bool(entries)
            self._prove(Proof.COUNT)
        elif entries:
            self._compare(entries, now, source)
        else:
            self._take_empty(now, source)

    def _take_empty(self, now: float, source: Source) -> None:
        try:
            self.check_may_be_empty()
        except Unproven:
            source.trust.false_empties += 1
            self._agreeing = 0
            raise
        self._empty_answers += 1
        if self._empty_since is None:
            self._empty_since = now
        self.hear(source)
        if not self.silent and self._empty_answers >= max(ASKINGS, source.trust.empties_needed):
            self._prove(Proof.EMPTY)
        self.ready_at = now + source.apart_s

    def hear(self, source: Source) -> None:
        """Whether the function has named nothing since this list was empty first."""
        named_at = source.named_at.get(self.query.dataset.name)
        self.silent = self._empty_since is not None and (named_at is None or named_at <= self._empty_since)

    def _compare(self, entries: dict[int, Entry], now: float, source: Source) -> None:
        source.trust.false_empties += self._empty_answers
        self._empty_answers, self._empty_since, self.silent = 0, None, False
        grown = not entries.keys() <= self.entries.keys()
        if not self.entries or entries.keys() == self.entries.keys():
            self._agreeing += 1
        else:
            source.trust.false_ends += 1
            self._contradictions += 1
            self._agreeing = int(entries.keys() >= self.entries.keys())
            self._contradicted_at = now if self._contradicted_at is None else self._contradicted_at
        self.entries |= entries
        # From a source that was caught, so many askings that all of them lacked the same entry is next to impossible.
        self._since_grown = 1 if grown else self._since_grown + 1
        needed = max(self.askings_needed(source), source.trust.ends_needed)
        if self._agreeing >= ASKINGS and self._since_grown >= needed:
            self._prove(Proof.AGREED)
            return
        if self._contradicted_at is not None and now - self._contradicted_at >= source.settings.patience_s:
            self.give_up("askings of this list don't agree; what any of them named is taken")
        longest_s = max(source.apart_s, source.settings.tuning.backoff_cap_s)
        self.ready_at = now + min(source.apart_s * 2.0 ** min(self._contradictions, 30), longest_s)

    def _prove(self, proof: Proof) -> None:
        self.proof = proof
        self.done = True

    @property
    def leaves(self) -> tuple[Listing[Entry], ...]:
        """The lists that were asked: this one, or its parts and theirs."""
        return tuple(leaf for part in self.parts for leaf in part.leaves) if self.parts else (self,)


@dataclass(slots=True, kw_only=True)
class CampaignList(Listing[Campaign]):
    """The campaigns that sent something in some days."""

    @classmethod
    def of(cls, days: Days) -> CampaignList:
        """Of the account."""
        return cls(query=Query(CAMPAIGNS, since=days.since, until=days.until), days=days)

    def read(self, page: Page) -> dict[int, Campaign]:
        """The campaigns of an answer."""
        return discovery.campaigns(page)

    def halves(self) -> tuple[Asking, ...]:
        """The same days in two parts."""
        self.parts = tuple(map(CampaignList.of, self.days.halves() or ()))
        return self.parts


@dataclass(slots=True, kw_only=True)
class SendListing(Listing[Send]):
    """A campaign's sends in some days.

    Attributes:
        id_message: the campaign.
        count: the campaign's own ``SEND_COUNT`` for those days, where known.
    """

    id_message: int
    count: int | None = None

    @classmethod
    def of(cls, id_message: int, days: Days, count: int | None = None) -> SendListing:
        """Of a campaign that has so many messages in these days, if that is known."""
        query = Query(SENDS, id_message=id_message, since=days.since, until=days.until)
        return cls(query=query, days=days, id_message=id_message, count=count)

    def read(self, page: Page) -> dict[int, Send]:
        """The sends of an answer."""
        return discovery.sends(page)

    def adds_up(self, entries: dict[int, Send]) -> bool:
        """Whether the sends have as many messages together as their campaign."""
        return self.count is not None and discovery.total([send.expected for send in entries.values()]) == self.count

    def askings_needed(self, source: Source) -> int:
        """More, where the sends should have added up: those of other campaigns did."""
        return _ASKINGS_OF_ODD if self.count is not None and source.added_up else ASKINGS

    def check_may_be_empty(self) -> None:
        """Raises Unproven if another asking named a send, or the campaign has messages."""
        Listing.check_may_be_empty(self)
        if self.count:
            raise Unproven(f"an empty list, where the campaign has {self.count} messages")

    def halves(self) -> tuple[Asking, ...]:
        """The same days in two parts, of which it is not known how many messages each has."""
        self.parts = tuple(SendListing.of(self.id_message, days) for days in self.days.halves() or ())
        return self.parts


__all__ = ["CampaignList", "Entry", "Listing", "SendListing"]
