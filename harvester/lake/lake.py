"""The lake as the harvest sees it: opened under a lock and put right, then staged into and sealed."""

from __future__ import annotations

from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from harvester.datasets import CATALOGUE, MESSAGES
from harvester.errors import LakeBroken
from harvester.lake import layout
from harvester.lake.bearing import Bearing
from harvester.lake.choosing import open_tables
from harvester.lake.database import Database
from harvester.lake.inventory import Inventory
from harvester.lake.ledger import Ledger
from harvester.lake.looking import looking
from harvester.lake.reading import failed_keys, failed_of
from harvester.lake.recovery import Repairs, put_right
from harvester.lake.refreshing import Refresher, RefreshPlan
from harvester.lake.runs import Runs
from harvester.lake.scopes import Scopes
from harvester.lake.sealing import Sealer
from harvester.lake.staging import Taken, stage
from harvester.lake.store import Store
from harvester.lake.turns import Turns
from harvester.lake.waiting import WaitingPages
from harvester.lake.whole import whole_of
from harvester.model import SliceKey
from harvester.places import as_arguments

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from datetime import datetime

    import pyarrow as pa

    from harvester.config import TableChoice, Tuning
    from harvester.lake.entries import SliceRecord
    from harvester.lake.wide import ScopeStep
    from harvester.places import Place

_MOST_REMEMBERED = 4096
_LEAST_LEDGER_BYTES = 512
"""SQLite takes what is left of a shorter file for a database that is still empty."""


@dataclass(frozen=True, slots=True)
class Lake:
    """A lake that this process alone writes to. Every method is blocking: call it from a worker thread.

    Attributes:
        store: its files.
        runs: what is known of its runs.
        ledger: what is known of its slices.
        inventory: what is known of its files.
        scopes: what is known of walks over many sends.
        waiting: pages of those that wait for a seam.
        bearing: what is known of the server.
        sealer: makes data files.
        refresher: replaces them.
        repairs: what was put right when it was opened.
    """

    store: Store
    runs: Runs
    ledger: Ledger
    inventory: Inventory
    scopes: Scopes
    waiting: WaitingPages
    bearing: Bearing
    sealer: Sealer
    refresher: Refresher
    repairs: Repairs
    clock: Callable[[], datetime]
    _turns: Turns = field(default_factory=Turns)
    _failed: dict[int, pa.Int64Array] = field(default_factory=dict)  # by send, of small slices that came whole lately

    def stage(self, pages: Sequence[Taken], scope: ScopeStep | None = None) -> list[int]:
        """Makes pages durable and commits them, in the order given, all or none; see ``staging.stage``.

        Returns the bytes of each that wait for sealing; 0 for one that came whole, and is a data file already.
        """
        waiting = stage(self.sealer, pages, self.clock(), scope)
        for page in pages:
            whole = whole_of(page)
            if whole is not None and whole.key.dataset == MESSAGES.name and page.rows is not None:
                self._failed[whole.key.id_send] = failed_of(page.rows)
        while len(self._failed) > _MOST_REMEMBERED:
            del self._failed[next(iter(self._failed))]
        return waiting

    @property
    def full_bytes(self) -> float:
        """How many bytes of segments make a data file of the target size, by what was learned so far."""
        return self.sealer.target_bytes / self.sealer.ratio

    def seal(self, slice_id: int, *, everything: bool = False) -> None:
        """Puts in place what a refresh of a slice has brought, and seals what is due: see Refresher and Sealer."""
        with self._turns.of(slice_id):
            self.refresher.put_in_place(slice_id, self.clock())
            self.sealer.seal(slice_id, everything=everything)
            self.sealer.tables.settled((slice_id,))

    def seal_tables(self) -> None:
        """Has the lake's tables hold all that became data files. Raises LakeError."""
        self.sealer.tables.flush()

    def plan_refresh(self, record: SliceRecord) -> RefreshPlan:
        """What is to be asked again of a slice that is due; what is staged of it is sealed first."""
        with self._turns.of(record.id):
            self.sealer.seal(record.id, everything=True)
            self.sealer.tables.settled((record.id,))
            return self.refresher.plan(record)

    def forget_refresh(self, slice_id: int) -> None:
        """Gives up a refresh that was begun, since the slice itself goes on."""
        with self._turns.of(slice_id):
            self.refresher.forget(slice_id)

    def failed_keys(self, id_send: int) -> pa.Int64Array | None:
        """The keys of the send's failed messages; None if the lake does not hold all messages of the send."""
        lately = self._failed.get(id_send)
        if lately is not None:
            return lately
        record = self.ledger.find(SliceKey(MESSAGES.name, id_send))
        if record is None or record.proof is None:
            return None
        with self._turns.of(record.id):  # rows on their way from a segment into a data file are in neither
            return failed_keys(self.store, self.inventory, record.id)


