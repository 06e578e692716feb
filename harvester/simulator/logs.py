"""The account's logs, every bounce and every response: which entries there are, and the records they make.

Nouns: *entry* (one line of a log: a message, and which of its lines it is, from 0). An entry's key follows from its
message's, so that a log ascends with the messages; see ``Account.log_key``. Entries of erased messages stay. Memory
is that of the entries asked for: three numbers each.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import pyarrow as pa
import pyarrow.compute as pc

from harvester.datasets import RAW_BOUNCES
from harvester.simulator import banks, records
from harvester.simulator.draws import BLOCK_ROWS, ZERO_DATE_S, Draws, Positions
from harvester.simulator.hashing import bits, choose, word
from harvester.simulator.parts import Block, Choice, Field, Group, as_text
from harvester.simulator.spec import LOG_STRIDE

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from harvester.datasets import Dataset
    from harvester.simulator.account import Account, Run

_MOST_RESPONSES = 3
_NONE = pa.array([], pa.uint64())


@dataclass(frozen=True, slots=True)
class Entries:
    """Lines of a log, in key order. Three columns of the same length.

    Attributes:
        ordinal: for each the place of its send.
        index: its message's index in that send.
        line: which of its message's lines it is, from 0.
    """

    ordinal: pa.UInt64Array
    index: pa.UInt64Array
    line: pa.UInt64Array

    def __len__(self) -> int:
        """How many there are."""
        return len(self.line)

    def slice(self, first: int, count: int) -> Entries:
        """``count`` of them from the place ``first`` on; fewer where there are not so many."""
        return Entries(*(column.slice(first, count) for column in (self.ordinal, self.index, self.line)))

    def draws(self, account: Account) -> Draws:
        """What chance has decided about their messages."""
        distinct = self.ordinal.dictionary_encode()
        ordinals = tuple(value for value in distinct.dictionary.to_pylist() if value is not None)
        if len(ordinals) == 1:
            return Draws(account, Positions(ordinals, None, self.index))
        which = pa.array(range(len(ordinals)), pa.uint64()).take(distinct.indices)
        return Draws(account, Positions(ordinals, which, self.index))


def entries(
    account: Account,
    dataset: Dataset,
    ordinals: range,
    *,
    start: int | None = None,
    stop: int | None = None,
    limit: int | None = None,
) -> Entries:
    """The first ``limit`` entries of these sends whose key is ``start`` or more, and below ``stop``."""
    found: list[Entries] = []
    wanted = limit
    message = None if start is None else account.logged_from(start)
    for runs in records.blocks(account.runs_from(ordinals, message, erased=True)):
        some = _of(account, dataset, runs)
        if (start is not None and not found) or stop is not None:
            some = _between(account, some, start, stop)
        if wanted is not None:
            some = some.slice(0, wanted)
            wanted -= len(some)
        if len(some):
            found.append(some)
        past = stop is not None and account.log_key(account.key(runs[-1].ordinal, runs[-1].first), 0) >= stop
        if wanted == 0 or past:
            break
    parts = [(some.ordinal, some.index, some.line) for some in found] or [(_NONE, _NONE, _NONE)]
    return Entries(*(pa.concat_arrays(columns) for columns in zip(*parts, strict=True)))


def blocks(account: Account, dataset: Dataset, some: Entries) -> Iterator[Block]:
    """The records of entries, ``BLOCK_ROWS`` at a time."""
    block = _bounces if dataset is RAW_BOUNCES else _responses
    for first in range(0, len(some), BLOCK_ROWS):
        part = some.slice(first, BLOCK_ROWS)
        yield block(account, part, part.draws(account))


def _of(account: Account, dataset: Dataset, runs: tuple[Run, ...]) -> Entries:
    """Every entry of the messages of runs, ``BLOCK_ROWS`` messages at most."""
    positions = Positions.of(runs)
    draws = Draws(account, positions)
    if dataset is RAW_BOUNCES:
        failed = pc.equal(draws.status, word(banks.FAILED))
        lines = choose(failed, choose(draws.bounces_twice, word(2), word(1)), word(0))
    else:
        lines = choose(draws.opened, bits(draws.fate(4), 0, 2), word(0))
    places = [pc.indices_nonzero(pc.greater(lines, word(line))) for line in range(_MOST_RESPONSES)]
    place = pa.concat_arrays([some.cast(pa.uint64()) for some in places])
    line = pa.concat_arrays([pa.repeat(word(number), len(some)) for number, some in enumerate(places)])
    order = pc.sort_indices(pc.add(pc.multiply(place, word(LOG_STRIDE)), line))
    place, line = place.take(order), line.take(order)
    which = pa.repeat(word(0), len(place)) if positions.which is None else positions.which.take(place)
    return Entries(pa.array(positions.ordinals, pa.uint64()).take(which), positions.index.take(place), line)


def _between(account: Account, some: Entries, start: int | None, stop: int | None) -> Entries:
    if not len(some):
        return some
    keys = _keys(account, some, some.draws(account))
    first = 0 if start is None else _below(keys, start)
    last = len(keys) if stop is None else _below(keys, stop)
    return some.slice(first, max(0, last - first))


def _below(keys: pa.UInt64Array, bound: int) -> int:
    """How many keys are lower; a bound may be any number."""
    lower = pc.less(keys, word(min(max(bound, 0), 2**64 - 1)))
    return lower.true_count


def _keys(account: Account, some: Entries, draws: Draws) -> pa.UInt64Array:
    lowest = word(account.spec.lowest_key)
    return pc.add(pc.add(pc.multiply(pc.subtract(draws.key, lowest), word(LOG_STRIDE)), lowest), some.line)


def _bounces(account: Account, some: Entries, draws: Draws) -> Block:
    texts, positions = account.banks, draws.positions
    kind = draws.bounce_kind(some.line)
    return Block(
        "ID_UNDELIVERED_LOG",
        len(some),
        (
            Field("ID_MESSAGE", (positions.text(account.id_message),)),
            Field("ID_SEND", (positions.text(account.id_send),)),
            Field("ID_SEND_MESSGE", (as_text(draws.key),)),
            Field("ID_EMAIL", (draws.id_email,)),
            Field("ID_USER_LIST", (positions.text(records.user_list),)),
            Field("ID_UNDELIVERED_LOG", (as_text(_keys(account, some, draws)),)),
            Field("EMAIL", draws.email),
            Group(texts.logged_bounces, kind),
            Field("CAMPAIGN_NAME", (Choice(texts.campaigns, _of_send(positions, account.id_message)),)),
            Field("SUBJECT", (Choice(texts.subjects, _of_send(positions, lambda n: n)),)),
        ),
    )


def _responses(account: Account, some: Entries, draws: Draws) -> Block:
    texts, positions = account.banks, draws.positions
    own = draws.fate(5, some.line)
    first = pc.equal(some.line, word(0))
    # The first response is the opening; those after it are what the bank says.
    link = choose(first, word(0), bits(own, 0, 6))
    return Block(
        "ID_log",
        len(some),
        (
            Field("date", (records.dates(_answered_s(account, some, draws, own)),)),
            Field("email", draws.email),
            Field("ID_email", (draws.id_email,)),
            Field("ID_user_list", (positions.text(records.user_list),)),
            Field("ID_message", (positions.text(account.id_message),)),
            Field("ID_send", (positions.text(account.id_send),)),
            Field("ID_send_message", (as_text(draws.key),)),
            Field("ID_log", (as_text(_keys(account, some, draws)),)),
            Group(texts.origins, draws.origin),
            Group(texts.responses, link),
            Group(texts.visits, bits(own, 8, 8)),
        ),
    )


def _answered_s(account: Account, some: Entries, draws: Draws, own: pa.UInt64Array) -> pa.UInt64Array:
    after = pc.add(bits(own, 16, 17), pc.multiply(some.line, word(2**17)))
    at = pc.add(after, draws.positions.number(account.date_s))
    if account.spec.awkward:
        at = choose(pc.equal(bits(own, 40, 5), word(0)), word(ZERO_DATE_S), at)
    return at


def _of_send(positions: Positions, number: Callable[[int], int]) -> pa.UInt64Array:
    """A place in a bank of names for each record, the same for all of a send."""
    numbers = positions.number(lambda ordinal: number(ordinal) % banks.NAMES)
    return pc.add(pc.multiply(positions.index, word(0)), numbers)


__all__ = ["Entries", "blocks", "entries"]
