"""Finding sends: from campaigns, or the whole account, and some days, to the list of sends that a harvest needs.

The order is: since when there is something to find; the lists of campaigns; the list of each campaign's sends in the
days in which it sent something. Newest first: those are the likeliest to name something, and give the rest its measure.

Invariant: what can't be proven is used and told of (``Found.doubts``), never dropped and never passed off as the truth.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from dataclasses import dataclass
from datetime import date, timedelta
from typing import TYPE_CHECKING

from harvester.api import discovery
from harvester.api.discovery import Campaign, Days
from harvester.errors import AccessRefused, Unauthorized
from harvester.events import log
from harvester.harvest.asking import Asker
from harvester.harvest.listing import CampaignList, Entry, SendListing
from harvester.harvest.outcome import Search
from harvester.harvest.questions import FirstRecord, Source, Witness
from harvester.model import Query, Send

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from harvester.api.client import Client
    from harvester.config import Settings
    from harvester.datasets import Dataset
    from harvester.harvest.listing import Listing
    from harvester.harvest.questions import Asking
    from harvester.harvest.wanted import Wanted
    from harvester.model import Proof

FIRST_DAY = date(2005, 1, 1)
"""Where to begin if the first records don't say when they were sent."""
MARGIN_DAYS = 31
"""So many days before the first record: keys need not be in order of time."""
_MOST_WITNESSES = 5
_UNHEARD = "it names nothing, and nothing that was asked shows that it would name something if there were any"
_NO_REPORTS = (
    "the account is let in, but not to the report functions that list its sends (the API says: Unauthorized). Name the "
    "sends with --sends-file FILE instead: one ID_send a line, or CSV with a header: id_send, and if you like "
    "id_message, rows, sent_at"
)


@dataclass(frozen=True, slots=True)
class Listed:
    """How one list went.

    Attributes:
        name: what was asked for, in words.
        entries: how many campaigns or sends it names.
        proof: why it is believed: ``count`` (the sends add up to the campaign's own ``SEND_COUNT``), ``agreed`` or
            ``empty``; None if it is not.
    """

    name: str
    entries: int
    proof: Proof | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """What was found.

    Attributes:
        sends: in order of id, each once.
        campaigns: the campaigns that they were looked for in; None for the whole account.
        since: the first day that was asked for.
        until: the last.
        doubts: which lists are not proven, and why; a sentence each.
        lists: how each list went.
        queries: queries asked, retries not counted.
        attempts: attempts at them.
        interrupted: whether it was told to stop before all was asked.
        always: whether they were looked for whenever they were sent, so that there are no others in those campaigns.
    """

    sends: tuple[Send, ...]
    campaigns: tuple[int, ...] | None
    since: date
    until: date
    doubts: tuple[str, ...]
    lists: tuple[Listed, ...]
    queries: int
    attempts: int
    interrupted: bool
    always: bool = False

    @property
    def proven(self) -> bool:
        """Whether every list is proven, so that there are no other sends, and what they say of sizes can be used."""
        return not self.doubts


