"""Computes records: for any runs of an account, the parts that their fields are made of. By the column, with no state.

Each record has one 64-bit hash, ``mix(salt of its send + index)``, and a few more made from that; every choice takes bits
of its own. Nothing here depends on how many records came before, nor on how many were asked for.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from itertools import accumulate
from typing import TYPE_CHECKING

import pyarrow as pa
import pyarrow.compute as pc

from harvester.simulator import banks
from harvester.simulator.account import Run
from harvester.simulator.hashing import bits, mix_column, word
from harvester.simulator.parts import Bank, Block, Choice, Field, Group

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from harvester.simulator.account import Account
    from harvester.simulator.parts import Piece

BLOCK_ROWS = 8192
"""Records that are computed at a time where many are wanted."""
_RAMP = pa.array(range(BLOCK_ROWS), pa.uint64())
_ONE_IN = 65_536
_RATE_SHIFT = 6
"""A send goes out at 64 messages a second."""
_DELAY_S = 6 * 3600
"""How much later than the others a message goes out that had to wait."""
_NO_DATE_S = -1
_ZERO_DATE_S = -2
_PREVIEW = "https://u.mailkit.eu/user.fcgi/action,view_email/dc,{dc}/ds,{ds}/code,"


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
            ramp = _RAMP.slice(0, runs[0].count)
            return cls((runs[0].ordinal,), None, pc.add(ramp, word(runs[0].first)))
        ends = list(accumulate(run.count for run in runs))
        place = pa.RunEndEncodedArray.from_arrays(pa.array(ends, pa.int32()), pa.array(range(len(runs)), pa.uint64()))
        which = pc.run_end_decode(place)
        # First index of the run less the run's place in the block; unsigned, so it wraps around and back again.
        shifts = [(run.first - end + run.count) % 2**64 for run, end in zip(runs, ends, strict=True)]
        index = pc.add(_RAMP.slice(0, ends[-1]), pa.array(shifts, pa.uint64()).take(which))
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

    @cached_property
    def key(self) -> pa.UInt64Array:
        """``ID_send_message``; see ``Account.key``."""
        gap = word(self.account.spec.gap)
        first = pc.add(self.positions.index, word(0)) if self.account.spec.gap == 1 else None
        if first is None:
            within = pc.shift_right(pc.multiply(pc.shift_right(self._hash, word(32)), gap), word(32))
            first = pc.add(pc.multiply(self.positions.index, gap), within)
        return pc.add(first, self.positions.number(self.account.first_key))

    @cached_property
    def status(self) -> pa.UInt64Array:
        """``message_status``, as a place in ``banks.STATUSES``."""
        spec = self.account.spec
        chance = bits(self._hash, 25, 16)
        failed = round(spec.failed * _ONE_IN)
        waiting = round(spec.waiting * _ONE_IN)
        delivered = pc.if_else(pc.less(chance, word(failed)), word(banks.FAILED), word(banks.SENT))
        if not waiting:
            return delivered
        if self.account.settled:
            share = failed / (_ONE_IN - waiting) if waiting < _ONE_IN else 0.0
            late = pc.less(bits(self.third, 32, 16), word(round(share * _ONE_IN)))
            then: pa.Array | pa.Scalar = pc.if_else(late, word(banks.FAILED), word(banks.SENT))
        else:
            then = pc.add(self._tested, word(banks.WAIT))
        return pc.if_else(self.waits, then, delivered)

    @cached_property
    def waits(self) -> pa.BooleanArray:
        """Whether the message had to wait, settled by now or not."""
        spec = self.account.spec
        chance = bits(self._hash, 25, 16)
        failed = round(spec.failed * _ONE_IN)
        beyond = pc.greater_equal(chance, word(failed))
        return pc.and_(beyond, pc.less(chance, word(failed + round(spec.waiting * _ONE_IN))))

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
    def profile(self) -> pa.UInt64Array:
        """Recipient and whether the message was opened, as a place in the bank of people."""
        chance = pc.less(bits(self._hash, 41, 8), word(round(self.account.spec.opened * 256)))
        opened = pc.and_(chance, pc.equal(self.status, word(banks.SENT)))
        return pc.add(self.person, pc.if_else(opened, word(banks.PEOPLE), word(0)))

    @property
    def id_email(self) -> pa.StringArray:
        """``ID_email``: mostly nine digits."""
        plain = pc.cast(pc.add(bits(self.second, 0, 28), word(300_000_000)), pa.string())
        if not self.account.spec.awkward:
            return plain
        odd = self.account.banks.awkward_ids.column(0, bits(self.second, 28, 3))
        return pc.if_else(pc.equal(bits(self._hash, 50, 5), word(0)), odd, plain)

    @property
    def email(self) -> tuple[Piece, ...]:
        """The address: a name, a number, a domain."""
        texts = self.account.banks
        number = pc.cast(bits(self.second, 31, 14), pa.string())
        return (Choice(texts.locals, self.person), number, Choice(texts.domains, self.domain))

    @property
    def sent_s(self) -> pa.Int64Array:
        """``date_sent``, in seconds since 1970; ``_NO_DATE_S`` or ``_ZERO_DATE_S`` where there is none."""
        after = pc.add(pc.shift_right(self.positions.index, word(_RATE_SHIFT)), bits(self._hash, 55, 2))
        at = pc.cast(pc.add(after, self.positions.number(self.account.date_s)), pa.int64())
        awkward = self.account.spec.awkward
        if self.account.spec.waiting:
            none = pa.scalar(_ZERO_DATE_S if awkward else _NO_DATE_S, pa.int64())
            at = pc.if_else(
                self.waits, pc.add(at, pa.scalar(_DELAY_S, pa.int64())) if self.account.settled else none, at
            )
        if awkward:
            odd = pc.equal(bits(self._hash, 50, 5), word(1))
            at = pc.if_else(odd, pa.scalar(_ZERO_DATE_S, pa.int64()), at)
        return at


def _dates(seconds: pa.Int64Array) -> pa.StringArray:
    """Dates as the API writes them. Neighbouring records share most of them, so few are written out."""
    distinct = seconds.dictionary_encode()
    special = {_NO_DATE_S: "", _ZERO_DATE_S: banks.ZERO_DATE}
    written = [special[s] if s in special else banks.date_text(s) for s in distinct.dictionary.to_pylist()]
    return pa.array(written, pa.string()).take(distinct.indices)


def messages(account: Account, runs: tuple[Run, ...]) -> Block:
    """The messages of runs, in their order; at most ``BLOCK_ROWS``. Fields stand in the order of the vendor's page."""
    positions = Positions.of(runs)
    draws = Draws(account, positions)
    texts = account.banks
    campaign = positions.text(account.id_message)
    send = positions.text(account.id_send)
    preview = positions.text(lambda n: _PREVIEW.format(dc=account.id_message(n), ds=account.id_send(n)))
    return Block(
        len(positions.index),
        (
            Field("ID_message", (campaign,)),
            Field("ID_send", (send,)),
            Field("ID_send_message", (pc.cast(draws.key, pa.string()),)),
            Field("ID_user_list", (positions.text(lambda n: _user_list(account, n)),)),
            Field("ID_email", (draws.id_email,)),
            Field("ID_template", (positions.text(lambda n: _template(account, n)),)),
            Field("type_message", ("email",)),
            Field("email", draws.email),
            Field("email_date", (Choice(texts.email_dates, draws.email_date),)),
            Field("message_date", (positions.text(lambda n: _message_date(account, n)),)),
            Field("date_sent", (_dates(draws.sent_s),)),
            Group(texts.deliveries, draws.delivery),
            Group(texts.people, draws.profile),
            Field(
                "preview_url",
                (
                    preview,
                    Choice(texts.codes, bits(draws.third, 0, 16)),
                    Choice(texts.codes, bits(draws.third, 16, 16)),
                ),
            ),
        ),
    )


