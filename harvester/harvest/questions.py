"""Questions other than pages of a walk: how one is asked again, and the two that need no proof of their own.

Plain state, changed synchronously; nothing here asks. Times are in seconds on the scheduler's clock.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from harvester.api import discovery
from harvester.config import LEAST_LIMIT
from harvester.datasets import MESSAGES
from harvester.errors import Throttled, TooBigToServe
from harvester.harvest.retrying import SIZE_FAILURES, backoff_s
from harvester.harvest.trust import Trust
from harvester.model import Query

if TYPE_CHECKING:
    import random
    from datetime import date

    from harvester.config import Settings
    from harvester.errors import AttemptFailed
    from harvester.model import Page

_EMPTY_ASKINGS = 3
"""So many answers without records, and there are taken to be none where no proof is needed."""


@dataclass(slots=True)
class Source:
    """What the askings of a run know of the source together.

    Attributes:
        settings: of the run.
        trust: how much an answer is worth that says that there is nothing more.
        named_at: when a list function last named something, on the scheduler's clock, by the list's name.
        added_up: lists of sends that added up to their campaign's own ``SEND_COUNT``, and were not empty.
        answered: whether raw.messages has answered, so that the account is known to be let in.
    """

    settings: Settings
    trust: Trust = field(default_factory=Trust)
    named_at: dict[str, float] = field(default_factory=dict)
    added_up: int = 0
    answered: bool = False

    @property
    def apart_s(self) -> float:
        """How far apart two askings must be."""
        return self.settings.tuning.apart_s


@dataclass(slots=True, kw_only=True)
class Asking:
    """One question, asked until it is done. Times are in seconds on the scheduler's clock.

    Attributes:
        query: what is asked.
        ready_at: when it may be asked again.
        done: whether it needs no further answer.
        silent: whether it can't go on before the same function has named something elsewhere.
        doubt: why what it brought can't be relied on, in one sentence; None if it can.
        counted: whether the query that is due has been counted.
        failures: failures since the last success.
    """

    query: Query
    ready_at: float = 0.0
    done: bool = False
    silent: bool = False
    doubt: str | None = None
    counted: bool = False
    failures: int = 0
    _failing_since: float | None = None
    _size_failures: int = 0

    def take(self, page: Page, now: float, source: Source) -> None:
        """Takes an answer. Raises PageRefused if it can't be one."""
        raise NotImplementedError

    def hear(self, source: Source) -> None:
        """Something was heard of the source: perhaps it need not be silent any more."""

    def halves(self) -> tuple[Asking, ...]:
        """What to ask instead, after failures that the size can explain; nothing where it can't be made smaller."""
        return ()

    def succeeded(self) -> None:
        """An answer was taken: failures are forgotten."""
        self.failures = self._size_failures = 0
        self._failing_since = None
        self.counted = False

    def failed(self, error: AttemptFailed, now: float, settings: Settings, dice: random.Random) -> None:
        """An attempt failed: it waits, longer each time, until the run's patience ends."""
        if isinstance(error, Throttled):
            return
        self.failures += 1
        self._size_failures += isinstance(error, TooBigToServe)
        if self._failing_since is None:
            self._failing_since = now
        patient_until = self._failing_since + settings.patience_s
        if now >= patient_until:
            self.give_up(str(error))
            return
        wait_s = backoff_s(self.failures, settings.tuning) * dice.uniform(0.5, 1.0)
        self.ready_at = min(now + wait_s, patient_until)

    @property
    def too_big(self) -> bool:
        """Whether it failed so often in ways that its size can explain that less is to be asked for."""
        return self._size_failures >= SIZE_FAILURES

    def give_up(self, reason: str) -> None:
        """It is done, and not to be relied on."""
        self.done = True
        self.doubt = f"{self.query}: {reason}"

    def refuse(self, reason: str) -> None:
        """The API says that what is asked about can't be had."""
        self.done = True
        campaign = self.query.id_message
        whose = "the account" if campaign is None else f"campaign {campaign}: perhaps a mistyped id"
        self.doubt = f"{whose}; {reason}"


@dataclass(slots=True, kw_only=True)
class FirstRecord(Asking):
    """The first records of the account, or of a campaign: since when it sends.

    Attributes:
        day: the earliest day that the records name; None if they name none.
        rows: whether there are records.
    """

    day: date | None = None
    rows: bool = False
    _empty_answers: int = 0

    @classmethod
    def of(cls, id_message: int | None) -> FirstRecord:
        """Of a campaign, or of the account if that is None."""
        return cls(query=Query(MESSAGES, id_message=id_message, limit=LEAST_LIMIT))

    def take(self, page: Page, now: float, source: Source) -> None:
        """Takes an answer; none of it is needed for a proof, so a few empty ones are enough."""
        source.answered = True
        self.rows = page.batch.num_rows > 0
        self.day = discovery.first_day(page)
        self._empty_answers += not self.rows
        self.done = self.rows or self._empty_answers >= _EMPTY_ASKINGS
        self.ready_at = now + source.apart_s


@dataclass(slots=True, kw_only=True)
class Witness(Asking):
    """A list that should name something, asked so that the silence of others may be believed.

    Attributes:
        spoke: whether it named something.
    """

    spoke: bool = False
    _empty_answers: int = 0

    def take(self, page: Page, now: float, source: Source) -> None:
        """Takes an answer; a few empty ones are enough to give up hope."""
        self.spoke = page.batch.num_rows > 0
        if self.spoke:
            source.named_at[self.query.dataset.name] = now
            source.trust.note_page(page.batch.num_rows)
        self._empty_answers += not self.spoke
        self.done = self.spoke or self._empty_answers >= _EMPTY_ASKINGS
        self.ready_at = now + source.apart_s


__all__ = ["Asking", "FirstRecord", "Source", "Witness"]
