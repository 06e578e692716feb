"""Scopes in the ledger: walks over more than one send, and the slices that they feed.

Nouns: a *scope* is a campaign or the whole account, walked once for many sends; its *members* are the slices that it
feeds. Each of them has a cursor of its own all the same, at its last row.

Invariant: of a member, the lake holds every row up to its scope's cursor, since one transaction commits both
(``Ledger.advance``); where a scope has several cursors, up to the first page that waits (``waiting``). What breaks that
for a slice, such as a segment that is lost, takes it out of its scope; then it goes on by itself, from its own cursor.
So a scope can be given up at any time, and nothing is doubled or left out.

Everything here is blocking: call it from a worker thread.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any

import sqlalchemy as sa

from harvester.datasets import MESSAGES
from harvester.lake.entries import key_range_of
from harvester.lake.ledgers.dialects import Among, total
from harvester.lake.ledgers.tables import as_text, range_values, ranges, scope_ranges, scopes, segments, slices
from harvester.lake.waiting import drop_scopes, put_page, put_ranges_of, take_page
from harvester.lake.wide import KnownSend, Member, ScopeRecord
from harvester.model import KeyRange, Proof

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Mapping, Sequence

    from harvester.lake.ledgers.database import Database
    from harvester.lake.wide import ScopeStep

_BATCH = 1000


_WALKED = sa.exists().where(ranges.c.slice_id == slices.c.id)
_MINE = slices.c.scope == sa.bindparam("of_scope")
_AMONG = Among(slices.c.id_send)


def _fresh(run: int) -> sa.ColumnElement[bool]:
    """Slices of messages that are wanted, and of which nothing was ever asked."""
    untouched = slices.c.proof.is_(None) & slices.c.checked_at.is_(None) & (slices.c.rows == 0) & (slices.c.due == 0)
    mine = (slices.c.run == run) & (slices.c.dataset == MESSAGES.name) & slices.c.scope.is_(None)
    return mine & untouched & sa.not_(_WALKED)


@dataclass(frozen=True, slots=True)
class Scopes:
    """Scopes that are walked, and their members."""

    database: Database

    # --- which there are

    def resume(self, run: int, *, keep: bool) -> list[str]:
        """Decides which scopes of earlier runs go on: those with members that are wanted still, or none.

        What this run does not want, or is to refresh, leaves its scope. Returns the names of files, for removal.
        """
        gone = (slices.c.run != run) | (slices.c.due > 0) if keep else sa.true()
        with self.database.writing() as connection:
            connection.execute(slices.update().where(slices.c.scope.is_not(None) & gone).values(scope=None))
            fed = sa.exists().where(slices.c.scope == scopes.c.id)
            return drop_scopes(connection, sa.not_(fed))

    def sends(self, run: int) -> Iterator[KnownSend]:
        """Every send that the ledger knows the messages of; not to be stopped half-way."""
        settled = slices.c.proof.is_not(None) | (slices.c.expected < slices.c.rows)
        size = sa.case((settled, slices.c.rows), else_=slices.c.expected)
        query = sa.select(slices.c.id_message, size, _fresh(run)).where(slices.c.dataset == MESSAGES.name)
        with self.database.instant() as connection:
            for id_message, rows, fresh in connection.execution_options(yield_per=_BATCH).execute(query):
                yield KnownSend(id_message, rows, bool(fresh))

    def begin(self, run: int, campaigns: Collection[int] | None, limit: int) -> None:
        """Begins to walk these campaigns, or the account if None, for all sends of theirs that are fresh."""
        beginning = range_values(KeyRange(limit=limit)) | {"ended": 0}
        with self.database.writing() as connection:
            before = connection.scalar(sa.select(sa.func.coalesce(sa.func.max(scopes.c.id), 0))) or 0
            many: Sequence[int | None] = [None] if campaigns is None else sorted(campaigns)
            if not many:
                return
            connection.execute(scopes.insert(), [beginning | {"id_message": one} for one in many])
            new = sa.select(scopes.c.id).where(scopes.c.id > before)
            if campaigns is not None:
                new = new.where(scopes.c.id_message == slices.c.id_message)
            number = new.scalar_subquery()
            connection.execute(slices.update().where(_fresh(run) & number.is_not(None)).values(scope=number))

    def take(self, after: int, count: int) -> list[ScopeRecord]:
        """The next scopes whose walks go on, by number."""
        query = sa.select(scopes).where((scopes.c.id > after) & (scopes.c.ended == 0)).order_by(scopes.c.id)
        return self._records(query.limit(count))

    def numbers(self) -> list[tuple[int, bool]]:
        """All scopes, by number; and whether their walks have ended, though not all of their members are seen to."""
        with self.database.reading() as connection:
            rows = connection.execute(sa.select(scopes.c.id, scopes.c.ended).order_by(scopes.c.id))
            return [(number, bool(ended)) for number, ended in rows]

    def _records(self, query: sa.Select[Any]) -> list[ScopeRecord]:
        with self.database.reading() as connection:
            rows = connection.execute(query).mappings().all()
            sizes = _sizes(connection, [row["id_message"] for row in rows])
            return [_record(connection, row, sizes) for row in rows]

    def has_any(self) -> bool:
        """Whether there are any."""
        with self.database.reading() as connection:
            return bool(connection.scalar(sa.select(sa.exists().select_from(scopes))))

    # --- members

    def members(self, scope: int, ids: Sequence[int]) -> dict[int, Member]:
        """The scope's members among these sends, by ``id_send``."""
        query = sa.select(slices, ranges.c.held, ranges.c.anchors).join_from(slices, ranges, isouter=True).where(_MINE)
        with self.database.reading() as connection:
            query = query.where(_AMONG.on(connection))
            values = {"of_scope": scope, "listed": _AMONG.value(connection, ids)}
            rows = connection.execute(query, values).mappings().all()
        return {row["id_send"]: _member(row) for row in rows}

    def has_open(self, scope: int, *, beside_empty: bool) -> bool:
        """Whether members are left that nothing but the walk's own end can prove, or not even that.

        ``beside_empty``: those that a proven list says are empty don't count.
        """
        reached = slices.c.rows.is_not_distinct_from(slices.c.expected) & (slices.c.rows > 0)
        left = _MINE & slices.c.proof.is_(None) & sa.not_(reached)
        if beside_empty:
            left &= slices.c.listed.is_distinct_from(0)
        with self.database.reading() as connection:
            return bool(connection.scalar(sa.select(sa.exists().where(left)), {"of_scope": scope}))

    def full(self, slice_ids: Sequence[int], full_bytes: float) -> list[int]:
        """Those of these slices whose segments make a data file of the target size."""
        mine = segments.c.slice_id.in_(slice_ids) & segments.c.data_file_id.is_(None) & segments.c.change.is_(None)
        size = total(segments.c.bytes)
        query = sa.select(segments.c.slice_id).where(mine).group_by(segments.c.slice_id).having(size >= full_bytes)
        with self.database.reading() as connection:
            return list(connection.scalars(query))

    # --- how they end

    def end(self, scope: int) -> None:
        """Notes that a scope's walk has ended."""
        with self.database.writing() as connection:
            connection.execute(scopes.update().where(scopes.c.id == scope).values(ended=1))

    def settle(self, scope: int, now: datetime) -> list[int] | None:
        """Sees to some members of a scope whose walk has ended; they leave it. Call it until it returns None.

        Nothing may wait any more.

        What has rows is complete, unless they contradict its ``SEND_COUNT``; so is what has none, by a proven list.
        Anything else goes on by itself.

        Returns:
            The numbers of slices that are complete now, and are to be sealed; None if none were left.
        """
        with self.database.writing() as connection:
            some = connection.execute(sa.select(slices).where(_MINE).limit(_BATCH), {"of_scope": scope})
            rows = some.mappings().all()
            if not rows:
                drop_scopes(connection, scopes.c.id == scope)
                return None
            proven = [(row["id"], why) for row in rows if row["proof"] is None and (why := _why(row)) is not None]
            if proven:
                checked = {"error": None, "gave_up": 0, "checked_run": slices.c.run, "checked_at": as_text(now)}
                change = slices.update().where(slices.c.id == sa.bindparam("number"))
                change = change.values(checked | {"proof": sa.bindparam("why")})
                connection.execute(change, [{"number": number, "why": why.value} for number, why in proven])
            numbers = [row["id"] for row in rows]
            connection.execute(slices.update().where(slices.c.id.in_(numbers)).values(scope=None))
        return [number for number, _ in proven]

    def give_up(self, scope: int) -> list[str]:
        """Ends a scope before its time: its members go on by themselves, each from its own cursor.

        Returns the names of files, for removal.
        """
        with self.database.writing() as connection:
            connection.execute(slices.update().where(slices.c.scope == scope).values(scope=None))
            return drop_scopes(connection, scopes.c.id == scope)


