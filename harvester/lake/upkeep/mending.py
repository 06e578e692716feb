"""Mending: a sound ledger is made to say what is there, where files are missing, damaged or too many.

Only the slices that something is wrong with are touched. All that is known of the others stays, and of these what is no
file's: which campaign they are of, when they were sent, how many messages they should have.
"""

from __future__ import annotations

from collections import defaultdict
from typing import TYPE_CHECKING

from harvester.datasets import CATALOGUE
from harvester.lake import layout
from harvester.lake.lake import Glance
from harvester.lake.upkeep.findings import Finding
from harvester.lake.upkeep.rebuilding import Aside, Part, Rebuilt, rebuilt
from harvester.lake.upkeep.restoring import name_campaigns, put_files_right, put_slices
from harvester.lake.upkeep.salvaging import NO_SENDS, Reader, likely_origin
from harvester.lake.upkeep.snapshots import snapshot
from harvester.lake.upkeep.verify import Verification
from harvester.model import SliceKey

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from datetime import datetime

    from harvester.lake.lake import Lake
    from harvester.lake.upkeep.restoring import AsideFolder
    from harvester.lake.upkeep.salvaging import Recovered
    from harvester.lake.upkeep.snapshots import SliceSnapshot

    Tick = Callable[[], object]


class Mending:
    """Has a sound ledger say what is there, where files are missing, damaged or too many."""

    def __init__(self, lake: Lake, done: Recovered, tick: Tick, now: datetime, aside: AsideFolder) -> None:
        """``aside`` takes what can't stay."""
        self._lake = lake
        self._done = done
        self._tick = tick
        self._reader = Reader(lake.store, done, tick, now, lake.inventory.all_superseded())
        self._aside = aside

    def run(self) -> None:
        """Does so. Raises LakeError. Blocking."""
        lake, done = self._lake, self._done
        done.account = lake.runs.account() or likely_origin(lake.store)[0]
        done.redaction = lake.runs.redaction()
        wrong = self._wrong()
        for key, found in self._reader.read(sorted(wrong)):
            self._mend(key, found, wrong[key])
        with lake.ledger.database.writing() as connection:
            name_campaigns(connection)
        lake.sealer.tables.catch_up()

    def _wrong(self) -> dict[SliceKey, list[Finding]]:
        """What is wrong, by slice. What readers take for data elsewhere is set aside; other things stay."""
        lake = self._lake
        wrong = defaultdict[SliceKey, list[Finding]](list)
        elsewhere: list[Aside] = []
        glance = Glance(
            lake.store,
            lake.runs,
            lake.ledger,
            lake.inventory,
            lake.bearing,
            in_use=lambda: True,  # by this process
        )
        seen = Verification(glance, quick=False)

        def tick() -> None:
            self._done.files, self._done.bytes, self._done.rows = seen.files, seen.bytes, seen.rows
            self._tick()

        for finding in seen.findings(tick):
            if finding.dataset is None or finding.dataset not in CATALOGUE:
                self._done.left.append(finding)
            elif finding.id_send is not None:
                wrong[SliceKey(finding.dataset, finding.id_send)].append(finding)
            elif finding.file is not None and finding.file.endswith(".parquet"):
                folder = finding.file.split("/")[1]
                why = NO_SENDS if layout.partition_of_folder(folder) is None else "the ledger does not know it"
                elsewhere.append(Aside(finding.file, why))
            else:
                self._done.left.append(finding)
        self._done.files = self._done.bytes = self._done.rows = 0
        for file in elsewhere:
            self._aside.take(file.name)
        self._done.aside += elsewhere
        return wrong

    def _mend(self, key: SliceKey, found: Sequence[Part | Aside], findings: Sequence[Finding]) -> None:
        database = self._lake.ledger.database
        seen = snapshot(database, key)
        files = seen.files if seen else ()
        now = rebuilt(key, found, {file.checksum for file in files})
        put_files_right(self._lake.store, self._aside, now)
        if (seen is None and not now.was_there) or (seen is not None and _stands(seen, now, findings)):
            self._done.aside += now.aside
        else:
            for segment in (*seen.staged, *seen.refreshed) if seen else ():
                self._aside.take(segment.name)
                self._done.segments += 1
            with database.writing() as connection:
                put_slices(connection, [now], {file.checksum: file.gone for file in files})
            self._done.note(now)
        handled = {layout.slice_folder(key), *(file.name for file in (*files, *found))}
        if seen is not None:
            handled |= {segment.name for segment in (*seen.staged, *seen.refreshed)}
        self._done.left += [one for one in findings if one.file is not None and one.file not in handled]


def _stands(seen: SliceSnapshot, now: Rebuilt, findings: Sequence[Finding]) -> bool:
    """Whether what the ledger says of a slice is right, and only files that it does not know are in the way."""
    ours = {file.name for file in (*seen.files, *seen.staged, *seen.refreshed)}
    in_ledger = {(file.name, file.checksum) for file in seen.files}
    in_folder = {(part.name, part.checksum) for part in now.parts}
    return in_ledger == in_folder and all(one.file is not None and one.file not in ours for one in findings)


__all__ = ["Mending"]
