"""Where the records of an account are: which sends, which keys, which of them are erased.

Nouns: *ordinal* (a send's place in key order, from 0), *index* (a record's place in its send, from 0; it keeps it when
others are erased), *run* (neighbouring indices of one send). Keys ascend through the whole account: each send has a
block of keys of its own, and within it record i lies somewhere in the i-th stride. So key and index follow from each
other without any list of records. Memory grows with the number of sends and of erased records alone.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right, insort
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from itertools import accumulate
from typing import TYPE_CHECKING

from harvester.errors import UsageError
from harvester.model import Send
from harvester.simulator.banks import banks_of
from harvester.simulator.hashing import mix, salt
from harvester.simulator.spec import BETWEEN_SENDS, LOG_STRIDE

if TYPE_CHECKING:
    from collections.abc import Iterator

    from harvester.simulator.spec import AccountSpec

_FIRST_ID_MESSAGE = 32_443


@dataclass(frozen=True, slots=True)
class Run:
    """``count`` records of the send at ``ordinal``, from index ``first`` on; none of them erased."""

    ordinal: int
    first: int
    count: int


class Account:
    """An account as it stands: its spec, and what has changed since (erased records, settled statuses).

    Attributes:
        spec: the recipe.
        banks: the texts that records are put together from.
        settled: whether messages that waited have been delivered (or have failed) by now.
    """

    def __init__(self, spec: AccountSpec) -> None:
        self.spec = spec
        self.banks = banks_of(awkward=spec.awkward, foul=spec.foul)
        self.settled = False
        self._ids = spec.sends.ids
        self._rows = list(spec.sends.rows)
        self._rows_before = tuple(accumulate((rows + spec.room for rows in self._rows), initial=0))
        self._ordinals = None if isinstance(self._ids, range) else {id_: n for n, id_ in enumerate(self._ids)}
        self._first_date_s = int(spec.first_date.replace(tzinfo=UTC).timestamp())
        self._date_step_s = spec.step_s
        self._erased: dict[int, list[int]] = {}

    def __len__(self) -> int:
        """The number of sends."""
        return len(self._ids)

    @property
    def sends(self) -> Iterator[Send]:
        """Every send, in key order, as its owner would list it; ``expected`` counts what is not erased."""
        return (self.send(ordinal) for ordinal in range(len(self)))

    def send(self, ordinal: int) -> Send:
        """The send at ``ordinal``."""
        return Send(
            id_send=self._ids[ordinal],
            id_message=self.id_message(ordinal),
            sent_at=datetime.fromtimestamp(self.date_s(ordinal), UTC).replace(tzinfo=None),
            expected=self.count(ordinal),
        )

    def ordinal(self, id_send: int) -> int | None:
        """The place of ``ID_send`` in key order; None if there is no such send."""
        if self._ordinals is not None:
            return self._ordinals.get(id_send)
        return self._ids.index(id_send) if id_send in self._ids else None

    def id_send(self, ordinal: int) -> int:
        """The ``ID_send`` of the send at ``ordinal``."""
        return self._ids[ordinal]

    def id_message(self, ordinal: int) -> int:
        """The ``ID_message`` (campaign) of the send at ``ordinal``."""
        return _FIRST_ID_MESSAGE + ordinal // self.spec.sends_per_campaign

    def campaign(self, id_message: int) -> range | None:
        """The ordinals of a campaign's sends; None if there is no such campaign."""
        first = (id_message - _FIRST_ID_MESSAGE) * self.spec.sends_per_campaign
        if not 0 <= first < len(self):
            return None
        return range(first, min(first + self.spec.sends_per_campaign, len(self)))

    @property
    def today(self) -> date:
        """The day up to which lists go that are asked for without a range."""
        return self.spec.today or self.spec.last_date.date() + timedelta(days=1)

    def sent_between(self, ordinals: range, since: date, until: date) -> range:
        """Those of these sends that went out from one day to another, both of them included."""
        first, past = (
            bisect_left(ordinals, datetime.combine(day, time(), UTC).timestamp() + extra_s, key=self.date_s)
            for day, extra_s in ((since, 0), (until, 86_400))
        )
        return ordinals[first:past]

    def count(self, ordinal: int) -> int:
        """How many records the send has that are not erased: its ``SEND_COUNT``."""
        return self._rows[ordinal] - len(self._erased.get(ordinal, ()))

    def rows(self, ordinal: int) -> int:
        """How many records the send has, erased ones included."""
        return self._rows[ordinal]

    def date_s(self, ordinal: int) -> int:
        """When the send began, in seconds since 1970."""
        return self._first_date_s + ordinal * self._date_step_s

    def salt(self, ordinal: int) -> int:
        """What tells this send's records from any other's: a record's hash is ``mix(salt + index)``."""
        return salt(self.spec.seed, self._ids[ordinal])

    def first_key(self, ordinal: int) -> int:
        """The lowest key that the send's block holds."""
        return self.spec.lowest_key + self._rows_before[ordinal] * self.spec.gap + ordinal * BETWEEN_SENDS

    def key(self, ordinal: int, index: int) -> int:
        """The ``ID_send_message`` of a record."""
        within = ((mix(self.salt(ordinal) + index) >> 32) * self.spec.gap) >> 32
        return self.first_key(ordinal) + index * self.spec.gap + within

    def log_key(self, key: int, line: int) -> int:
        """The key of a line in a log: ``ID_undelivered_log`` or ``ID_log`` of a message's n-th entry, from 0."""
        return (key - self.spec.lowest_key) * LOG_STRIDE + self.spec.lowest_key + line

    def logged_from(self, start: int) -> int:
        """The lowest key of a message that a log's lines from the key ``start`` on can belong to."""
        return (start - self.spec.lowest_key) // LOG_STRIDE + self.spec.lowest_key

    def index_from(self, ordinal: int, start: int) -> int:
        """The index of the send's first record whose key is ``start`` or more; its number of rows if there is none."""
        index = max(0, (start - self.first_key(ordinal)) // self.spec.gap)
        if index >= self._rows[ordinal]:
            return self._rows[ordinal]
        return index if self.key(ordinal, index) >= start else index + 1

    def runs(self, ordinals: range, start: int | None, limit: int) -> tuple[Run, ...]:
        """The first ``limit`` records of these sends whose key is ``start`` or more, in key order."""
        runs: list[Run] = []
        for run in self.runs_from(ordinals, start):
            runs.append(Run(run.ordinal, run.first, min(run.count, limit)))
            limit -= runs[-1].count
            if limit <= 0:
                break
        return tuple(runs)

    def runs_from(self, ordinals: range, start: int | None, *, erased: bool = False) -> Iterator[Run]:
        """Every record of these sends whose key is ``start`` or more, in key order; with ``erased``, those as well."""
        if start is not None:
            # The send whose block holds the start, or the last one before it; it may turn out to have nothing left.
            skipped = bisect_right(ordinals, start, key=self.first_key)
            ordinals = ordinals[max(0, skipped - 1) :]
        for ordinal in ordinals:
            first = 0 if start is None else self.index_from(ordinal, start)
            if not erased:
                yield from self._unerased(ordinal, first)
            elif first < self._rows[ordinal]:
                yield Run(ordinal, first, self._rows[ordinal] - first)

    def all_runs(self, ordinal: int, *, erased: bool = False) -> tuple[Run, ...]:
        """Every record of a send; with ``erased``, those as well that are gone by now."""
        count = self._rows[ordinal]
        if erased:
            return (Run(ordinal, 0, count),) if count else ()
        return tuple(self._unerased(ordinal, 0))

    def grow(self, id_send: int, rows: int) -> None:
        """Adds messages to a send, with keys above its others and below those of the next send.

        Raises:
            UsageError: there is no such send, or its block has no room left for so many (``AccountSpec.room``).
        """
        ordinal = self.ordinal(id_send)
        if ordinal is None:
            raise UsageError(f"the account has no send {id_send}")
        most = self.spec.sends.rows[ordinal] + self.spec.room
        if not 0 <= rows <= most - self._rows[ordinal]:
            raise UsageError(
                f"send {id_send} can't grow by {rows} messages: of its room for {self.spec.room} there are "
                f"{most - self._rows[ordinal]} left"
            )
        self._rows[ordinal] += rows

    def erase(self, id_send: int, key: int) -> bool:
        """Takes a message out of the account, for good. Its bounce stays. False if there is no such message."""
        ordinal = self.ordinal(id_send)
        if ordinal is None:
            return False
        index = self.index_from(ordinal, key)
        if index >= self._rows[ordinal] or self.key(ordinal, index) != key:
            return False
        return self.erase_index(ordinal, index)

    def erase_index(self, ordinal: int, index: int) -> bool:
        """Takes the record at ``index`` out of the account. False if it is gone already."""
        erased = self._erased.setdefault(ordinal, [])
        place = bisect_left(erased, index)
        if place < len(erased) and erased[place] == index:
            return False
        insort(erased, index)
        return True

    def erased(self, ordinal: int) -> int:
        """How many of the send's records are gone."""
        return len(self._erased.get(ordinal, ()))

    def _unerased(self, ordinal: int, first: int) -> Iterator[Run]:
        erased = self._erased.get(ordinal, [])
        for gone in erased[bisect_left(erased, first) :]:
            if gone > first:
                yield Run(ordinal, first, gone - first)
            first = gone + 1
        if first < self._rows[ordinal]:
            yield Run(ordinal, first, self._rows[ordinal] - first)


__all__ = ["Account", "Run"]
