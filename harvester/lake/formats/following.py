"""Tables follow the ledger: what was added to the data files and what was replaced goes into the tables' logs.

The ledger is the truth. A *sealing* is what became data files since the last one, and what they took the place of; it
is one transaction of the table. A slice's part of it is never torn: what a refresh or a merging of files removes and
what it adds in its place are in the same one. Many small slices share a sealing, so that logs stay short. Where data
files hold rows of many sends, each change of them is a sealing (see ``sharing``); so is all that ``compact`` merges.

Invariant: a data file is added to its table once, and removed once. After a crash between ledger and table, the next
start compares the two, file by file, and commits the difference. (Slices whose refresh is half put in place are left
out, until all of it is.) The number of each sealing is in the log, and a log takes no number twice.

A holder that was cut off, and does not know it (see ``fencing``), does no harm. It tells a table of nothing that its
ledger has not committed, which it can't do any more; so what it may still be about to commit was in the ledger when the
next holder began, and that one's ``catch_up`` commits it, too, under the same number. A log takes the one or the other,
and never on top of a state that was not looked at: whoever comes second is ``Overtaken``, and looks again. The next
holder goes on from what it finds; the one that was cut off finds its files there, and is done, or fails.
"""

from __future__ import annotations

import time
from collections import defaultdict
from dataclasses import dataclass, field
from threading import Lock
from typing import TYPE_CHECKING

from harvester.errors import LakeError
from harvester.lake import layout
from harvester.lake.formats.tablefiles import Overtaken, TableFile

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
    from collections.abc import Set as AbstractSet

    from harvester.lake.entries import DataFileRecord
    from harvester.lake.formats.tablefiles import TableLog
    from harvester.lake.inventory import Inventory
    from harvester.lake.storage.store import Store

MOST_FILES = 1000
"""A sealing of so many data files is committed."""
LONGEST_S = 60.0
"""So is one that began so long ago."""
_TRIES = 5
_BUSY = "the table {} is being changed by something else all the time: run again later"


@dataclass(slots=True)
class Change:
    """Data files that a table is to gain, with their sizes in bytes, and those that it is to lose, by their names."""

    added: dict[str, int] = field(default_factory=dict)
    removed: set[str] = field(default_factory=set)

    def add(self, name: str, size: int) -> None:
        """Notes that a data file was added."""
        self.added[name] = size

    def remove(self, name: str) -> None:
        """Notes that a data file was replaced; if no table knows it yet, none has to."""
        if self.added.pop(name, None) is None:
            self.removed.add(name)

    def take(self, other: Change) -> None:
        """Notes what came after this."""
        for name in other.removed:
            self.remove(name)
        self.added |= other.added

    @property
    def bytes(self) -> int:
        """The size of what is added."""
        return sum(self.added.values())

    def __bool__(self) -> bool:
        """Whether there is anything in it."""
        return bool(self.added or self.removed)


class NoTables:
    """What is told of data files in a lake that has no tables: nothing comes of it."""

    keeps = False
    """Whether files that were replaced stay, for earlier states of a table."""

    def name_for(self, name: str, _slice_id: int) -> str:
        """The name of a new data file that is to be called so."""
        return name

    def name_after(self, name: str, _slice_id: int) -> str:
        """The name of a file that replaces a data file: the same, so that readers of folders find one of them."""
        return name

    def kept(self, _slice_id: int) -> AbstractSet[str]:
        """Files in a slice's folder that were replaced, and stay."""
        return frozenset()

    def changed(self, slice_id: int, added: DataFileRecord, replaced: Sequence[str] = ()) -> None:
        """Notes that a slice has a new data file, and which ones this took the place of; the ledger says so already."""

    def shared_changed(self, added: Mapping[str, int], removed: Sequence[str]) -> None:
        """Notes a change of files that hold rows of many slices; the ledger says so already.

        Args:
            added: those that are new, with their sizes in bytes.
            removed: those that they took the place of.
        """

    def settled(self, slices: Iterable[int]) -> None:
        """Notes that what was changed of these slices belongs together, and is all there is for now."""

    def flush(self) -> None:
        """Commits what is settled."""

    def catch_up(self) -> int:
        """Has the tables hold what the ledger says; how many had to be changed."""
        return 0


