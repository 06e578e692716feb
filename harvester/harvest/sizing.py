"""How many messages a send has that was named without a number: the list of its campaign's sends says so.

Where nobody knows how much is left of a send, a permit that nobody can use would read where perhaps nothing is. So it
asks that list first, once more than a page has come, whose first record says which campaign to ask for, and about when.
The number is then used as one that the user gives: to foresee, and for the proof ``count``. Where the list can't be
had, or doesn't say it, the harvest goes on without.

Times are in seconds on the scheduler's clock.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import timedelta
from typing import TYPE_CHECKING

from harvester.api import discovery
from harvester.datasets import SENDS
from harvester.errors import SliceRefused, Unauthorized
from harvester.events import log
from harvester.harvest import parts
from harvester.harvest.retrying import backoff_s
from harvester.model import Query

if TYPE_CHECKING:
    from harvester.config import Tuning
    from harvester.errors import HarvesterError
    from harvester.harvest.walks import Walk
    from harvester.model import Page

_AROUND = timedelta(days=discovery.PART_DAYS // 2)
"""A send's ``DATE`` is no further than this from the day of its first record."""
_ASKINGS = 3
"""So often a list is asked for that fails, or names nothing: so does a failure look."""
_LOOKING = 0.5
_MOST_LOOKING = 6
"""While it is asked for, so many of the permits, and so many of them at most, read where perhaps nothing is."""


def wants_origin(lead: Walk) -> bool:
    """Whether a slice's size may have to be asked for: messages of a send, harvested for the first time."""
    new = lead.dataset.counted and lead.scope is None and lead.refresh is None and not lead.reopened
    return new and lead.expected is None and lead.origin is None


@dataclass(slots=True)
class Sizes:
    """What lists of sends said, that were asked for in mid-harvest.

    Attributes:
        known: how many messages sends have, by ``ID_send``.
        under_way: campaigns whose lists are being asked for.
        barred: whether the account may not ask for those lists.
    """

    known: dict[int, int] = field(default_factory=dict)
    under_way: set[int] = field(default_factory=set)
    barred: bool = False
    _askings: dict[int, int] = field(default_factory=dict)
    _ready_at: dict[int, float] = field(default_factory=dict)

    def wanted(self, lead: Walk, now: float) -> Query | None:
        """What to ask so that a slice's size may be known; None if it is, or there is nothing to ask, or no use."""
        if self.barred or lead.expected is not None or lead.origin is None or lead.done:
            return None
        id_message, day = lead.origin
        if id_message in self.under_way or self._askings.get(id_message, 0) >= _ASKINGS:
            return None
        if now < self._ready_at.get(id_message, now) or parts.seems_to_end(parts.of(lead)[-1]):
            return None
        return Query(SENDS, id_message=id_message, since=day - _AROUND, until=day + _AROUND)

    def expected(self, lead: Walk, permits: float) -> int | None:
        """How many messages to take a send to have: those that it has, where that is known.

        While the list is asked for, as many more as may be looked for by so many permits; None else.
        """
        if lead.expected is not None or lead.origin is None or lead.origin[0] not in self.under_way:
            return lead.expected
        return lead.rows + int((1 + min(_LOOKING * permits, _MOST_LOOKING)) * lead.longest)

    def learned(self, lead: Walk) -> int | None:
        """A slice's size, where it is known by now and was not before."""
        unknown = lead.expected is None and lead.origin is not None and not lead.done
        return self.known.get(lead.id_send or 0) if unknown else None

    def begin(self, query: Query) -> None:
        """A list is asked for."""
        assert query.id_message is not None
        self.under_way.add(query.id_message)

    def end(self, query: Query) -> None:
        """A list was asked for; see ``take`` and ``fail`` for what became of that."""
        assert query.id_message is not None
        self.under_way.discard(query.id_message)

    def take(self, page: Page, now: float, tuning: Tuning) -> None:
        """Takes a list. One that names nothing looks like a failure. Raises OutOfOrder if it is no such list."""
        sends, id_message = discovery.sends(page), page.query.id_message
        assert id_message is not None
        if not sends:
            self._fail(page.query, "the list names nothing", now, tuning)
            return
        self._askings[id_message] = _ASKINGS
        known = {id_send: send.expected for id_send, send in sends.items() if send.expected}
        self.known |= known
        log.info("asked how many messages sends have", query=str(page.query), sends=len(sends), known=len(known))

    def fail(self, query: Query, error: HarvesterError | TimeoutError, now: float, tuning: Tuning) -> None:
        """A list could not be had. It may be asked for again, at once the first time, if that may help."""
        if isinstance(error, Unauthorized):
            self.barred = True
            log.info("the account may not ask for lists of sends: their numbers of messages are not known")
            return
        self._fail(query, str(error) or "no answer came within a few times of what others take", now, tuning)
        if isinstance(error, SliceRefused) and query.id_message is not None:
            self._askings[query.id_message] = _ASKINGS

    def _fail(self, query: Query, reason: str, now: float, tuning: Tuning) -> None:
        assert query.id_message is not None
        askings = self._askings[query.id_message] = self._askings.get(query.id_message, 0) + 1
        self._ready_at[query.id_message] = now if askings == 1 else now + backoff_s(askings - 1, tuning)
        log.info("how many messages a campaign's sends have is not known", query=str(query), reason=reason)


__all__ = ["Sizes", "wants_origin"]
