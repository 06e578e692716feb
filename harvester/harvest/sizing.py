"""How many messages a send has that was named without a number: the list of its campaign's sends says so.

Where nobody knows how much is left of a send, a permit that nobody can use would read where perhaps nothing is. So it
asks that list first, once a full page has come, whose first record says which campaign to ask for, and about when. The
number is then used as one that the user gives: to foresee, and for the proof ``count``. Where the list can't be had, or
doesn't name the send, the harvest goes on without.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import timedelta
from typing import TYPE_CHECKING

from harvester.api import discovery
from harvester.datasets import SENDS
from harvester.model import Query

if TYPE_CHECKING:
    from harvester.harvest.lineup import Lineup
    from harvester.harvest.walks import Walk
    from harvester.model import Page

_AROUND = timedelta(days=discovery.PART_DAYS // 2)
"""A send's ``DATE`` is no further than this from the day of its first record."""
_LOOKING = 0.5
_ASKINGS = 3
"""So often a list is asked for that fails, or names nothing: so does a failure look."""


def wants_origin(lead: Walk) -> bool:
    """Whether a slice's size may have to be asked for: messages of a send, harvested for the first time."""
    new = lead.dataset.counted and lead.scope is None and lead.refresh is None and not lead.reopened
    return new and lead.expected is None and lead.origin is None


@dataclass(slots=True)
class Sizes:
    """What lists of sends said, that were asked for in mid-harvest.

    Attributes:
        known: how many messages sends have, by ``ID_send``.
        barred: whether the account may not ask for those lists.
    """

    known: dict[int, int] = field(default_factory=dict)
    barred: bool = False
    _under_way: set[int] = field(default_factory=set)
    _askings: dict[int, int] = field(default_factory=dict)

    @property
    def under_way(self) -> int:
        """How many lists are being asked for."""
        return len(self._under_way)

    def wanted(self, lead: Walk) -> Query | None:
        """What to ask so that a slice's size may be known; None if it is, or there is nothing to ask."""
        if self.barred or lead.expected is not None or lead.origin is None or lead.done:
            return None
        id_message, day = lead.origin
        if id_message in self._under_way or self._askings.get(id_message, 0) >= _ASKINGS:
            return None
        return Query(SENDS, id_message=id_message, since=day - _AROUND, until=day + _AROUND)

    def expected(self, lead: Walk, permits: float) -> int | None:
        """How many messages to take a send to have, for so many permits: those that it has, where that is known.

        While the list is asked for, half of the permits may read where perhaps nothing is.
        """
        if lead.expected is not None or lead.origin is None or lead.origin[0] not in self._under_way:
            return lead.expected
        return lead.rows + int((1 + _LOOKING * permits) * lead.key_range.limit)

    def begin(self, query: Query) -> None:
        """A list is asked for."""
        assert query.id_message is not None
        self._under_way.add(query.id_message)

    def take(self, page: Page) -> None:
        """Takes a list. One that names nothing looks like a failure. Raises OutOfOrder if it is no such list."""
        assert page.query.id_message is not None
        sends = discovery.sends(page)
        if sends:
            self._askings[page.query.id_message] = _ASKINGS
        self.known |= {id_send: send.expected for id_send, send in sends.items() if send.expected}

    def end(self, query: Query) -> None:
        """Its answer was taken, or it failed."""
        assert query.id_message is not None
        self._under_way.discard(query.id_message)
        self._askings[query.id_message] = self._askings.get(query.id_message, 0) + 1

    def learned(self, walks: Lineup) -> list[tuple[Walk, int]]:
        """The walks whose size is known by now, and was not before; and that."""
        found = ((walk, self.known.get(walk.id_send or 0)) for walk in walks.values() if walk.origin is not None)
        return [(walk, expected) for walk, expected in found if walk.expected is None and expected is not None]


__all__ = ["Sizes", "wants_origin"]
