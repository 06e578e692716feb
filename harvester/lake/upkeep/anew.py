"""A ledger made anew from nothing but data files.

It is built beside, and gets its name when it is whole and every file is where it says. What is interrupted can be begun
again: until then there is no ledger, or the one that can't be used.
"""

from __future__ import annotations

from itertools import islice
from typing import TYPE_CHECKING

from harvester.config import PartitionBy, TableFormat
from harvester.lake import layout
from harvester.lake.formats.choosing import found_in, logs_of
from harvester.lake.formats.moved import files_before, made_elsewhere
from harvester.lake.inventory import Inventory
from harvester.lake.ledger import Ledger
from harvester.lake.ledgers.tables import facts
from harvester.lake.upkeep.rebuilding import Aside, Part, Rebuilt, rebuilt
from harvester.lake.upkeep.restoring import name_campaigns, put_files_right, put_slices
from harvester.lake.upkeep.salvaging import NO_SENDS, Reader, folders, likely_origin
from harvester.lake.upkeep.sharesalvage import Salvage

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from collections.abc import Set as AbstractSet
    from datetime import datetime

    from harvester.config import TableChoice
    from harvester.lake.ledgers.database import Database
    from harvester.lake.ledgers.place import LedgerPlace
    from harvester.lake.upkeep.restoring import AsideFolder
    from harvester.lake.upkeep.salvaging import Recovered
    from harvester.model import SliceKey

    Tick = Callable[[], object]

_BATCH = 200


class Anew:
    """A ledger made anew, in place of one that is lost or can't be used."""

    def __init__(self, place: LedgerPlace, done: Recovered, tick: Tick, now: datetime, aside: AsideFolder) -> None:
        """``aside`` takes what can't stay."""
        self._place = place
        self._store = store = place.store
        self._done = done
        self._reader = Reader(store, done, tick, now)
        self._aside = aside
        self._elsewhere: list[Aside] = []
        self._salvage = Salvage(store, done, tick, now)
        self._table = found_in(store)
        self._live: AbstractSet[str] = frozenset()

    def run(self) -> None:
        """Makes it, and puts it in place. Raises LakeError. Blocking."""
        store, done = self._store, self._done
        done.account, done.redaction = likely_origin(store)
        if self._table is not None:
            self._live = frozenset[str]().union(*self._held(self._table))
        self._salvage.look(self._live)
        with self._place.made_anew() as database:
            to_move = self._fill(database)
        for found in to_move:
            put_files_right(store, self._aside, found)
        self._elsewhere += self._salvage.aside
        for file in self._elsewhere:
            self._aside.take(file.name)
        done.aside += self._elsewhere
        for name in list(store.names(layout.SEGMENTS)):
            self._aside.take(name)
            done.segments += 1
        done.kept = self._place.put_in_place(self._aside.take)

    def _held(self, chosen: TableChoice) -> Iterator[AbstractSet[str]]:
        """The data files that each table holds; of tables that were made where the lake was before, too."""
        for name, log in logs_of(self._store, chosen, lambda: PartitionBy.SEND).items():
            moved = chosen.format is TableFormat.ICEBERG and made_elsewhere(self._store, name) is not None
            yield files_before(self._store, name) if moved else log.look().files

    def _fill(self, database: Database) -> list[Rebuilt]:
        """Writes every slice that has files into the ledger. Returns those some of whose files are to be moved."""
        to_move: list[Rebuilt] = []
        slices = self._reader.read(self._keys())
        while batch := [rebuilt(key, found, self._in_table(found)) for key, found in islice(slices, _BATCH)]:
            with database.writing() as connection:
                put_slices(connection, [found for found in batch if found.was_there], {})
            for found in batch:
                if found.was_there:
                    self._done.note(found)
                else:
                    self._done.aside += found.aside
                if found.aside or found.renamed:
                    to_move.append(found)
        by = self._salvage.by
        if by is not None:
            self._salvage.fill(database, Ledger(database), Inventory(database))
        with database.writing() as connection:
            name_campaigns(connection)
            told = {"account": self._done.account, "redaction": self._done.redaction, "partition_by": by and by.value}
            told["table"] = self._table.format.value if self._table is not None else None
            for name, value in told.items():
                if value is not None:
                    connection.execute(facts.insert().values(name=name, value=value))
        return to_move

    def _in_table(self, found: Iterable[Part | Aside]) -> set[str]:
        """Of these files, the checksums of those that a table holds: others may be there for its earlier states."""
        return {one.checksum for one in found if isinstance(one, Part) and one.name in self._live}

    def _keys(self) -> Iterator[SliceKey]:
        for key, name in folders(self._store):
            if key is not None:
                yield key
            elif name.endswith(".parquet"):
                self._elsewhere.append(Aside(name, NO_SENDS))


__all__ = ["Anew"]
