"""Puts records together: for any runs of an account, the parts that their fields are made of. Memory is a block's."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pyarrow as pa
import pyarrow.compute as pc

from harvester.simulator import banks
from harvester.simulator.account import Run
from harvester.simulator.draws import BLOCK_ROWS, NO_DATE_S, ZERO_DATE_S, Draws, Positions
from harvester.simulator.hashing import bits, choose, word
from harvester.simulator.parts import Block, Choice, Field, Group, as_text

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from harvester.simulator.account import Account

_PREVIEW = "https://u.mailkit.eu/user.fcgi/action,view_email/dc,{dc}/ds,{ds}/code,"


def dates(seconds: pa.UInt64Array) -> pa.StringArray:
    """Dates as the API writes them. Neighbouring records share most of them, so few are written out."""
    distinct = seconds.dictionary_encode()
    written = [_date(second) for second in distinct.dictionary.to_pylist() if second is not None]
    return pa.array(written, pa.string()).take(distinct.indices)


def _date(seconds: int) -> str:
    if seconds == NO_DATE_S:
        return ""
    return banks.ZERO_DATE if seconds == ZERO_DATE_S else banks.date_text(seconds)


def messages(account: Account, runs: tuple[Run, ...]) -> Block:
    """The messages of runs, in their order; at most ``BLOCK_ROWS``. Fields stand in the order of the vendor's page."""
    positions = Positions.of(runs)
    draws = Draws(account, positions)
    texts = account.banks
    campaign = positions.text(account.id_message)
    send = positions.text(account.id_send)
    preview = positions.text(lambda n: _PREVIEW.format(dc=account.id_message(n), ds=account.id_send(n)))
    return Block(
        "ID_send_message",
        len(positions.index),
        (
            Field("ID_message", (campaign,)),
            Field("ID_send", (send,)),
            Field("ID_send_message", (as_text(draws.key),)),
            Field("ID_user_list", (positions.text(user_list),)),
            Field("ID_email", (draws.id_email,)),
            Field("ID_template", (positions.text(lambda n: _template(account, n)),)),
            Field("type_message", ("email",)),
            Field("email", draws.email),
            Field("email_date", (Choice(texts.email_dates, draws.email_date),)),
            Field("message_date", (positions.text(lambda n: _message_date(account, n)),)),
            Field("date_sent", (dates(draws.sent_s),)),
            Group(texts.deliveries, draws.delivery),
            Group(texts.people, draws.profile),
            Field(
                "preview_url",
                (
                    preview,
                    Choice(texts.codes, bits(draws.third, 0, 12)),
                    Choice(texts.codes, bits(draws.third, 12, 12)),
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
    twice = failed.filter(_draws(account, ordinal, failed).bounces_twice)
    index = pa.concat_arrays([failed, twice])
    time = pa.concat_arrays([pa.repeat(word(0), len(failed)), pa.repeat(word(1), len(twice))])
    order = pc.sort_indices(_draws(account, ordinal, index).fate(3))
    order = order[: shortened(len(order), share)]
    index, time = index.take(order), time.take(order)
    for start in range(0, len(index), BLOCK_ROWS):
        yield _bounces(account, ordinal, index.slice(start, BLOCK_ROWS), time.slice(start, BLOCK_ROWS))


def shortened(count: int, share: float | None) -> int:
    """How many of ``count`` are left if a ``share`` is: not all, and at least one. All if there are but one or none."""
    return count if share is None or count <= 1 else 1 + int(share * (count - 1))


_NONE = pa.array([], pa.uint64())


def _draws(account: Account, ordinal: int, index: pa.UInt64Array) -> Draws:
    return Draws(account, Positions((ordinal,), None, index))


def _failed(account: Account, runs: tuple[Run, ...]) -> pa.UInt64Array:
    positions = Positions.of(runs)
    return positions.index.filter(pc.equal(Draws(account, positions).status, word(banks.FAILED)))


def _bounces(account: Account, ordinal: int, index: pa.UInt64Array, time: pa.UInt64Array) -> Block:
    draws = _draws(account, ordinal, index)
    fate = draws.bounce(time)
    kind = draws.bounce_kind(time)
    after = pc.add(bits(fate, 6, 12), pc.multiply(time, word(86_400)))
    at = pc.add(after, word(account.date_s(ordinal)))
    if account.spec.awkward:
        at = choose(pc.equal(bits(fate, 18, 4), word(0)), word(ZERO_DATE_S), at)
    return Block(
        "ID_SEND_MESSAGE",
        len(index),
        (
            Field("ID_SEND_MESSAGE", (as_text(draws.key),)),
            Field("ID_USER_LIST", (user_list(ordinal),)),
            Field("DATE", (dates(at),)),
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


def user_list(ordinal: int) -> str:
    """The mailing list of a send; now and then there is none."""
    return _in_turn(ordinal, (*(str(46_061 + number) for number in range(6)), ""))


def _template(account: Account, ordinal: int) -> str:
    """The template of a send; now and then there is none."""
    return _in_turn(ordinal, ("3858", "0003859" if account.spec.awkward else "3859", "3860", ""))


def _message_date(account: Account, ordinal: int) -> str:
    date = banks.date_text(account.date_s(ordinal))
    return _in_turn(ordinal, (date, date, banks.ZERO_DATE)) if account.spec.awkward else date


def _in_turn(ordinal: int, values: Sequence[str]) -> str:
    return values[ordinal % len(values)]


__all__ = ["BLOCK_ROWS", "Positions", "blocks", "bounces", "dates", "messages", "shortened", "user_list"]
