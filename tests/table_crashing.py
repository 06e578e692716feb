"""Harvests, refreshes and mergings of files of lakes with tables, killed for real around what they tell the tables.

``python -m tests.table_crashing DIR`` tries one place after the other: a process is forked from this one and kills
itself with SIGKILL right before or right after the ledger says that data files have their names, that tables are about
to be changed, or that a log takes a transaction. Another process goes on from there, and holds the tables against the
truth. One JSON object is printed for each.

With ``TEST_STRIDE=1`` that is done at every place, in both formats, for lakes whose files are of a send and for such
whose files many sends share. Otherwise at one place of each kind of work, a different one each time.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import sys
import traceback
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import anyio

from harvester.config import Refresh
from harvester.harvest.upkeep import Compacted, compact, verifying
from harvester.lake.formats.deltalog import DeltaLog
from harvester.lake.formats.following import Tables
from harvester.lake.formats.iceberglog import IcebergLog
from harvester.lake.inventory import Inventory
from harvester.lake.partitioned.sharedfiles import SharedFiles
from harvester.simulator.spec import listed
from tests.harvesting import field
from tests.tables import KINDS, SPEC, TUNING, Kind, assert_exact, rows, sealings
from tests.thorough import STRIDE

SMALL = replace(SPEC, sends=listed({601: 130, 602: 12}))
SMALL_FILES = replace(TUNING, target_bytes=8_000)
DATASETS = {"datasets": ("messages",)}
LARGE_FILES = replace(TUNING, target_bytes=2**27)
PLACES: list[tuple[type, str]] = [
    (Inventory, "fulfil"),
    (Inventory, "fulfil_whole"),
    (SharedFiles, "fulfil"),
    (Tables, "_commit"),
    (DeltaLog, "commit"),
    (IcebergLog, "commit"),
]
WORKS = ("harvest", "refresh", "compact")
FEW = [("after", ".fulfil"), ("after", "Log.commit"), ("before", "Log.commit")]

Where = Callable[[int, str], bool]
"""Whether to be killed at a place, by its number and what it is."""


def kill(where: Where, note: Path) -> None:
    """Has this process killed at the first such place, of which it leaves a note."""
    reached = 0

    def here(what: str) -> None:
        nonlocal reached
        reached += 1
        if where(reached, what):
            note.write_text(json.dumps(what))
            os.kill(os.getpid(), signal.SIGKILL)

    def around(name: str, step: Callable[..., Any]) -> Callable[..., Any]:
        def stepped(*args: Any, **kwargs: Any) -> Any:
            here(f"before {name}")
            done = step(*args, **kwargs)
            here(f"after {name}")
            return done

        return stepped

    for place, name in PLACES:
        setattr(place, name, around(f"{place.__name__}.{name}", getattr(place, name)))


async def work(what: str, lake: Path, kind: Kind, where: Where | None) -> None:
    """Harvests, refreshes, or merges files; if nothing kills it, holds the tables against the truth."""
    (table, by), note = kind, lake.with_suffix(".json")
    settings: dict[str, Any] = {
        "limit": 100,
        "concurrency": 1,
        "partition_by": by,
        "refresh": Refresh.UNSETTLED,
    } | DATASETS
    async with field(lake, SMALL, tuning=SMALL_FILES, **settings) as account:
        account.server.account.settled = what != "harvest"
        before = sealings(table, lake, "messages") if what == "compact" else []
        if where is not None:
            kill(where, note)
        if what == "compact":
            compact(lake, LARGE_FILES, Compacted())
            assert len(sealings(table, lake, "messages")) <= len(before) + 1
        else:
            for id_send in SMALL.sends.ids:
                assert (await account.run([id_send], table=table)).complete
        assert_exact(table, account.server.account, lake, **DATASETS, by=by)
    waiting = rows(table, lake, "messages", by).column("message_status").to_pylist().count("wait")
    assert (waiting == 0) == (what != "harvest")
    with verifying(lake, quick=True) as seen:
        assert list(seen.findings()) == []
    note.write_text("null")


def run(what: str, lake: Path, kind: Kind, where: Where | None) -> str | None:
    """Work in a process of its own; where it was killed, if it was."""
    process = os.fork()
    if process == 0:
        status = 1
        try:
            anyio.run(work, what, lake, kind, where)
            status = 0
        except BaseException:  # noqa: BLE001  whatever it is, it is told, and this process ends here
            traceback.print_exc()
        finally:
            os._exit(status)
    status = os.waitstatus_to_exitcode(os.waitpid(process, 0)[1])
    if status not in {0, -signal.SIGKILL}:
        raise SystemExit(f"{what}, {kind}: ended with {status}")
    told: str | None = json.loads(lake.with_suffix(".json").read_text())
    return told


def killed_at(number: int) -> Where:
    return lambda reached, _what: reached == number


def killed_around(when: str, step: str) -> Where:
    return lambda _reached, what: what.startswith(when) and what.endswith(step)


def main(folder: Path) -> None:
    """Kills work on one lake after the other, at one place after the other."""
    for of_lake, kind in enumerate(KINDS if STRIDE == 1 else KINDS[2:]):
        table, by = kind
        lake, before = folder / f"{table}-{by.value}" / "lake", folder / f"{table}-{by.value}" / "before"
        lake.mkdir(parents=True)
        for of_work, what in enumerate(WORKS):
            shutil.copytree(lake, before)
            killed: str | None = ""
            number = 0
            while killed is not None and (STRIDE == 1 or not number):
                number += 1
                shutil.rmtree(lake)
                shutil.copytree(before, lake)  # where it was: Iceberg's tables name their files by that
                few = FEW[(of_lake + of_work) % len(FEW)]
                killed = run(what, lake, kind, killed_at(number) if STRIDE == 1 else killed_around(*few))
                if killed is not None:
                    run(what, lake, kind, None)
                told = {"table": str(table), "by": by.value, "work": what, "killed": killed}
                sys.stdout.write(json.dumps(told) + "\n")
                sys.stdout.flush()
            shutil.rmtree(before)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
