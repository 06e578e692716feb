"""Recovering a lake: a ledger that is lost is made anew from the data files; a sound one has its faults mended.

(``recovery`` is another thing: what every run does first, after a crash.)

Invariant: no file is deleted; what is in the way goes to ``_harvest/set-aside/``.
"""

from __future__ import annotations

import sqlite3
from contextlib import closing
from typing import TYPE_CHECKING

from harvester.config import Tuning
from harvester.datasets import CATALOGUE
from harvester.errors import LakeBroken
from harvester.lake import layout
from harvester.lake.anew import Anew
from harvester.lake.database import Database
from harvester.lake.lake import open_lake
from harvester.lake.mending import Mending
from harvester.lake.salvaging import Recovered
from harvester.lake.store import Store
from harvester.lake.tables import FORMAT

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from harvester.places import Place

    Tick = Callable[[], object]

_LEAST_BYTES = 512
"""SQLite takes what is left of a shorter ledger for one that is still empty."""


def recover(root: Place, done: Recovered, tick: Tick = lambda: None, tuning: Tuning | None = None) -> None:
    """Recovers a lake that nobody else is using. Blocking.

    Args:
        root: the lake.
        done: tells how far it is, and what was done.
        tick: is called now and then.
        tuning: tells the time.

    Raises:
        LakeError: there is no lake, it is in use, or it can't be written.
    """
    tuning = tuning or Tuning()
    store = Store(root, tuning)
    if not any(store.holds_anything(name) for name in (*CATALOGUE, layout.HOME)):
        raise LakeBroken(f"{root} is not a lake: there are no data files in it, and no {layout.HOME}")
    store.make_home()
    with store.locked(layout.LOCK):
        store.claim()
        done.why = _unusable(store)
        done.rebuilt = done.why is not None or not _has_ledger(store)
        if done.rebuilt:
            Anew(store, done, tick, tuning.clock()).run()
    with open_lake(root, tuning) as lake:  # which has tables follow a ledger that was made anew
        if not done.rebuilt:
            Mending(lake, done, tick, tuning.clock()).run()


def _unusable(store: Store) -> str | None:
    """Why the ledger that is there can't be used; None if it can, or there is none. Raises LakeBroken for a newer one.

    A ledger that can't be opened, for want of a permission perhaps, is no reason to make another: raises LakeError.
    """
    if not _has_ledger(store):
        return None
    path = store.state.root / layout.LEDGER
    try:
        Database.open(path, create=True).close()
    except LakeBroken as error:
        if _is_newer(path):
            raise
        return str(error)
    return None


def _has_ledger(store: Store) -> bool:
    return (store.size(layout.LEDGER) or 0) >= _LEAST_BYTES


def _is_newer(path: Path) -> bool:
    try:
        with closing(sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", uri=True)) as database:
            (found,) = database.execute("SELECT value FROM facts WHERE name = 'format'").fetchone()
            return int(found) > FORMAT
    except (sqlite3.Error, TypeError, ValueError):
        return False


__all__ = ["Recovered", "recover"]
