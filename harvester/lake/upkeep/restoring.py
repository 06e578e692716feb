"""Restoring a slice: what was rebuilt of it goes into a ledger, and what can't stay in its folder goes aside.

Files move first, and the ledger says so after: a crash in between leaves files that the ledger misses, which the next
recovery finds; the other way round, a run could put rows beside files that still hold them.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import sqlalchemy as sa

from harvester.lake import layout
from harvester.lake.ledgers.dialects import total, upsert
from harvester.lake.ledgers.tables import as_text, data_files, erased, range_values, ranges, refreshes, segments, slices
from harvester.model import SliceKey

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from harvester.lake.storage.store import Store
    from harvester.lake.upkeep.rebuilding import Part, Rebuilt


@dataclass(slots=True)
class AsideFolder:
    """The folder under ``_harvest/set-aside/`` of one recovery; made when the first file goes there.

    Attributes:
        store: the lake's files.
        name: the folder.
        files: how many went there.
    """

    store: Store
    name: str
    files: int = 0

    @classmethod
    def of_now(cls, store: Store, now: datetime) -> AsideFolder:
        """A folder that is not there yet, named by the time, in UTC."""
        stem = f"{layout.SET_ASIDE}/{now:%Y%m%dT%H%M%SZ}"
        taken = {name for name, _ in store.entries(layout.SET_ASIDE)}
        names = (stem if not number else f"{stem}-{number}" for number in range(len(taken) + 1))
        return cls(store, next(name for name in names if name.rpartition("/")[2] not in taken))

    def take(self, name: str) -> None:
        """Moves a file there; nothing if it is not there."""
        if self.store.size(name) is not None:
            self.store.move(name, layout.set_aside(name, self.name))
            self.files += 1


def put_files_right(store: Store, folder: AsideFolder, found: Rebuilt) -> None:
    """Moves what is not in the slice's chain aside, and gives misnamed parts their right names.

    A folder that never was a slice's goes, too; an empty one tells of a slice that had files.
    """
    for file in found.aside:
        folder.take(file.name)
    for name, right_name in found.renamed:
        store.move(name, right_name)
    if not found.was_there:
        store.remove_empty(layout.slice_folder(found.key))


def put_slices(connection: sa.Connection, found: Sequence[Rebuilt], gone: Mapping[str, int]) -> None:
    """Writes what was rebuilt, in place of what a ledger says of these slices' rows.

    Args:
        connection: a transaction.
        found: the slices, some hundreds at most.
        gone: rows that the source no longer serves, by the checksum of the file that holds them, where known.
    """
    if not found:
        return
    connection.execute(_RESTORE.on(connection), [_slice_row(one) for one in found])
    query = sa.select(slices.c.id, slices.c.dataset, slices.c.id_send)
    known = connection.execute(query.where(slices.c.id_send.in_({one.key.id_send for one in found})))
    ids = {SliceKey(row.dataset, row.id_send): row.id for row in known}
    numbered = [(ids[one.key], one) for one in found]
    _forget(connection, numbered)
    files = [
        _file_row(slice_id, part, dict(one.renamed).get(part.name, part.name), gone)
        for slice_id, one in numbered
        for part in one.parts
    ]
    if files:
        connection.execute(data_files.insert(), files)
    walks = [
        {"slice_id": slice_id, **range_values(one.key_range)} for slice_id, one in numbered if one.key_range is not None
    ]
    if walks:
        connection.execute(ranges.insert(), walks)
    of_files = sa.select(sa.func.coalesce(total(data_files.c.gone), 0)).where(data_files.c.slice_id == slices.c.id)
    of_erased = sa.select(sa.func.count()).select_from(erased).where(erased.c.slice_id == slices.c.id)
    gone_now = of_files.scalar_subquery() + of_erased.scalar_subquery()
    here = slices.c.id.in_([slice_id for slice_id, _ in numbered])
    connection.execute(slices.update().where(here).values(gone=gone_now))


def name_campaigns(connection: sa.Connection) -> None:
    """Slices whose rows do not name their campaign learn it from the send's other slices."""
    other = slices.alias()
    known = sa.select(sa.func.max(other.c.id_message)).where(other.c.id_send == slices.c.id_send).scalar_subquery()
    connection.execute(slices.update().where(slices.c.id_message.is_(None)).values(id_message=known))