class Tables(NoTables):
    """The tables of a lake. Its methods are called from several threads; ``settled`` and ``flush`` block.

    Attributes:
        logs: of each dataset, the log of its table.
    """

    keeps = True

    def __init__(
        self,
        store: Store,
        inventory: Inventory,
        logs: Mapping[str, TableLog],
        full_bytes: int,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """A sealing is committed when its data files come to ``full_bytes``, at the latest."""
        self.logs = logs
        self._store = store
        self._inventory = inventory
        self._full_bytes = full_bytes
        self._clock = clock
        self._noting, self._committing = Lock(), Lock()
        self._open = defaultdict[int, Change](Change)  # by slice
        self._settled = Change()
        self._since: float | None = None
        self._last: dict[str, int] = {}  # by dataset, the number of the last sealing
        self._failed = False

    def name_for(self, name: str, slice_id: int) -> str:
        """The name of a new data file that is to be called so: another one, if an earlier state of the table has it."""
        kept = self.kept(slice_id)
        while name in kept:
            name = layout.next_name(name)
        return name

    def name_after(self, name: str, slice_id: int) -> str:
        """The name of a file that replaces a data file: another one, since earlier states of the table need the old."""
        return self.name_for(layout.next_name(name), slice_id)

    def kept(self, slice_id: int) -> AbstractSet[str]:
        """Files in a slice's folder that were replaced, and stay: earlier states of the table need them."""
        return self._inventory.superseded(slice_id)

    def changed(self, slice_id: int, added: DataFileRecord, replaced: Sequence[str] = ()) -> None:
        """Notes that a slice has a new data file, and which ones this took the place of."""
        with self._noting:
            change = self._open[slice_id]
            for name in replaced:
                change.remove(name)
            change.add(added.name, added.bytes)

    def shared_changed(self, added: Mapping[str, int], removed: Sequence[str]) -> None:
        """Notes a change of files that hold rows of many slices: it is settled as it is."""
        with self._noting:
            self._settled.take(Change(dict(added), set(removed)))

    def settled(self, slices: Iterable[int]) -> None:
        """Notes that what was changed of these slices is all there is for now; commits what has come to a full sealing.

        Raises LakeError.
        """
        with self._noting:
            for slice_id in slices:
                change = self._open.pop(slice_id, None)
                if change is not None:
                    self._settled.take(change)
            if self._settled and self._since is None:
                self._since = self._clock()
            due = self._since is not None and (
                len(self._settled.added) >= MOST_FILES
                or self._settled.bytes >= self._full_bytes
                or self._clock() >= self._since + LONGEST_S
            )
        if due:
            self.flush()

    def flush(self) -> None:
        """Commits what is settled, if there is anything. Raises LakeError."""
        with self._committing:
            with self._noting:
                change, self._settled, self._since = self._settled, Change(), None
            if not self._failed:  # what comes after a transaction that failed is the next start's, as that one is
                self._commit(change)

    def catch_up(self) -> int:
        """Has the tables hold what the ledger says; nobody changes it meanwhile. How many had to be changed.

        Raises LakeError.
        """
        caught = 0
        for name, log in self.logs.items():
            for _ in range(_TRIES):
                state = log.look()
                self._last[name] = state.sealing
                change, half_done = difference(self._inventory, name, state.files)
                if not change:
                    break
                try:
                    log.commit(state.sealing + 1, self._read(change.added), sorted(change.removed))
                except Overtaken:  # by a holder that was cut off, perhaps
                    continue
                self._last[name] += 1
                caught += 1
                break
            else:
                raise LakeError(_BUSY.format(name))
            self._open |= half_done
        return caught

    def _commit(self, change: Change) -> None:
        """One transaction of each table that has something to change: mostly, of one."""
        self._failed = True
        for name, log in self.logs.items():
            inside = f"{name}/"
            added = {file: size for file, size in change.added.items() if file.startswith(inside)}
            removed = sorted(file for file in change.removed if file.startswith(inside))
            if added or removed:
                self._commit_to(name, log, added, removed)
        self._failed = False

    def _read(self, added: Mapping[str, int]) -> list[TableFile]:
        read: dict[str, TableFile] = {}

        def read_one(file: str) -> None:
            read[file] = TableFile.read(self._store, file, added[file])

        self._store.each(read_one, added)
        return [read[file] for file in sorted(added)]

    def _commit_to(self, name: str, log: TableLog, added: Mapping[str, int], removed: list[str]) -> None:
        read = self._read(added)
        sealing = self._last[name] + 1
        for _ in range(_TRIES):
            try:
                log.commit(sealing, read, removed)
                break
            except Overtaken as error:
                state = log.look()
                if state.sealing >= sealing and added.keys() <= state.files and state.files.isdisjoint(removed):
                    break  # it is in the log after all
                if state.sealing >= sealing or not state.files.isdisjoint(added) or not state.files >= set(removed):
                    raise LakeError(
                        f"something else has changed which files the table {name} holds, or a later run has ({error}): "
                        "leave that to harvester, which has the table follow again when it is next run"
                    ) from error
        else:
            raise LakeError(_BUSY.format(name))
        self._last[name] = sealing


def difference(inventory: Inventory, name: str, held: AbstractSet[str]) -> tuple[Change, dict[int, Change]]:
    """What a table lacks, and holds too much, by what the ledger says.

    Args:
        inventory: the ledger.
        name: the table's dataset.
        held: the data files that the table holds.

    Returns:
        What is to be changed; and, apart, of slices whose refresh is half put in place, by number.
    """
    change, apart = Change(), defaultdict[int, Change](Change)
    half_done = set(inventory.refreshed_slices())
    known = inventory.sealed_files(name)
    for file, (slice_id, size) in known.items():
        if file not in held:
            (change if slice_id is None or slice_id not in half_done else apart[slice_id]).add(file, size)
    replaced = {file: slice_id for slice_id in half_done for file in inventory.superseded(slice_id)}
    for file in held - known.keys():
        (apart[replaced[file]] if file in replaced else change).remove(file)
    return change, dict(apart)


def out_of_step(inventory: Inventory, name: str, log: TableLog) -> Iterator[str]:
    """How a table differs from what the ledger says, in sentences. Raises LakeError. Blocking."""
    change, _ = difference(inventory, name, log.look().files)
    if change.added:
        yield f"The table {name} lacks {len(change.added):,} of the data files, such as {min(change.added)}."
    if change.removed:
        yield f"The table {name} holds {len(change.removed):,} files too many, such as {min(change.removed)}."


__all__ = ["LONGEST_S", "MOST_FILES", "Change", "NoTables", "Tables", "difference", "out_of_step"]
