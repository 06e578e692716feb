"""The lake as the harvest sees it: opened under a lock and put right, then staged into and sealed."""

from __future__ import annotations

from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from harvester.datasets import MESSAGES
from harvester.lake.bearing import Bearing
from harvester.lake.formats.choosing import open_tables
from harvester.lake.inventory import Inventory
from harvester.lake.ledger import Ledger
from harvester.lake.ledgers.place import ledger_place
from harvester.lake.partitioned.gathering import Gatherer
from harvester.lake.partitioned.renewing import Renewer
from harvester.lake.partitioned.sharedfiles import SharedFiles
from harvester.lake.reading import failed_keys, failed_of
from harvester.lake.recovery import Repairs, put_right
from harvester.lake.refreshing import Refresher, RefreshPlan
from harvester.lake.runs import Runs
from harvester.lake.scopes import Scopes
from harvester.lake.sealing import Sealer
from harvester.lake.staging import Taken, stage
from harvester.lake.storage.store import Store
from harvester.lake.turns import Turns
from harvester.lake.waiting import WaitingPages
from harvester.lake.whole import whole_of
from harvester.model import SliceKey

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from datetime import datetime

    import pyarrow as pa

    from harvester.config import TableChoice, Tuning
    from harvester.lake.entries import SliceRecord
    from harvester.lake.wide import ScopeStep
    from harvester.model import Secret
    from harvester.places import Place

_MOST_REMEMBERED = 4096


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
        gatherer: makes data files, where one holds rows of many sends.
        renewer: replaces those.
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
    gatherer: Gatherer
    renewer: Renewer
    clock: Callable[[], datetime]
    _turns: Turns = field(default_factory=Turns)
    _failed: dict[int, pa.Int64Array] = field(default_factory=dict)  # by send, of small slices that came whole lately

    def stage(self, pages: Sequence[Taken], scope: ScopeStep | None = None) -> list[int]:
        """Makes pages durable and commits them, in the order given, all or none; see ``staging.stage``.

        Returns the bytes of each that wait for sealing; 0 for one that came whole, and is a data file already.
        """
        if self.gatherer.shares:
            apart = [replace(page, whole=None) for page in pages]
            values: list[str | None] = []

            def partitions(dataset: str, rows: pa.RecordBatch) -> str | None:
                values.append(self.gatherer.values_of(dataset, rows))
                return values[-1]

            waiting = stage(self.sealer, apart, self.clock(), scope, partitions)
            sizes = [size for page, size in zip(pages, waiting, strict=True) if page.rows is not None]
            for value, size in zip(values, sizes, strict=True):
                self.gatherer.waits(value, size)
        else:
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
        if self.gatherer.shares:
            if everything or self.gatherer.due:
                with self.gatherer.turn:
                    self.renewer.put_in_place()
            self.gatherer.seal(everything=everything)
            return
        with self._turns.of(slice_id):
            self.refresher.put_in_place(slice_id, self.clock())
            self.sealer.seal(slice_id, everything=everything)
            self.sealer.tables.settled((slice_id,))

    def seal_tables(self) -> None:
        """Has the lake's tables hold all that became data files. Raises LakeError."""
        self.sealer.tables.flush()

    def plan_refresh(self, record: SliceRecord) -> RefreshPlan:
        """What is to be asked again of a slice that is due; what is staged of it is sealed first."""
        if self.gatherer.shares:
            if self.inventory.staged(record.id):
                self.gatherer.seal(everything=True)
            return self.refresher.plan(record, self.renewer.files_of(record.id))
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
        if self.gatherer.shares:
            with self.gatherer.turn:
                return failed_keys(self.store, self.inventory, record.id, self.gatherer.files)
        with self._turns.of(record.id):  # rows on their way from a segment into a data file are in neither
            return failed_keys(self.store, self.inventory, record.id)


@dataclass(frozen=True, slots=True)
class Glance:
    """A lake that is only looked at.

    Attributes:
        store: its files.
        runs: what is known of its runs.
        ledger: what is known of its slices.
        inventory: what is known of its files.
        bearing: what is known of the server.
        in_use: tells whether a run is at work on it, on whatever machine.
    """

    store: Store
    runs: Runs
    ledger: Ledger
    inventory: Inventory
    bearing: Bearing
    in_use: Callable[[], bool]


@contextmanager
def open_lake(
    root: Place,
    tuning: Tuning,
    *,
    ledger: Secret | None = None,
    drop_gone: bool = False,
    table: TableChoice | None = None,
) -> Iterator[Lake]:
    """Opens a lake, or makes one, for this process alone, and puts it right.

    With ``ledger``, its ledger is in the database of that URL. With ``drop_gone``, rows that a refresh does not bring
    back go. With ``table``, the lake is to have such tables; those that it has are kept in step in any case. Raises
    LakeInUse, LakeBroken, LakeFull, LakeAway or LakeError, and UsageError where the settings of an object store or a
    database make no sense. Blocking.
    """
    store = Store(root, tuning, shared=ledger is not None)
    place = ledger_place(store, ledger)
    store.check()
    store.make_home()
    with ExitStack() as held:
        held.enter_context(place.locked())
        store.claim()
        if not place.there():
            place.refuse_orphans()
        database = place.open()
        held.callback(database.close)
        slices, inventory = Ledger(database), Inventory(database)
        waiting = WaitingPages(store, database)
        repairs = put_right(store, slices, inventory, waiting)
        runs = Runs(database)
        tables = open_tables(store, runs, inventory, table, tuning.target_bytes)
        known: dict[str, Any] = {"account": runs.account, "redaction": runs.redaction, "tables": tables}
        sealer = Sealer(store, slices, inventory, tuning.target_bytes, tuning.row_group_bytes, **known)
        refresher, scopes, bearing = Refresher(sealer, drop_gone), Scopes(database), Bearing(database)
        gatherer = Gatherer(sealer, SharedFiles(database), tuning.clock, runs.partition_by)
        yield Lake(
            store=store,
            runs=runs,
            ledger=slices,
            inventory=inventory,
            scopes=scopes,
            waiting=waiting,
            bearing=bearing,
            sealer=sealer,
            refresher=refresher,
            repairs=repairs,
            gatherer=gatherer,
            renewer=Renewer(gatherer, drop_gone),
            clock=tuning.clock,
        )


@contextmanager
def look_into(root: Place, ledger: Secret | None = None) -> Iterator[Glance]:
    """Opens a lake for reading its ledger, also while a run goes on. Raises LakeBroken if there is no lake.

    ``ledger`` is the URL of the database that its ledger is in, if that is not beside its data.
    """
    store = Store(root, shared=ledger is not None)
    place = ledger_place(store, ledger)
    store.refuse_another()
    with place.looking() as database:
        yield Glance(
            store, Runs(database), Ledger(database), Inventory(database), Bearing(database), in_use=place.in_use
        )


def is_lake(root: Place, ledger: Secret | None = None) -> bool:
    """Whether there is a lake that can be looked into, or that something is wrong with."""
    return ledger_place(Store(root, shared=ledger is not None), ledger).begun()


__all__ = ["Glance", "Lake", "is_lake", "look_into", "open_lake"]