def _forget(connection: sa.Connection, numbered: Sequence[tuple[int, Rebuilt]]) -> None:
    """Takes out what a ledger says of the slices' files and walks."""
    of_slice = erased.delete().where(
        (erased.c.slice_id == sa.bindparam("of_slice")) & (erased.c.key > sa.bindparam("held"))
    )
    kept = [
        {"of_slice": slice_id, "held": -1 if one.key_range is None else one.key_range.held}
        for slice_id, one in numbered
    ]
    connection.execute(of_slice, kept)
    ids = [slice_id for slice_id, _ in numbered]
    for table in (refreshes, segments, data_files, ranges):
        connection.execute(table.delete().where(table.c.slice_id.in_(ids)))
    # A walk over many sends has passed rows that are not there any more: such a slice goes on by itself.
    connection.execute(slices.update().where(slices.c.id.in_(ids)).values(scope=None))


_NEW = ("id_message", "expected", "first_seen")
"""Columns that keep what a ledger knows already."""
_FRESH = (
    *("proof", "rows", "unsettled", "overdue", "newest", "changed", "gave_up", "error", "digest", "due"),
    *("checked_run", "checked_at"),
)
"""Columns that say what was rebuilt."""


_RESTORE = upsert(
    slices,
    ["dataset", "id_send"],
    lambda new: {
        **{name: sa.func.coalesce(slices.c[name], new[name]) for name in _NEW},
        **{name: new[name] for name in _FRESH},
    },
)


def _slice_row(one: Rebuilt) -> dict[str, int | str | None]:
    contents = [part.contents for part in one.parts]
    campaigns = {found.id_message for found in contents}
    made = sorted(filter(None, (_utc(part.footer.harvested_at) for part in one.parts)))
    return {
        "dataset": one.key.dataset,
        "id_send": one.key.id_send,
        "run": 0,
        "id_message": campaigns.pop() if len(campaigns) == 1 else None,
        "expected": one.expected,
        "first_seen": made[0] if made else None,
        "proof": one.proof and one.proof.value,
        "rows": sum(part.rows for part in one.parts),
        "unsettled": sum(found.unsettled for found in contents),
        "overdue": sum(found.overdue for found in contents),
        "newest": max((found.newest for found in contents if found.newest), default=None),
        "changed": 0,
        "gave_up": 0,
        "error": None,
        "digest": None,
        "due": 0,
        "checked_run": 0,
        "checked_at": made[-1] if made and one.proof else None,
    }


def _file_row(slice_id: int, part: Part, name: str, gone: Mapping[str, int]) -> dict[str, int | str]:
    return {
        "slice_id": slice_id,
        "name": name,
        "rows": part.rows,
        "bytes": part.bytes,
        "unsettled": part.contents.unsettled,
        "overdue": part.contents.overdue,
        "first_key": part.contents.first_key,
        "last_key": part.contents.last_key,
        "start": part.footer.start,
        "stop": part.footer.stop,
        "generation": part.footer.generation,
        "checksum": part.checksum,
        "sealed": 1,
        "gone": gone.get(part.checksum, 0),
    }


def _utc(text: str) -> str | None:
    """A footer's time as the ledger writes it; None if it is none."""
    try:
        time = datetime.fromisoformat(text)
    except ValueError:
        return None
    return as_text(time.astimezone(UTC) if time.tzinfo else time)


__all__ = ["AsideFolder", "name_campaigns", "put_files_right", "put_slices"]
