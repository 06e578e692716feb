"""What chance decides about records: their keys, statuses, recipients. By the column, with no state.

Each record has one 64-bit hash, ``mix(salt of its send + index)``, and a few more made from that; every choice takes
bits of its own. Nothing depends on how many records came before, nor on how many were asked for.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from itertools import accumulate
from typing import TYPE_CHECKING

import pyarrow as pa
import pyarrow.compute as pc

from harvester.simulator import banks
from harvester.simulator.hashing import bits, choose, mix_column, word
from harvester.simulator.parts import Choice, as_text

if TYPE_CHECKING:
    from collections.abc import Callable

    from harvester.simulator.account import Account, Run
    from harvester.simulator.parts import Piece

BLOCK_ROWS = 8192
"""Records that are computed at a time where many are wanted."""
_RAMP = pa.array(range(BLOCK_ROWS), pa.uint64())
_ONE_IN = 65_536
_RATE_SHIFT = 6
"""A send goes out at 64 messages a second."""
_DELAY_S = 6 * 3600
"""How much later than the others a message goes out that had to wait."""
NO_DATE_S = 0
"""In place of a time: there is no date, and an empty text says so."""
ZERO_DATE_S = 1
"""In place of a time: there is no date, and zeros say so."""


def ramp(count: int) -> pa.UInt64Array:
    """The numbers from 0 up to ``count``, which is at most ``BLOCK_ROWS``."""
    return _RAMP.slice(0, count)


@dataclass(frozen=True, slots=True)
class Positions:
    """Records by their place.

    Attributes:
        ordinals: the sends that occur.
        which: for each record the place of its send in ``ordinals``; None where there is but one.
        index: for each record its index in its send.
    """

    ordinals: tuple[int, ...]
    which: pa.UInt64Array | None
    index: pa.UInt64Array

    @classmethod
    def of(cls, runs: tuple[Run, ...]) -> Positions:
        """The records of runs, in their order; ``BLOCK_ROWS`` at most."""
        if len(runs) == 1:
            return cls((runs[0].ordinal,), None, pc.add(ramp(runs[0].count), word(runs[0].first)))
        ends = list(accumulate(run.count for run in runs))
        numbers = pa.array(range(len(runs)), pa.uint64())
        which: pa.UInt64Array = pc.call_function(
            "run_end_decode", [pa.RunEndEncodedArray.from_arrays(pa.array(ends, pa.int64()), numbers)]
        )
        # First index of the run less the run's place in the block; unsigned, so it wraps around and back again.
        shifts = [(run.first - end + run.count) % 2**64 for run, end in zip(runs, ends, strict=True)]
        index = pc.add(ramp(ends[-1]), pa.array(shifts, pa.uint64()).take(which))
        return cls(tuple(run.ordinal for run in runs), which, index)

    def text(self, values: Callable[[int], object]) -> str | pa.StringArray:
        """A text of each record's send: the text itself where there is but one send, else one for each record."""
        if self.which is None:
            return str(values(self.ordinals[0]))
        return pa.array([str(values(ordinal)) for ordinal in self.ordinals], pa.string()).take(self.which)

    def number(self, values: Callable[[int], int]) -> pa.UInt64Scalar | pa.UInt64Array:
        """A number of each record's send, likewise."""
        if self.which is None:
            return word(values(self.ordinals[0]))
        return pa.array([values(ordinal) for ordinal in self.ordinals], pa.uint64()).take(self.which)