def bounces(account: Account, ordinal: int, share: float | None = None) -> Iterator[Block]:
    """Every bounce of a send, in an order that is not that of the keys; in blocks of at most ``BLOCK_ROWS``.

    One for each failed message, and for about one failed message in 20 a second one. Erased messages keep theirs. With
    ``share``, only so much of the list: at least one and, where there are more, not all.
    """
    failed = pa.concat_arrays(
        [_failed(account, block) for block in blocks(account.all_runs(ordinal, erased=True))] or [_NONE]
    )
    twice = failed.filter(pc.less(_fate(account, ordinal, failed, 0), word(2**64 // 20)))
    index = pa.concat_arrays([failed, twice])
    time = pa.concat_arrays([pa.repeat(word(0), len(failed)), pa.repeat(word(1), len(twice))])
    order = pc.sort_indices(_fate(account, ordinal, index, 3))
    order = order[: shortened(len(order), share)]
    index, time = index.take(order), time.take(order)
    for start in range(0, len(index), BLOCK_ROWS):
        yield _bounces(account, ordinal, index.slice(start, BLOCK_ROWS), time.slice(start, BLOCK_ROWS))


def shortened(count: int, share: float | None) -> int:
    """How many of ``count`` are left if a ``share`` is: not all, and at least one. All if there are but one or none."""
    return count if share is None or count <= 1 else 1 + int(share * (count - 1))


_NONE = pa.array([], pa.uint64())


def _fate(account: Account, ordinal: int, index: pa.UInt64Array, purpose: int) -> pa.UInt64Array:
    return mix_column(pc.add(mix_column(pc.add(index, word(account.salt(ordinal)))), word(100 + purpose)))


def _failed(account: Account, runs: tuple[Run, ...]) -> pa.UInt64Array:
    positions = Positions.of(runs)
    return positions.index.filter(pc.equal(Draws(account, positions).status, word(banks.FAILED)))


def _bounces(account: Account, ordinal: int, index: pa.UInt64Array, time: pa.UInt64Array) -> Block:
    draws = Draws(account, Positions((ordinal,), None, index))
    fate = mix_column(pc.add(draws.third, time))
    kind = bits(fate, 0, 6)
    after = pc.add(pc.add(bits(fate, 6, 12), word(1)), pc.multiply(time, word(86_400)))
    at = pc.add(pc.cast(after, pa.int64()), pa.scalar(account.date_s(ordinal), pa.int64()))
    if account.spec.awkward:
        at = pc.if_else(pc.equal(bits(fate, 18, 4), word(0)), pa.scalar(_ZERO_DATE_S, pa.int64()), at)
    return Block(
        len(index),
        (
            Field("ID_SEND_MESSAGE", (pc.cast(draws.key, pa.string()),)),
            Field("ID_USER_LIST", (_user_list(account, ordinal),)),
            Field("DATE", (_dates(at),)),
            Field("STATUS", (Choice(account.banks.bounce_codes, kind),)),
            Field("ID_EMAIL", (draws.id_email,)),
            Field("EMAIL", draws.email),
            Group(account.banks.bounces, kind),
        ),
    )


def blocks(runs: Iterable[Run], *, most: int | None = None) -> Iterator[tuple[Run, ...]]:
    """The same records as in ``runs``, in the same order, ``BLOCK_ROWS`` at a time; the first ``most`` if given."""
    gathered: list[Run] = []
    room = BLOCK_ROWS
    for run in runs:
        first, left = run.first, run.count if most is None else min(run.count, most)
        most = None if most is None else most - left
        while left:
            taken = min(left, room)
            gathered.append(Run(run.ordinal, first, taken))
            first, left, room = first + taken, left - taken, room - taken
            if not room:
                yield tuple(gathered)
                gathered, room = [], BLOCK_ROWS
    if gathered:
        yield tuple(gathered)


def _user_list(account: Account, ordinal: int) -> str:
    return "" if ordinal % 4 == 3 else str(46_061 + ordinal % 7)


def _template(account: Account, ordinal: int) -> str:
    if account.spec.awkward and ordinal % 3 == 1:
        return "0003858"
    return "" if ordinal % 3 == 2 else str(3858 + ordinal % 5)


def _message_date(account: Account, ordinal: int) -> str:
    if account.spec.awkward and ordinal % 5 == 4:
        return banks.ZERO_DATE
    return banks.date_text(account.date_s(ordinal))


__all__ = ["BLOCK_ROWS", "Positions", "blocks", "bounces", "messages", "shortened"]
