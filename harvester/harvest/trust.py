"""How much an answer is worth that says "nothing more" or "nothing at all", by what this run has seen of the source.

Two such answers prove an end (DESIGN), as long as there is reason to believe the source. Once it has said "nothing
more" where there was more, so many are asked for that all of them being wrong is less likely than one in a million; for
the end of many sends at once so many from the start. And a source that says "nothing at all", or brings one record and
"nothing more", before it has answered much is asked a few times more.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

ASKINGS = 2
"""So many answers that agree prove an end, from a source that is believed."""
_MOST_ASKINGS = 20
_DOUBT_AFTER_LIES = 1e-6
_DOUBT = 1e-3


@dataclass(slots=True)
class Trust:
    """What this run has seen of the source.

    Attributes:
        answers: answers that held records.
        false_ends: pages that ended early though there was more, and though larger pages are served; lists that
            another asking contradicted.
        false_empties: answers without records though there were some.
        largest_page: the most records that one answer held: perhaps a cap of the server's own.
    """

    answers: int = 0
    false_ends: int = 0
    false_empties: int = 0
    largest_page: int = 0

    @property
    def ends_needed(self) -> int:
        """How many answers in a row that end at the cursor's record prove a ``tail``."""
        return self._askings(self.false_ends, _DOUBT_AFTER_LIES) if self.false_ends else ASKINGS

    @property
    def lone_ends_needed(self) -> int:
        """How many prove it where only one record came: no other can be asked from, so all of them are one question.

        A few more, as for no records, before the source has answered much.
        """
        return self._more_at_first(self.false_ends)

    @property
    def wide_ends_needed(self) -> int:
        """How many prove it for a walk over many sends: there is one such end for all of them, so it bears some doubt.

        Early in a run, when little is known of the source, that is some more.
        """
        return self._askings(self.false_ends, _DOUBT_AFTER_LIES)

    @property
    def empties_needed(self) -> int:
        """How many answers in a row without records prove an ``empty`` slice."""
        return self._more_at_first(self.false_empties)

    def note_page(self, rows: int) -> None:
        """An answer with so many records came."""
        self.answers += 1
        self.largest_page = max(self.largest_page, rows)

    def note_went_on(self, rows: int, limit: int) -> None:
        """A page of so many records, shorter than asked, was not the end after all.

        That is how a server's own cap looks, too; but then no page is larger.
        """
        if rows < min(limit, self.largest_page):
            self.false_ends += 1

    def _more_at_first(self, lies: int) -> int:
        return self._askings(lies, _DOUBT_AFTER_LIES if lies else _DOUBT)

    def _askings(self, lies: int, doubt: float) -> int:
        share = min((lies + 1) / (self.answers + 2), 0.5)  # the rule of succession
        return max(ASKINGS, min(_MOST_ASKINGS, math.ceil(math.log(doubt) / math.log(share))))


__all__ = ["ASKINGS", "Trust"]