def put_step(connection: sa.Connection, step: ScopeStep) -> None:
    """Writes what a page changes for its scope, in the transaction that commits the page's rows."""
    if step.key_ranges:
        put_ranges_of(connection, step.id, step.key_ranges)
        values = {"ended": int(step.ended), "walked": scopes.c.walked + step.records}
        connection.execute(scopes.update().where(scopes.c.id == step.id).values(values))
    if step.waits is not None:
        put_page(connection, step.id, step.waits)
    if step.routed is not None:
        take_page(connection, step.routed)
    if step.left:
        connection.execute(slices.update().where(slices.c.id.in_(step.left)).values(scope=None))


def _sizes(connection: sa.Connection, campaigns: Sequence[int | None]) -> dict[int | None, int]:
    """How many messages the sends of these campaigns have, and those of the account by None, as far as they say."""
    size = total(sa.case((slices.c.expected > slices.c.rows, slices.c.expected), else_=slices.c.rows))
    messages = slices.c.dataset == MESSAGES.name
    query = sa.select(slices.c.id_message, size).where(messages & slices.c.id_message.in_(campaigns))
    of_campaigns = connection.execute(query.group_by(slices.c.id_message))
    found: dict[int | None, int] = {id_message: rows for id_message, rows in of_campaigns}  # noqa: C416  a Row each
    if None in campaigns:
        found[None] = connection.scalar(sa.select(size).where(messages)) or 0
    return found