class Finder:
    """Finds sends: ``await Finder(settings, wanted).find(client)``.

    Attributes:
        wanted: what is to be found.
        queries: queries asked so far, retries not counted.
    """

    def __init__(self, settings: Settings, wanted: Wanted) -> None:
        self.wanted = wanted
        self._settings = settings
        self._source = Source(settings)
        self._asker: Asker | None = None
        self._draining = False
        # Whether the API counts a range's last day in is not documented, and its days may begin before those of UTC.
        self._until = (wanted.until or settings.tuning.clock().date()) + timedelta(days=1)
        self._since = wanted.since or self._until
        self._campaign_lists: list[CampaignList] = []
        self._send_lists: list[SendListing] = []
        self._doubts: list[str] = []

    @property
    def queries(self) -> int:
        """Queries asked so far, retries not counted."""
        return self._asker.queries if self._asker else 0

    @property
    def trouble(self) -> tuple[float, str] | None:
        """The last failure, in one line, and when it was; None if there was none."""
        return self._asker.trouble if self._asker else None

    @property
    def search(self) -> Search:
        """How far it is."""
        lists = self._lists()
        sends = sum(len(one.entries) for one in _leaves(self._send_lists))
        return Search(sum(one.done for one in lists), len(lists), sends)

    def drain(self) -> None:
        """Finishes what is in flight and begins nothing; ``find`` then returns what it has."""
        self._draining = True
        if self._asker is not None:
            self._asker.drain()

    async def find(self, client: Client) -> Found:
        """Finds the sends.

        Raises:
            AccessRefused: the account or the address is refused, or the account may not call the report functions.
            ServerNotReached: there is no point in going on.
        """
        self._asker = asker = Asker(self._settings, client, self._source)
        if self._draining:
            asker.drain()
        before = client.attempts
        try:
            if self.wanted.campaigns:
                await self._find_in_campaigns(asker)
            else:
                await self._find_everywhere(asker)
        except Unauthorized as error:
            if self._lists() and await self._is_let_in(asker):
                raise Unauthorized(_NO_REPORTS) from None
            raise error from None
        return self._found(client.attempts - before)

    # --- the two ways to ask

    async def _find_everywhere(self, asker: Asker) -> None:
        if self.wanted.since is None:
            first = FirstRecord.of(None)
            await asker.ask([first])
            self._since = self._begin(first)
        days = Days(min(self._since, self._until), self._until)
        self._campaign_lists = [CampaignList.of(part) for part in reversed(discovery.parts(days))]
        await self._ask(asker, self._campaign_lists)
        self._send_lists = _lists_of_sends(_leaves(self._campaign_lists))
        await self._ask(asker, self._send_lists)

    async def _find_in_campaigns(self, asker: Asker) -> None:
        begin = dict.fromkeys(self.wanted.campaigns, self._since)
        if self.wanted.since is None:
            firsts = {id_message: FirstRecord.of(id_message) for id_message in begin}
            await asker.ask(firsts.values())
            begin = {id_message: self._begin(first) for id_message, first in firsts.items() if first.doubt is None}
            self._doubts += [first.doubt for first in firsts.values() if first.doubt is not None]
        self._since = min(begin.values(), default=self._until)
        for id_message, since in begin.items():
            days = discovery.parts(Days(min(since, self._until), self._until), discovery.JOINED_DAYS)
            self._send_lists += [SendListing.of(id_message, part) for part in reversed(days)]
        await self._ask(asker, self._send_lists)

    @staticmethod
    def _begin(first: FirstRecord) -> date:
        """The day to begin with. Never none: without one, the API tells of the last few weeks and is silent of it."""
        return FIRST_DAY if first.day is None else first.day - timedelta(days=MARGIN_DAYS)

    async def _ask(self, asker: Asker, lists: Iterable[Asking]) -> None:
        """Asks lists to their ends, with a witness where all that is left of them is silence."""
        silent = await asker.ask(lists)
        if silent and not asker.draining and await self._hear(asker, silent[0].query.dataset):
            for asking in silent:
                asking.hear(self._source)
            silent = await asker.ask(silent)
        if not asker.draining:
            for asking in silent:
                asking.give_up(_UNHEARD)

    async def _hear(self, asker: Asker, dataset: Dataset) -> bool:
        """Has a list function name something, where there is something: then silence elsewhere says something, too."""
        lists = [one for one in self._lists() if one.query.dataset is dataset]
        if named := next((one.query for one in lists if one.entries), None):
            return await self._speaks(asker, named)
        for id_message in list(dict.fromkeys(one.query.id_message for one in lists))[:_MOST_WITNESSES]:
            first = FirstRecord.of(id_message)
            await asker.ask([first])
            if first.day is not None:
                around = timedelta(days=discovery.PART_DAYS // 2)
                query = Query(dataset, id_message=id_message, since=first.day - around, until=first.day + around)
                if await self._speaks(asker, query):
                    return True
        return False

    async def _speaks(self, asker: Asker, query: Query) -> bool:
        witness = Witness(query=query)
        await asker.ask([witness])
        return witness.spoke

    async def _is_let_in(self, asker: Asker) -> bool:
        """Whether the account may ask raw.messages, whatever the report functions say."""
        if not self._source.answered:
            try:
                await asker.ask([FirstRecord.of(None)])
            except AccessRefused:
                return False
        return self._source.answered

    # --- what it comes to

    def _lists(self) -> list[Listing[Campaign] | Listing[Send]]:
        return [*_leaves(self._campaign_lists), *_leaves(self._send_lists)]

    def _found(self, attempts: int) -> Found:
        lists = self._lists()
        interrupted = self._draining and not (lists and all(one.done for one in lists))
        doubts = [*self._doubts, *(one.doubt for one in lists if one.doubt is not None)]
        if interrupted:
            doubts.append("stopped before all lists of sends were asked for and proven")
        found: dict[int, Send] = {}
        for one in _leaves(self._send_lists):
            for send in one.entries.values():
                known = found.get(send.id_send)
                found[send.id_send] = send if known is None else discovery.same(known, send)
        sends = tuple(found[id_send] for id_send in sorted(found) if self._is_wanted(found[id_send]))
        for doubt in doubts:
            log.warning("a list of sends is not proven", reason=doubt)
        proofs = Counter(one.proof.value for one in lists if one.proof)
        log.info("sends found", sends=len(sends), since=str(self._since), queries=self.queries, **proofs)
        return Found(
            sends=sends,
            campaigns=self.wanted.campaigns or None,
            since=self._since,
            until=self.wanted.until or self._until,
            doubts=tuple(doubts),
            lists=tuple(Listed(str(one.query), len(one.entries), one.proof) for one in lists),
            queries=self.queries,
            attempts=attempts,
            interrupted=interrupted,
            always=self.wanted.since is None and self.wanted.until is None,
        )

    def _is_wanted(self, send: Send) -> bool:
        """Whether a send was sent on the days that are wanted; one that does not say when is."""
        if send.sent_at is None:
            return True
        day, since, until = send.sent_at.date(), self.wanted.since, self.wanted.until
        return (since is None or since <= day) and (until is None or day <= until)


def _leaves(lists: Iterable[Listing[Entry]]) -> Iterator[Listing[Entry]]:
    """The lists that were asked in the end: some were too big to serve, and asked in parts."""
    return (leaf for one in lists for leaf in one.leaves)


def _lists_of_sends(named: Iterable[Listing[Campaign]]) -> list[SendListing]:
    """The lists of sends to ask for: each campaign's, over the days in which it was named; newest first."""
    days_of: dict[int, dict[Days, int | None]] = defaultdict(dict)
    for one in named:
        for campaign in one.entries.values():
            days_of[campaign.id_message][one.days] = campaign.count
    lists = [
        SendListing.of(
            id_message, Days(group[0].since, group[-1].until), discovery.total([counts[part] for part in group])
        )
        for id_message, counts in days_of.items()
        for group in discovery.joined(counts)
    ]
    return sorted(lists, key=lambda one: (one.days.until, one.id_message), reverse=True)


__all__ = ["FIRST_DAY", "MARGIN_DAYS", "Finder", "Found", "Listed"]
