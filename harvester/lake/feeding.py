"""Feeding: the slices of a run that are to be asked, some sends at a time, in the order in which they are to be begun.

That order is ``harvester.harvest.order``'s: what an earlier run has begun, then sends known to be large, the largest
first, sends of unknown size, and small ones. Each part is read along an index from where the last reading ended, so
that a reading takes no longer with more sends, and nothing is held of those that are not read yet.

Everything here is blocking: call it from a worker thread.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import sqlalchemy as sa

from harvester.datasets import CATALOGUE, MESSAGES
from harvester.lake.entries import Due
from harvester.lake.ledgers.tables import refreshes, slices

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from harvester.lake.entries import SliceRecord
    from harvester.lake.ledger import Ledger

_BATCH = 1000
_others = slices.alias()
_PAGED = [name for name, dataset in CATALOGUE.items() if dataset.paged]
_FED_BESIDE = sa.exists().where(
    (_others.c.id_send == slices.c.id_send)
    & (_others.c.dataset == MESSAGES.name)
    & _others.c.scope.is_not(None)
    & _others.c.proof.is_(None)
)
_FED = slices.c.scope.is_not(None) & slices.c.proof.is_(None) | slices.c.dataset.not_in(_PAGED) & _FED_BESIDE
"""What a scope feeds, or may prove with what it feeds."""
_COUNTED = tuple(name for name, dataset in CATALOGUE.items() if dataset.counted)


class _Reached(NamedTuple):
    """The last send that was read of a part: its size, which is None where that does not matter, and its id."""

    expected: int | None = None
    id_send: int = -1


class Wanted(NamedTuple):
    """A slice that is to be asked: its dataset's name, its size where known, rows held, and what is to be refreshed."""

    dataset: str
    expected: int | None
    rows: int
    due: Due


class Feeding:
    """Hands out the slices of a run's selection that are incomplete, or due for refreshing.

    Slices that a scope feeds (``scopes``) are not among them; nor are unpaged ones whose proof may need those.

    What is handed out may be so once more, as long as it is neither complete nor given up.
    """

    def __init__(self, ledger: Ledger, run: int, limit: int) -> None:
        """Sends of ``limit`` messages or more are large: one query does not bring them."""
        self._ledger = ledger
        incomplete = slices.c.proof.is_(None)
        selected = (slices.c.run == run) & (incomplete | (slices.c.due > 0)) & (slices.c.gave_up == 0)
        self._foretold = selected & (slices.c.scope.is_(None) | slices.c.proof.is_not(None))
        self._wanted = selected & sa.not_(_FED)
        counted = slices.c.dataset.in_(_COUNTED)
        self._order: list[Callable[[_Reached, int], list[_Reached]]] = [
            lambda reached, most: self._by_send(_begun(run), reached, most),
            lambda reached, most: self._by_size(slices.c.expected >= limit, reached, most),
            lambda reached, most: self._by_send(counted & slices.c.expected.is_(None), reached, most),
            lambda reached, most: self._by_size(slices.c.expected < limit, reached, most),
            lambda reached, most: self._by_send(sa.true(), reached, most),
        ]
        self.rewind()

    def rewind(self) -> None:
        """Begins anew with the first send: others may be wanted by now. It does not block."""
        self._parts = list(self._order)
        self._reached = _Reached()

    def take(self, sends: int) -> Sequence[SliceRecord]:
        """The slices of the next few sends, at most so many sends; nothing when all have been handed out."""
        while self._parts:
            found = self._parts[0](self._reached, sends)
            if found:
                self._reached = found[-1]
                return self._records([each.id_send for each in found])
            self._parts.pop(0)
            self._reached = _Reached()
        return []

    def sizes(self) -> Iterator[Wanted]:
        """Every slice that is to be handed out, as small as can be, read some at a time."""
        query = sa.select(slices.c.dataset, slices.c.expected, slices.c.rows, slices.c.due).where(self._foretold)
        with self._ledger.database.instant() as connection:
            for name, expected, rows, due in connection.execute(query.execution_options(yield_per=_BATCH)):
                yield Wanted(name, expected, rows, Due(max(0, due)))

    def _records(self, ids: list[int]) -> list[SliceRecord]:
        places = {id_send: place for place, id_send in enumerate(ids)}
        records = self._ledger.records(self._wanted & slices.c.id_send.in_(ids))
        return sorted(records, key=lambda record: places[record.key.id_send])

    def _by_send(self, condition: sa.ColumnElement[bool], reached: _Reached, most: int) -> list[_Reached]:
        """Sends one of whose wanted slices is so, in order of their ids."""
        after = self._wanted & condition & (slices.c.id_send > reached.id_send)
        query = sa.select(slices.c.id_send).where(after).distinct().order_by(slices.c.id_send).limit(most)
        return [_Reached(None, id_send) for id_send in self._read(query)]

    def _by_size(self, condition: sa.ColumnElement[bool], reached: _Reached, most: int) -> list[_Reached]:
        """Sends whose known size is so, the largest first; first what is left of the size that was read last."""
        size, id_send = slices.c.expected, slices.c.id_send
        known = self._wanted & condition
        query = sa.select(size, id_send)
        found: list[_Reached] = []
        with self._ledger.database.reading() as connection:
            if reached.expected is not None:
                same = self._wanted & (size == reached.expected) & (id_send > reached.id_send)
                of_same = query.where(same).order_by(id_send).limit(most)
                found = [_Reached(*row) for row in connection.execute(of_same)]
                known &= size < reached.expected
            if len(found) < most:
                rest = query.where(known).order_by(size.desc(), id_send).limit(most - len(found))
                found += [_Reached(*row) for row in connection.execute(rest)]
        return found

    def _read(self, query: sa.Select[Any]) -> list[int]:
        with self._ledger.database.reading() as connection:
            return list(connection.scalars(query))


def _begun(run: int) -> sa.ColumnElement[bool]:
    """Whether a slice is to be gone on with: it has rows, or an asking, or other slices of its send do."""
    other = slices.alias()
    same_send = (other.c.id_send == slices.c.id_send) & (other.c.run == run)
    something = (other.c.rows > 0) | other.c.proof.is_not(None) | other.c.digest.is_not(None)
    refreshing = sa.exists().where(refreshes.c.slice_id == slices.c.id)
    return (slices.c.proof.is_(None) & sa.exists().where(same_send & something)) | refreshing


__all__ = ["Feeding", "Wanted"]