class Draws:
    """What chance has decided about some records. Columns of one entry for each record."""

    def __init__(self, account: Account, positions: Positions) -> None:
        self.account = account
        self.positions = positions
        self._hash = mix_column(pc.add(positions.index, positions.number(account.salt)))

    @cached_property
    def second(self) -> pa.UInt64Array:
        """A second hash: the address's number and id."""
        return mix_column(pc.add(self._hash, word(1)))

    @cached_property
    def third(self) -> pa.UInt64Array:
        """A third hash: the preview's code, and how the message fared in the end."""
        return mix_column(pc.add(self._hash, word(2)))

    def fate(self, purpose: int, line: pa.UInt64Array | None = None) -> pa.UInt64Array:
        """Further hashes, one for each purpose, and for each line of a log if those are given."""
        mixed = mix_column(pc.add(self._hash, word(100 + purpose)))
        return mixed if line is None else mix_column(pc.add(mixed, line))

    @cached_property
    def key(self) -> pa.UInt64Array:
        """``ID_send_message``; see ``Account.key``."""
        gap = word(self.account.spec.gap)
        within = pc.shift_right(pc.multiply(pc.shift_right(self._hash, word(32)), gap), word(32))
        place = pc.add(pc.multiply(self.positions.index, gap), within)
        return pc.add(place, self.positions.number(self.account.first_key))

    @cached_property
    def status(self) -> pa.UInt64Array:
        """``message_status``, as a place in ``banks.STATUSES``."""
        spec = self.account.spec
        chance = bits(self._hash, 25, 16)
        failed = round(spec.failed * _ONE_IN)
        waiting = round(spec.waiting * _ONE_IN)
        delivered = choose(pc.less(chance, word(failed)), word(banks.FAILED), word(banks.SENT))
        if not waiting:
            return delivered
        if self.account.settled:
            share = failed / (_ONE_IN - waiting) if waiting < _ONE_IN else 0.0
            late = pc.less(bits(self.third, 32, 16), word(round(share * _ONE_IN)))
            then = choose(late, word(banks.FAILED), word(banks.SENT))
        else:
            then = pc.add(self._tested, word(banks.WAIT))
        return choose(self.waits, then, delivered)

    @cached_property
    def waits(self) -> pa.BooleanArray:
        """Whether the message had to wait, settled by now or not."""
        spec = self.account.spec
        chance = bits(self._hash, 25, 16)
        failed = round(spec.failed * _ONE_IN)
        # Above the failed ones; unsigned, so that what lies below them wraps around to far above.
        return pc.less(pc.subtract(chance, word(failed)), word(round(spec.waiting * _ONE_IN)))

    @cached_property
    def _tested(self) -> pa.UInt64Array:
        """1 where the send is an A/B test, else 0."""
        tested = self.positions.number(lambda ordinal: int(self.account.salt(ordinal) >> 61 == 0))
        return pc.add(pc.multiply(self.positions.index, word(0)), tested)

    @property
    def person(self) -> pa.UInt64Array:
        """The recipient, as a place in the bank of local parts."""
        return bits(self._hash, 0, 9)

    @property
    def domain(self) -> pa.UInt64Array:
        """The recipient's domain, as a place in its bank."""
        return bits(self._hash, 9, 6)

    @property
    def email_date(self) -> pa.UInt64Array:
        """When the address was added, as a place in its bank."""
        return bits(self._hash, 15, 10)

    @property
    def delivery(self) -> pa.UInt64Array:
        """Version, status and domain, as a place in their common bank."""
        version = pc.multiply(self._tested, pc.add(bits(self._hash, 49, 1), word(1)))
        joint = pc.add(pc.multiply(version, word(len(banks.STATUSES))), self.status)
        return pc.add(pc.multiply(joint, word(banks.DOMAINS)), self.domain)

    @property
    def origin(self) -> pa.UInt64Array:
        """Version and domain, as a place in their common bank."""
        version = pc.multiply(self._tested, pc.add(bits(self._hash, 49, 1), word(1)))
        return pc.add(pc.multiply(version, word(banks.DOMAINS)), self.domain)

    @cached_property
    def opened(self) -> pa.BooleanArray:
        """Whether the message was opened by now."""
        spec = self.account.spec
        share = spec.opened + spec.opened_later if self.account.settled else spec.opened
        chance = pc.less(bits(self._hash, 41, 8), word(round(share * 256)))
        return pc.and_(chance, pc.equal(self.status, word(banks.SENT)))

    @property
    def profile(self) -> pa.UInt64Array:
        """Recipient and whether the message was opened, as a place in the bank of people."""
        return pc.add(self.person, choose(self.opened, word(banks.PEOPLE), word(0)))

    @property
    def bounces_twice(self) -> pa.BooleanArray:
        """Whether the message would bounce a second time, if it bounced."""
        return pc.less(self.fate(0), word(2**64 // 20))

    def bounce_kind(self, line: pa.UInt64Array) -> pa.UInt64Array:
        """The kind of a message's first or second bounce (``line`` 0 or 1), as a place in the banks of bounces."""
        return bits(self.bounce(line), 0, 6)

    def bounce(self, line: pa.UInt64Array) -> pa.UInt64Array:
        """A hash for a message's first or second bounce."""
        return mix_column(pc.add(self.third, line))

    @property
    def id_email(self) -> pa.StringArray:
        """``ID_email``: mostly nine digits."""
        ids = as_text(pc.add(bits(self.second, 0, 28), word(300_000_000)))
        texts, spec = self.account.banks, self.account.spec
        for wanted, bank, width, among in ((spec.awkward, texts.awkward_ids, 3, 0), (spec.foul, texts.foul_ids, 2, 2)):
            if wanted:
                odd = bank.column(0, bits(self.second, 28, width))
                ids = pc.if_else(pc.equal(bits(self._hash, 50, 5), word(among)), odd, ids)
        return ids

    @property
    def email(self) -> tuple[Piece, ...]:
        """The address: a name, a number, a domain."""
        texts = self.account.banks
        number = as_text(bits(self.second, 31, 14))
        return (Choice(texts.locals, self.person), number, Choice(texts.domains, self.domain))

    @property
    def sent_s(self) -> pa.UInt64Array:
        """``date_sent``, in seconds since 1970; ``NO_DATE_S`` or ``ZERO_DATE_S`` where there is none."""
        after = pc.add(pc.shift_right(self.positions.index, word(_RATE_SHIFT)), bits(self._hash, 55, 2))
        at = pc.add(after, self.positions.number(self.account.date_s))
        awkward = self.account.spec.awkward
        if self.account.spec.waiting:
            pending = word(ZERO_DATE_S if awkward else NO_DATE_S)
            at = choose(self.waits, pc.add(at, word(_DELAY_S)) if self.account.settled else pending, at)
        if awkward:
            at = choose(pc.equal(bits(self._hash, 50, 5), word(1)), word(ZERO_DATE_S), at)
        return at


__all__ = ["BLOCK_ROWS", "NO_DATE_S", "ZERO_DATE_S", "Draws", "Positions", "ramp"]
