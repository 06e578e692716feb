"""Runs in the ledger: which one is on, what it has selected, and what of that is due for refreshing.

Nouns: *resuming* runs are those that were not let come to their end, and the one after them: together they do what one
undisturbed run would have done, and ask nothing twice.

Everything here is blocking: call it from a worker thread.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from itertools import islice
from typing import TYPE_CHECKING, Any

import sqlalchemy as sa

from harvester.config import PartitionBy, Refresh, TableChoice, TableFormat
from harvester.datasets import CATALOGUE, MESSAGES
from harvester.errors import LakeError
from harvester.lake.entries import Due, Held, Tally
from harvester.lake.ledgers.dialects import total, upsert
from harvester.lake.ledgers.tables import (
    PUT_FACT,
    as_text,
    data_files,
    erased,
    facts,
    ranges,
    refreshes,
    scope_ranges,
    scope_segments,
    scopes,
    segments,
    shared_files,
    shares,
    slices,
    superseded,
)
from harvester.redaction import in_words

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from harvester.lake.ledgers.database import Database
    from harvester.model import Send

_BATCH = 1000
_SEND = PartitionBy.SEND.value
_ASKED_LATELY = timedelta(days=1)
_HOLDS_ANYTHING = sa.select(
    sa.exists().where((slices.c.rows > 0) | slices.c.proof.is_not(None))
    | sa.exists().select_from(segments)
    | sa.exists().select_from(scope_segments)
    | sa.exists().select_from(data_files)
    | sa.exists().select_from(shared_files)
)


@dataclass(frozen=True, slots=True)
class Runs:
    """Runs and their selections."""

    database: Database

    def begin(self, account: str, redaction: str = "", partition_by: str | None = None) -> int:
        """Notes that a run of this account begins, and gives it a number. Raises LakeError for another's lake.

        A lake that holds nothing is nobody's, whatever client id was tried with it. The same holds for what is done to
        people's data, ``redaction`` by its label, and for what the lake is partitioned by: a lake that holds anything
        stays as it was begun. ``partition_by`` is None for whatever that is; for sends in a new lake.
        """
        with self.database.writing() as connection:
            known = {row.name: row.value for row in connection.execute(sa.select(facts.c.name, facts.c.value))}
            if partition_by is None:
                partition_by = known.get("partition_by", _SEND) if connection.scalar(_HOLDS_ANYTHING) else _SEND
            before = (known.get("account", account), known.get("redaction", ""), known.get("partition_by", _SEND))
            others = before != (account, redaction, partition_by)
            if others and not connection.scalar(_HOLDS_ANYTHING):
                for table in (ranges, refreshes, erased, scope_segments, scope_ranges, scopes, superseded, slices):
                    connection.execute(table.delete())
                connection.execute(facts.delete().where(facts.c.name.in_(("borne", "admitted"))))
                known = {"run": known.get("run", "0")}
            if known.get("account", account) != account:
                message = (
                    f"this lake was harvested from the account {known['account']}, not {account}; "
                    "use another folder for it"
                )
                raise LakeError(message)
            if (kept := known.get("redaction", "")) != redaction and connection.scalar(_HOLDS_ANYTHING):
                message = (
                    f"this lake was harvested {in_words(kept)}, and this run is {in_words(redaction)}: what one has "
                    "taken out, the other would put beside it. Say the same as before, or use another folder"
                )
                raise LakeError(message)
            kept = known.get("partition_by", _SEND)
            if kept != partition_by and connection.scalar(_HOLDS_ANYTHING):
                message = (
                    f"this lake is partitioned by {kept}, and this run would partition it by {partition_by}: leave "
                    "--partition-by out, or use another folder"
                )
                raise LakeError(message)
            run = int(known.get("run", 0)) + 1
            _put_facts(
                connection,
                account=account,
                redaction=redaction,
                partition_by=partition_by,
                run=run,
                last_run=datetime.now(UTC).isoformat(timespec="seconds"),
                since_run=_since_run(known),
                ended_run=known.get("ended_run", 0),
            )
        return run

    def end(self, run: int) -> None:
        """Notes that a run came to its own end, so that the next one does not resume it."""
        with self.database.writing() as connection:
            _put_facts(connection, ended_run=run)
            connection.execute(facts.delete().where(facts.c.name == "admitted"))

    def account(self) -> str | None:
        """Whose lake it is, by client id; None before its first run."""
        with self.database.reading() as connection:
            return connection.scalar(sa.select(facts.c.value).where(facts.c.name == "account"))

    def redaction(self) -> str:
        """What is done to people's data: a label, empty where nothing is."""
        with self.database.reading() as connection:
            return connection.scalar(sa.select(facts.c.value).where(facts.c.name == "redaction")) or ""

    def partition_by(self) -> PartitionBy:
        """What the lake is partitioned by."""
        with self.database.reading() as connection:
            return PartitionBy(
                connection.scalar(sa.select(facts.c.value).where(facts.c.name == "partition_by")) or _SEND
            )

    def table(self) -> TableChoice | None:
        """Which tables the lake has; None if it has none."""
        known = self._facts()
        return TableChoice(TableFormat(known["table"]), known.get("catalog")) if "table" in known else None

    def begin_table(self, chosen: TableChoice) -> None:
        """Notes that the lake has tables from now on."""
        with self.database.writing() as connection:
            _put_facts(connection, table=chosen.format.value)
            if chosen.catalog is not None:
                _put_facts(connection, catalog=chosen.catalog)

    def last(self) -> datetime | None:
        """When the last run began, in UTC."""
        with self.database.reading() as connection:
            text = connection.scalar(sa.select(facts.c.value).where(facts.c.name == "last_run"))
        return datetime.fromisoformat(text) if text else None

    def select(self, run: int, sends: Iterable[Send], datasets: Sequence[str], now: datetime) -> None:
        """Makes the sends' slices this run's selection. Reads ``sends`` as a stream, a thousand at a time.

        A slice that is complete with fewer rows than a new ``SEND_COUNT`` says is complete no more: it has grown.
        """
        rest = iter(sends)
        seen = now.isoformat(" ", "seconds")
        while batch := list(islice(rest, _BATCH)):
            rows = [
                {
                    "dataset": dataset,
                    "id_send": send.id_send,
                    "id_message": send.id_message,
                    "sent_at": send.sent_at.isoformat(" ") if send.sent_at else None,
                    "expected": send.expected if CATALOGUE[dataset].counted else None,
                    "listed": send.expected if send.proven else None,
                    "first_seen": seen,
                    "run": run,
                }
                for send in batch
                for dataset in datasets
            ]
            with self.database.writing() as connection:
                connection.execute(_SELECT.on(connection), rows)

    def mark_due(self, run: int, policy: Refresh, within_s: float, now: datetime) -> None:
        """Decides what of the run's selection is due for refreshing. Call it once everything is selected.

        What was due for an earlier run, and was not refreshed by it, stays due. A slice that an interrupted run, which
        this one resumes, completed or refreshed within the last day is not due: what was asked once is not asked again.

        Args:
            run: the run.
            policy: which slices are due at all.
            within_s: slices of sends younger than this are due, under the policy ``DUE``; in seconds.
            now: the time, without a zone, in UTC.
        """
        selected = slices.c.run == run
        with self.database.writing() as connection:
            owed = sa.func.abs(slices.c.due)
            left = -owed if policy is Refresh.NEVER else owed
            connection.execute(slices.update().where(selected & (slices.c.due != 0)).values(due=left))
        if policy is Refresh.NEVER:
            return
        rule = _rule(policy, within_s, now)
        with self.database.writing() as connection:
            since_run = connection.scalar(sa.select(facts.c.value).where(facts.c.name == "since_run"))
            due = selected & rule.due & sa.not_(_just_done(int(since_run or run), now))
            value = sa.case((rule.in_full, int(Due.ALL)), else_=int(Due.UNSETTLED))
            connection.execute(slices.update().where(due).values(due=value))
            # What has no rows has nothing to refresh: it is asked anew, up to a proof.
            empty = selected & (slices.c.due > 0) & (slices.c.rows == 0)
            connection.execute(slices.update().where(empty).values(due=0, proof=None, digest=None))

    def unlisted(self, run: int, campaigns: Sequence[int] | None, since: str, until: str) -> list[int]:
        """Sends that are known and that this run's list lacks, at most a thousand of them.

        Args:
            run: the run.
            campaigns: whose sends the list should hold; None for those of the whole account.
            since: the first day of the list, as ``YYYY-MM-DD``.
            until: the last one. A send whose date is not known is taken to lie within.
        """
        day = sa.func.substr(sa.func.coalesce(slices.c.sent_at, slices.c.newest, since), 1, len(since))
        listed = slices.alias()
        in_list = sa.exists().where((listed.c.id_send == slices.c.id_send) & (listed.c.run == run))
        lacking = (day >= since) & (day <= until) & sa.not_(in_list)
        if campaigns is not None:
            lacking &= slices.c.id_message.in_(campaigns)
        query = sa.select(slices.c.id_send).where(lacking).distinct().order_by(slices.c.id_send).limit(_BATCH)
        with self.database.reading() as connection:
            return list(connection.scalars(query))

    def held(self, ids: Sequence[int], policy: Refresh, within_s: float, now: datetime) -> dict[tuple[str, int], Held]:
        """What the lake holds of some sends, by dataset and ``ID_send``, and what of it a run would refresh now.

        Arguments are those of ``mark_due``.
        """
        due: sa.ColumnElement[int] = sa.literal(0)
        if policy is not Refresh.NEVER:
            rule, known = _rule(policy, within_s, now), self._facts()
            asked = rule.due & sa.not_(_just_done(_since_run(known), now))
            due = sa.case(
                (asked & rule.in_full, int(Due.ALL)), (asked, int(Due.UNSETTLED)), else_=sa.func.abs(slices.c.due)
            )
        columns = (slices.c.dataset, slices.c.id_send, slices.c.rows, slices.c.proof, slices.c.expected)
        waiting = sa.select(sa.func.coalesce(total(data_files.c.rows), 0)).where(
            (data_files.c.slice_id == slices.c.id) & (data_files.c.unsettled > 0)
        )
        shared = sa.select(sa.func.coalesce(total(shares.c.rows), 0)).where(
            (shares.c.slice_id == slices.c.id) & (shares.c.unsettled > 0)
        )
        both = waiting.scalar_subquery() + shared.scalar_subquery()
        query = sa.select(*columns, due.label("due"), both.label("waiting"))
        with self.database.reading() as connection:
            return {
                (row.dataset, row.id_send): Held(
                    row.rows, row.proof is not None, row.expected, Due(row.due), row.waiting
                )
                for row in connection.execute(query.where(slices.c.id_send.in_(ids)))
            }

    def _facts(self) -> dict[str, str]:
        with self.database.reading() as connection:
            return {row.name: row.value for row in connection.execute(sa.select(facts.c.name, facts.c.value))}

    def tally(self, run: int) -> dict[str, Tally]:
        """Counts of the run's selection, by dataset."""
        query = (
            sa.select(
                slices.c.dataset,
                sa.func.count(),
                total(sa.case((slices.c.proof.is_not(None) & (slices.c.due <= 0), 1), else_=0)),
                total(slices.c.gave_up),
                total(slices.c.rows),
                total(slices.c.expected),
                sa.func.count(slices.c.expected),
            )
            .where(slices.c.run == run)
            .group_by(slices.c.dataset)
        )
        with self.database.reading() as connection:
            return {
                name: Tally(count, complete, gave_up, rows, int(expected) if known == count else None)
                for name, count, complete, gave_up, rows, expected, known in connection.execute(query)
            }


