"""Recovering a lake: a ledger that is lost is made anew from the data files; a sound one has its faults mended.

(``recovery`` is another thing: what every run does first, after a crash.)

Invariant: no file is deleted; what is in the way goes to ``_harvest/set-aside/``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from harvester.config import Tuning
from harvester.datasets import CATALOGUE
from harvester.errors import LakeBroken
from harvester.lake import layout
from harvester.lake.formats.moved import set_aside_if_moved
from harvester.lake.lake import open_lake
from harvester.lake.ledgers.place import ledger_place
from harvester.lake.runs import Runs
from harvester.lake.storage.store import Store
from harvester.lake.upkeep.anew import Anew
from harvester.lake.upkeep.findings import Kind
from harvester.lake.upkeep.mending import Mending
from harvester.lake.upkeep.restoring import AsideFolder
from harvester.lake.upkeep.salvaging import Recovered
from harvester.lake.upkeep.verify import verifying

if TYPE_CHECKING:
    from collections.abc import Callable

    from harvester.config import TableChoice
    from harvester.lake.ledgers.place import LedgerPlace
    from harvester.model import Secret
    from harvester.places import Place

    Tick = Callable[[], object]


def recover(
    root: Place,
    done: Recovered,
    tick: Tick = lambda: None,
    tuning: Tuning | None = None,
    ledger: Secret | None = None,
) -> None:
    """Recovers a lake that nobody else is using. Blocking.

    Args:
        root: the lake.
        done: tells how far it is, and what was done.
        tick: is called now and then.
        tuning: tells the time.
        ledger: the URL of the database that its ledger is in, or is to be in; None for beside its data.

    Raises:
        LakeError: there is no lake, it is in use, or it can't be written.
    """
    tuning = tuning or Tuning()
    store = Store(root, tuning, shared=ledger is not None)
    place = ledger_place(store, ledger)
    if not any(store.holds_anything(name) for name in (*CATALOGUE, layout.HOME)):
        raise LakeBroken(f"{root} is not a lake: there are no data files in it, and no {layout.HOME}")
    store.make_home()
    aside = AsideFolder.of_now(store, tuning.clock())
    lost = place.forget_unreadable(aside.take)
    with place.locked(moving=True):
        store.claim()
        done.why = lost or _unusable(place)
        done.rebuilt = done.why is not None or not place.there()
    if not done.rebuilt:
        done.why = _shared_are_wrong(root, ledger)
        done.rebuilt = done.why is not None
    with place.locked(moving=True):
        if done.rebuilt:
            Anew(place, done, tick, tuning.clock(), aside).run()
        done.moved = set_aside_if_moved(store, _tables_of(place), aside.take)
    with open_lake(root, tuning, ledger=ledger) as lake:  # which has tables follow a ledger, or makes them anew
        if not done.rebuilt:
            aside.store = lake.store
            Mending(lake, done, tick, tuning.clock(), aside).run()
            lake.sealer.tables.catch_up()
    if aside.files:
        done.folder, done.shown = aside.name, store.shown(aside.name)


def _tables_of(place: LedgerPlace) -> TableChoice | None:
    """Which tables a sound ledger says that the lake has."""
    database = place.open()
    try:
        return Runs(database).table()
    finally:
        database.close()


def _shared_are_wrong(root: Place, ledger: Secret | None) -> str | None:
    """What is wrong where files hold rows of many sends: then a sound ledger, too, is made anew. None if nothing is."""
    with verifying(root, quick=False, ledger=ledger) as seen:
        if not seen.shared:
            return None
        wrong = [finding for finding in seen.findings() if finding.kind not in {Kind.STRAY, Kind.TABLE}]
    if not wrong:
        return None
    files = [finding for finding in wrong if finding.file is not None]
    if not files:
        return f"it contradicts itself. {wrong[0].what}"
    many = "a file that it counts is" if len(files) == 1 else f"{len(files):,} files that it counts are"
    return f"{many} missing, damaged or another one, such as {files[0].file}. {files[0].what}"


def _unusable(place: LedgerPlace) -> str | None:
    """Why the ledger that is there can't be used; None if it can, or there is none. Raises LakeBroken for a newer one.

    A ledger that can't be opened, for want of a permission perhaps, is no reason to make another: raises LakeError.
    """
    if not place.there():
        return None
    try:
        place.open().close()
    except LakeBroken as error:
        if place.is_newer():
            raise
        return str(error)
    return None


__all__ = ["Recovered", "recover"]
