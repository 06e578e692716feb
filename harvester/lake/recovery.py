"""Putting a lake right when a run starts: what a crash left is finished or undone, before anything is asked.

Invariant: afterwards every file in the lake is known to the ledger, and every row that the ledger counts is there.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, replace
from itertools import groupby
from typing import TYPE_CHECKING

from harvester.errors import LakeAway, LakeError
from harvester.lake import layout
from harvester.lake.partitioned.sharedfiles import Share, SharedFiles
from harvester.lake.partitioned.sharing import finish_changes
from harvester.lake.segments import is_sound
from harvester.lake.waiting import all_waiting

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence

    from harvester.lake.entries import DataFileRecord, FileRecord, SegmentRecord
    from harvester.lake.inventory import Inventory
    from harvester.lake.ledger import Ledger
    from harvester.lake.storage.store import Store
    from harvester.lake.waiting import WaitingPages
    from harvester.model import KeyRange


@dataclass(frozen=True, slots=True)
class Repairs:
    """What was put right: counts of data files finished or undone, strays removed, segments missing or damaged."""

    finished: int = 0
    undone: int = 0
    strays: int = 0
    lost: int = 0


def put_right(store: Store, ledger: Ledger, inventory: Inventory, waiting: WaitingPages) -> Repairs:
    """Puts a lake right that nobody else is using. Blocking.

    One that used it before, on another machine, may have been cut off and not know it yet. What it was about to give a
    name to is given that name, or taken away, before anything is decided by what is there: it can't be both then.
    """
    finished = undone = 0
    epoch = ledger.database.epoch
    files = SharedFiles(inventory.database)
    intended = list(inventory.intended())
    coming = {layout.being_written(file.name) for number in files.pending() for file in files.added_by(number)}
    if epoch is not None:
        store.clear(epoch)
        written = defaultdict[str, list[str]](list)
        for name in store.names(layout.WRITING) if intended else ():
            written[layout.without_epoch(name)].append(name)
        for file in intended:
            _give_name(store, file, [*written[layout.being_written(file.name)], *inventory.made_of(file.id)])
        store.remove_all(_of_others(store, layout.WRITING, epoch, but=coming))
    for file in intended:
        if store.holds(file.name, file.bytes, file.checksum) or _uploaded(store, inventory, file):
            inventory.fulfil(file.id)
            finished += 1
        else:
            inventory.forgo(file.id)
            undone += 1
    if files.any() or coming:
        made, unmade = finish_changes(store, files)
        finished, undone = finished + made, undone + unmade
    lost = sum(
        _lose(store, ledger, inventory, slice_id, gone) for slice_id, gone in _missing_segments(store, inventory)
    )
    lost += waiting.put_right()
    return Repairs(finished, undone, _remove_strays(store, inventory), lost)


def _uploaded(store: Store, inventory: Inventory, file: DataFileRecord) -> bool:
    """Uploads a file that did not get its name, if it is still here as it was written.

    An upload that was cut off may be finished by the store a moment from now. It does no harm where the same file is
    there by then; had its rows gone into another file, they would be there twice.
    """
    if store.objects is None or store.shares:
        return False
    for written in (layout.being_written(file.name), *filter(layout.is_whole, inventory.made_of(file.id))):
        if store.holds(written, file.bytes, file.checksum):
            store.publish([(written, file.name)])
            return True
    return False


def _missing_segments(store: Store, inventory: Inventory) -> list[tuple[int, list[SegmentRecord]]]:
    missing: list[tuple[int, SegmentRecord]] = []

    def look(staged: tuple[int, SegmentRecord]) -> None:
        if not is_sound(store, staged[1]):
            missing.append(staged)

    store.each(look, inventory.all_segments())
    missing.sort(key=lambda pair: pair[0])
    return [(number, [segment for _, segment in pairs]) for number, pairs in groupby(missing, key=lambda pair: pair[0])]


def _lose(store: Store, ledger: Ledger, inventory: Inventory, slice_id: int, missing: Sequence[SegmentRecord]) -> int:
    """Moves cursors back to before the first missing segment of their range; what is later in it is asked for again.

    A refresh that lost a segment begins anew.
    """
    refreshed = {segment.id for segment in inventory.refreshed(slice_id)}
    if any(segment.id in refreshed for segment in missing):
        store.remove_all(inventory.end_refresh(slice_id))
        missing = [segment for segment in missing if segment.id not in refreshed]
    if not missing:
        return len(refreshed)
    staged = inventory.staged(slice_id)
    files: list[FileRecord | Share] = [
        *inventory.files(slice_id),
        *SharedFiles(inventory.database).shares_of([slice_id])[slice_id],
    ]
    record = ledger.record(slice_id)
    if record.key_range is None:  # of an unpaged dataset: all of it is one answer
        inventory.lose(slice_id, staged, ())
        return len(staged)
    lost: list[SegmentRecord] = []
    moved: list[KeyRange] = []
    for key_range in (record.key_range, *record.further):
        from_here = [segment.first_key for segment in missing if key_range.start <= segment.first_key < key_range.stop]
        if from_here:
            end = min(from_here)
            lost += [segment for segment in staged if end <= segment.first_key < key_range.stop]
            parts: list[FileRecord | Share] = [*files, *staged]
            kept = [part for part in parts if key_range.start <= part.first_key < end]
            moved.append(_range_before(key_range, kept))
    inventory.lose(slice_id, lost, moved)
    return len(lost)


def _range_before(key_range: KeyRange, kept: Sequence[FileRecord | Share]) -> KeyRange:
    """The range as it was after its rows in ``kept``; their ends are the anchors."""
    known = sorted({key for part in kept for key in (part.first_key, part.last_key)}, reverse=True)
    return replace(
        key_range.again_after(known),
        first_keys=key_range.first_keys if known else (),
        rows=sum(part.rows for part in kept) if key_range.start else 0,
    )


def _give_name(store: Store, file: DataFileRecord, written: Sequence[str]) -> None:
    """Gives one of these its name that is the data file, whole; unless its writer has done so, or does so now."""
    for name in written:
        if not name.endswith(".arrow") and store.holds(name, file.bytes, file.checksum):
            try:
                store.publish([(name, file.name)])
            except LakeAway:
                raise
            except LakeError:
                continue  # it is there no more
            return


def _of_others(store: Store, folder: str, epoch: int | None, but: Collection[str] = ()) -> list[str]:
    """Files of whoever used the lake before; not of one that may have taken over meanwhile, nor these."""
    names = [name for name in store.names(folder) if layout.without_epoch(name) not in but]
    if epoch is None:
        return names
    return [name for name in names if (layout.epoch_of(name) or 0) < epoch]


def _remove_strays(store: Store, inventory: Inventory) -> int:
    known = {segment.name for _, segment in inventory.all_segments()}
    known |= {page.name for _, page in all_waiting(inventory.database)}
    epoch = inventory.database.epoch
    strays = [name for name in _of_others(store, layout.SEGMENTS, epoch) if name not in known]
    strays += _of_others(store, layout.WRITING, epoch)
    store.remove_all(strays)
    return len(strays)


__all__ = ["Repairs", "put_right"]