def _selected(new: Mapping[str, sa.ColumnElement[Any]]) -> Mapping[str, Any]:
    """What selecting changes of a slice that is known already."""
    known = {name: sa.func.coalesce(new[name], slices.c[name]) for name in ("id_message", "sent_at", "expected")}
    grown = (new["expected"] > slices.c.rows) & new["expected"].is_distinct_from(slices.c.expected)
    return known | {
        "run": new["run"],
        "queries": 0,
        "changed": 0,
        "gave_up": 0,
        "error": None,
        "listed": new["listed"],
        "proof": sa.case((grown, None), else_=slices.c.proof),
    }


_SELECT = upsert(slices, ["dataset", "id_send"], _selected)


@dataclass(frozen=True, slots=True)
class _Rule:
    """Which slices are due, and which of those in full."""

    due: sa.ColumnElement[bool]
    in_full: sa.ColumnElement[bool]


def _rule(policy: Refresh, within_s: float, now: datetime) -> _Rule:
    of_messages = slices.alias()
    messages = (of_messages.c.id_send == slices.c.id_send) & (of_messages.c.dataset == MESSAGES.name)
    newest = sa.select(of_messages.c.newest).where(messages).scalar_subquery()
    sent = sa.func.coalesce(slices.c.sent_at, newest, slices.c.newest, slices.c.first_seen)
    unsettled = sa.exists().where(messages & (of_messages.c.unsettled > 0))
    young = sent > as_text(now - timedelta(seconds=within_s))
    begun = sa.exists().where((refreshes.c.slice_id == slices.c.id) & (refreshes.c.in_full == 1))
    others = slices.c.dataset != MESSAGES.name
    asked, in_full = {
        Refresh.ALL: (sa.true(), sa.true()),
        Refresh.UNSETTLED: (unsettled, others),
        Refresh.DUE: (unsettled | young, young | others),
    }[policy]
    known = slices.c.proof.is_not(None) | slices.c.checked_at.is_not(None)  # complete, or it was before it grew
    return _Rule(known & asked, in_full | begun | (slices.c.due == int(Due.ALL)))


def _just_done(since_run: int, now: datetime) -> sa.ColumnElement[bool]:
    lately = slices.c.checked_at > as_text(now - _ASKED_LATELY)
    return sa.func.coalesce((slices.c.checked_run >= since_run) & lately, sa.false())


def _since_run(known: Mapping[str, str]) -> int:
    """The first of the runs that the next run resumes; the next run itself if it resumes none."""
    last = int(known.get("run", 0))
    resumes = "ended_run" in known and int(known["ended_run"]) != last
    return int(known.get("since_run", last + 1)) if resumes else last + 1


def _put_facts(connection: sa.Connection, **values: object) -> None:
    connection.execute(PUT_FACT.on(connection), [{"name": name, "value": str(value)} for name, value in values.items()])


__all__ = ["Runs"]