def _record(connection: sa.Connection, row: sa.RowMapping, sizes: Mapping[int | None, int]) -> ScopeRecord:
    further = sa.select(scope_ranges).where(scope_ranges.c.scope_id == row["id"]).order_by(scope_ranges.c.start)
    return ScopeRecord(
        id=row["id"],
        id_message=row["id_message"],
        key_ranges=tuple(key_range_of(one) for one in (row, *connection.execute(further).mappings())),
        ended=bool(row["ended"]),
        walked=row["walked"],
        expected=sizes.get(row["id_message"]) or None,
    )


def _member(row: sa.RowMapping) -> Member:
    since = row["sent_at"] or row["first_seen"]
    return Member(
        slice_id=row["id"],
        rows=row["rows"],
        expected=row["expected"],
        complete=row["proof"] is not None,
        held=row["held"],
        anchors=tuple(map(int, row["anchors"].split())) if row["anchors"] else (),
        since=datetime.fromisoformat(since) if since else None,
    )


def _why(row: sa.RowMapping) -> Proof | None:
    if not row["rows"]:
        return Proof.EMPTY if row["listed"] == 0 else None
    if row["expected"] is None:
        return Proof.TAIL
    return Proof.COUNT if row["rows"] == row["expected"] else None


__all__ = ["Scopes", "put_step"]