@dataclass(frozen=True, slots=True)
class Glance:
    """A lake that is only looked at: its files, runs, slices and inventory, and what the server bears."""

    store: Store
    runs: Runs
    ledger: Ledger
    inventory: Inventory
    bearing: Bearing


@contextmanager
def open_lake(
    root: Place, tuning: Tuning, *, drop_gone: bool = False, table: TableChoice | None = None
) -> Iterator[Lake]:
    """Opens a lake, or makes one, for this process alone, and puts it right.

    With ``drop_gone``, rows that a refresh does not bring back go. With ``table``, the lake is to have such tables;
    those that it has are kept in step in any case. Raises LakeInUse, LakeBroken, LakeFull, LakeAway
    or LakeError, and UsageError where an object store's settings make no sense. Blocking.
    """
    store = Store(root, tuning)
    store.check()
    store.make_home()
    with ExitStack() as held:
        held.enter_context(store.locked(layout.LOCK))
        store.claim()
        if (store.size(layout.LEDGER) or 0) < _LEAST_LEDGER_BYTES:
            _refuse_orphans(store)
        store.touch(layout.LEDGER)  # which also says so if it can't be written to
        store.sync_folder(layout.HOME)
        database = Database.open(store.state.root / layout.LEDGER, create=True)
        held.callback(database.close)
        ledger, inventory = Ledger(database), Inventory(database)
        waiting = WaitingPages(store, database)
        repairs = put_right(store, ledger, inventory, waiting)
        runs = Runs(database)
        tables = open_tables(store, runs, inventory, table, tuning.target_bytes)
        known: dict[str, Any] = {"account": runs.account, "redaction": runs.redaction, "tables": tables}
        sealer = Sealer(store, ledger, inventory, tuning.target_bytes, tuning.row_group_bytes, **known)
        refresher, scopes, bearing = Refresher(sealer, drop_gone), Scopes(database), Bearing(database)
        yield Lake(store, runs, ledger, inventory, scopes, waiting, bearing, sealer, refresher, repairs, tuning.clock)


def _refuse_orphans(store: Store) -> None:
    """Raises LakeBroken if there is data without a ledger: harvesting beside it would double every row."""
    orphaned = [name for name in CATALOGUE if store.holds_anything(name)]
    if orphaned:
        message = (
            f"{store.root} holds data ({', '.join(orphaned)}) but no ledger: {layout.LEDGER} is missing or empty. "
            f"Put it back, or rebuild it from the data files: harvester recover {as_arguments(store.root)}"
        )
        raise LakeBroken(message)


@contextmanager
def look_into(root: Place) -> Iterator[Glance]:
    """Opens a lake for reading its ledger, also while a run goes on. Raises LakeBroken if there is no lake."""
    store = Store(root)
    if store.size(layout.LEDGER) is None:
        _refuse_orphans(store)
        raise LakeBroken(f"{root} is not a lake: there is no {store.local(layout.LEDGER)}")
    store.refuse_another()
    with looking(store.state.root / layout.LEDGER) as database:
        yield Glance(store, Runs(database), Ledger(database), Inventory(database), Bearing(database))


__all__ = ["Glance", "Lake", "look_into", "open_lake"]
