"""Verifying: every file of a lake held against the ledger, and the ledger against itself. Nothing is changed.

While a run is at work, files come and go. So a finding counts only if the ledger says of its slice, after the look at
the files, what it said before; else the look is repeated.

Memory: some hundreds of slices of the ledger, and a batch of rows for each thread.
"""

from __future__ import annotations

from contextlib import contextmanager
from functools import partial
from itertools import islice
from typing import TYPE_CHECKING

from harvester.datasets import CATALOGUE
from harvester.errors import LakeError, UsageError
from harvester.lake import layout
from harvester.lake.formats.choosing import logs_of
from harvester.lake.formats.following import out_of_step
from harvester.lake.formats.moved import TablesMoved
from harvester.lake.lake import look_into
from harvester.lake.partitioned.sharedfiles import SharedFiles
from harvester.lake.upkeep.consistency import contradictions
from harvester.lake.upkeep.filechecks import Checks, is_hidden
from harvester.lake.upkeep.findings import Finding, Kind
from harvester.lake.upkeep.parallel import looked_at
from harvester.lake.upkeep.sharechecks import shared_findings
from harvester.lake.upkeep.snapshots import known_sends, snapshot, snapshots
from harvester.lake.waiting import all_waiting
from harvester.places import as_arguments

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from harvester.lake.lake import Glance
    from harvester.lake.partitioned.sharedfiles import SharedFile
    from harvester.lake.upkeep.snapshots import SliceSnapshot
    from harvester.model import Secret
    from harvester.places import Place

    Look = Callable[[], list[Finding]]

_TRIES = 5
_BATCH = 500
_IN_HOME = (
    *("ledger.sqlite", "ledger-elsewhere.json", "lock", "lake-url", "catalog.sqlite"),
    *("segments", "writing", "set-aside", "rebuilt.sqlite"),
)
_MOVE = "Move it out of the lake: readers may take it for data."


@contextmanager
def verifying(root: Place, *, quick: bool, ledger: Secret | None = None) -> Iterator[Verification]:
    """Opens a lake to be verified, also while a run is at work. Raises LakeError if there is none to read."""
    with look_into(root, ledger) as seen:
        seen.store.check()
        yield Verification(seen, quick=quick)


class Verification:
    """One look at a whole lake.

    Attributes:
        quick: whether data pages stay unread: sizes, footers, counts, ranges and names only.
        slices: slices looked at so far.
        incomplete: those of them that are not complete.
        files: data files looked at so far.
        bytes: their bytes.
        all_bytes: the bytes of all data files, when the look began.
        rows: rows of the slices looked at so far.
        segments: pages looked at that are in no data file yet.
        leftovers: files of a run that did not come to its end; the next one removes them. None while a run is at work.
        set_aside: files that ``recover`` has set aside.
        moving: slices that changed too fast to be looked at.
        in_use: whether a run was at work when the look began.
    """

    def __init__(self, seen: Glance, *, quick: bool) -> None:
        self.quick = quick
        self.slices = self.incomplete = self.files = self.bytes = self.rows = self.segments = self.moving = 0
        self.leftovers: int | None = None
        self.set_aside = 0
        self.in_use = seen.in_use()
        self.all_bytes = seen.inventory.sealed_bytes()[1]
        self._seen = seen
        self._database = seen.ledger.database
        account, redaction = seen.runs.account(), seen.runs.redaction()
        self._checks = Checks(seen.store, quick, account, redaction, self._database.option)

    @property
    def shared(self) -> bool:
        """Whether data files hold rows of many sends."""
        return SharedFiles(self._database).any()

    @property
    def complete(self) -> bool:
        """Whether the ledger calls every slice that was looked at complete. A lake that knows of none is not."""
        return self.slices > 0 and not self.incomplete

    def findings(self, tick: Callable[[], object] = lambda: None) -> Iterator[Finding]:
        """Looks at everything, and tells what is wrong; ``tick`` is called now and then. Raises LakeError. Blocking."""
        self._database.check_whole()
        looks = ((seen, self._looks(seen)) for seen in snapshots(self._database))
        for seen, results in looked_at(looks, self._seen.store.at_once):
            found = [finding for result in results for finding in result]
            yield from self._certain(seen, [*found, *self._contradictions(seen)])
            tick()
        yield from self._shared(tick)
        yield from self._waiting()
        yield from self._strays()
        if not self.in_use:
            yield from self._tables()

    # --- slices

    def _looks(self, seen: SliceSnapshot) -> list[Look]:
        """What there is to look at of a slice."""
        if seen.key.dataset not in CATALOGUE:
            return []
        looks: list[Look] = [
            partial(self._checks.data_file, seen.key, seen.at(name))
            for name in dict.fromkeys(file.name for file in seen.files)
        ]
        looks += [
            partial(self._checks.segment, seen.key, part, seen.intended) for part in (*seen.staged, *seen.refreshed)
        ]
        return [*looks, partial(self._checks.beside, seen)]

    def _contradictions(self, seen: SliceSnapshot) -> list[Finding]:
        remedy = f"Run: {self._checks.recover} (what the files can't prove is then asked for again)"
        return [
            Finding(kind, seen.key.dataset, seen.key.id_send, None, f"Of {seen.key}, {what}.", remedy)
            for kind, what in contradictions(seen)
        ]

    def _certain(self, seen: SliceSnapshot, found: list[Finding]) -> list[Finding]:
        """What is still wrong with a slice when the ledger stands still; the slice is counted."""
        for _ in range(_TRIES):
            now = snapshot(self._database, seen.key) if found else seen
            if now is None or now == seen:
                break
            seen = now
            found = [finding for look in self._looks(seen) for finding in look()] + self._contradictions(seen)
        else:
            self.moving += 1
            found = []
        self.slices += 1
        self.incomplete += not seen.complete
        self.files += len(seen.files)
        self.bytes += sum(file.bytes for file in seen.files)
        self.rows += seen.rows
        self.segments += len(seen.staged) + len(seen.refreshed)
        return found

    # --- files that are of many slices

    def _shared(self, tick: Callable[[], object]) -> Iterator[Finding]:
        known = SharedFiles(self._database)
        looks = ((file, [partial(self._look, known, file)]) for file in known.files())
        for file, results in looked_at(looks, self._seen.store.at_once):
            self.files += 1
            self.bytes += file.bytes
            yield from results[0]
            tick()

    def _look(self, known: SharedFiles, file: SharedFile) -> list[Finding]:
        """What is wrong with a shared file when the ledger stands still."""
        for _ in range(_TRIES):
            seen = known.with_shares([file.id])
            if not seen or not known.counts(file.id):
                return []
            found = shared_findings(self._checks, seen[0])
            if not found or (known.with_shares([file.id]) == seen and not known.changing(file.id)):
                return found if not found or known.counts(file.id) else []
        return []

    # --- what is no slice's

    def _waiting(self) -> Iterator[Finding]:
        """Looks at pages of walks over many sends that wait; those that have gone on meanwhile don't count."""
        wrong = {}
        for _, page in all_waiting(self._database):
            self.segments += 1
            finding = self._checks.waiting(page)
            if finding is not None:
                wrong[page] = finding
        if wrong:
            still = {page for _, page in all_waiting(self._database)}
            yield from (finding for page, finding in wrong.items() if page in still)

    def _tables(self) -> Iterator[Finding]:
        """Holds the tables' logs against the ledger; while a run is at work, they are behind it."""
        chosen = self._seen.runs.table()
        if chosen is None:
            return
        command = f"harvester table {as_arguments(self._seen.store.root)}{self._database.option}"
        remedy = f"Run: {command} (as the next run does, too)"
        try:
            logs = logs_of(self._seen.store, chosen, self._seen.runs.partition_by, self._database.option)
            for name, log in logs.items():
                for what in out_of_step(self._seen.inventory, name, log):
                    yield Finding(Kind.TABLE, name, None, None, what, remedy)
        except TablesMoved as error:
            remedy = f"Run: {self._checks.recover} (it sets what they are aside)"
            yield Finding(Kind.TABLE, None, None, None, f"The tables can't be used: {error}.", remedy)
        except (UsageError, LakeError) as error:
            yield Finding(Kind.TABLE, None, None, None, f"The tables can't be looked at: {error}.", remedy)

    def _strays(self) -> Iterator[Finding]:
        for name, is_folder in self._seen.store.entries(""):
            if name == layout.HOME:
                yield from self._strays_at_home()
            elif name in CATALOGUE and is_folder:
                yield from self._strays_of(name)
            elif not is_hidden(name):
                yield Finding(Kind.STRAY, None, None, name, "It does not belong to the lake.", _MOVE)

    def _strays_of(self, dataset: str) -> Iterator[Finding]:
        entries = iter(self._seen.store.entries(dataset))
        while batch := list(islice(entries, _BATCH)):
            keys = {name: layout.slice_of_folder(dataset, name) for name, is_folder in batch if is_folder}
            known = known_sends(self._database, dataset, [key.id_send for key in keys.values() if key is not None])
            for name, is_folder in batch:
                key = keys.get(name)
                file = f"{dataset}/{name}"
                if key is None and name in layout.OF_TABLES and self._seen.runs.table() is not None:
                    continue
                if is_folder and layout.partition_of_folder(name) is not None:
                    yield from self._strays_in(dataset, file)
                    continue
                if key is None and not is_hidden(name):
                    yield Finding(
                        Kind.STRAY, dataset, None, file, "It is no send's folder.", self._checks.out_of_the_way
                    )
                elif key is not None and key.id_send not in known and self._seen.store.holds_anything(file):
                    what = "The ledger does not know this send; readers do."
                    yield Finding(Kind.STRAY, dataset, key.id_send, file, what, self._checks.out_of_the_way)

    def _strays_in(self, dataset: str, folder: str) -> Iterator[Finding]:
        """What lies in a partition's folder that the ledger does not know, also once it has been looked at again."""
        known = SharedFiles(self._database)
        strange = [name for name, _ in self._seen.store.entries(folder) if not is_hidden(name)]
        ours = known.names(also_coming=True) | self._seen.inventory.all_superseded() if strange else set()
        for name in (name for name in strange if f"{folder}/{name}" not in ours):
            if self._seen.store.size(f"{folder}/{name}") is not None:
                what = "A file that the ledger does not know; readers find it."
                yield Finding(Kind.STRAY, dataset, None, f"{folder}/{name}", what, self._checks.out_of_the_way)

    def _strays_at_home(self) -> Iterator[Finding]:
        store = self._seen.store
        ours = {name + end for name in _IN_HOME for end in layout.OF_SQLITE}
        for name, _ in store.entries(layout.HOME):
            if name not in ours and not is_hidden(name):
                file = f"{layout.HOME}/{name}"
                yield Finding(Kind.STRAY, None, None, file, "It is none of harvester's own files.", _MOVE)
        self.set_aside = _count_files(store.entries, layout.SET_ASIDE)
        if not self.in_use and not self._seen.in_use():
            known = {segment.name for _, segment in self._seen.inventory.all_segments()}
            known |= {page.name for _, page in all_waiting(self._database)}
            left: Iterable[str] = (*store.names(layout.SEGMENTS), *store.names(layout.WRITING))
            self.leftovers = sum(name not in known for name in left)


def _count_files(entries: Callable[[str], list[tuple[str, bool]]], folder: str) -> int:
    return sum(_count_files(entries, f"{folder}/{name}") if is_folder else 1 for name, is_folder in entries(folder))


__all__ = ["Verification", "verifying"]
