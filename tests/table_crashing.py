"""Harvests and refreshes of a lake with tables that are killed, for real, around what they commit to the tables' logs.

``python -m tests.table_crashing DIR delta`` (or ``iceberg``) tries one place after the other: a process is forked from
this one and kills itself with SIGKILL right before or right after the n-th time that the ledger says that a data file
has its name, that tables are about to be changed, or that a log takes a transaction. Another process goes on from
there, and holds the tables against the truth. One JSON object is printed for each.
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

from harvester.config import TableChoice, TableFormat
from harvester.harvest.upkeep import verifying
from harvester.lake.deltalog import DeltaLog
from harvester.lake.following import Tables
from harvester.lake.iceberglog import IcebergLog
from harvester.lake.inventory import Inventory
from harvester.simulator.spec import listed
from tests.harvesting import field
from tests.test_tables import SPEC, TUNING, assert_exact, rows

STRIDE = int(os.environ.get("TEST_STRIDE", "12"))
"""Of places to be killed at, every so manieth is tried."""
SMALL = replace(SPEC, sends=listed({601: 130, 602: 12}))
PLACES: list[tuple[type, str]] = [
    (Inventory, "fulfil"),
    (Inventory, "fulfil_whole"),
    (Tables, "_commit"),
    (DeltaLog, "commit"),
    (IcebergLog, "commit"),
]


def kill_at(number: int, note: Callable[[str], None]) -> None:
    """Has this process killed at the n-th place."""
    reached = 0

    def here(what: str) -> None:
        nonlocal reached
        reached += 1
        if reached == number:
            note(what)
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


async def harvest(lake: Path, table: TableChoice, settled: bool, kills_at: int | None, note: Path) -> None:
    """Harvests, or refreshes; if nothing kills it, holds the tables against the truth."""
    async with field(lake, SMALL, tuning=TUNING, limit=100, concurrency=1, table=table) as account:
        account.server.account.settled = settled

        def write(what: str) -> None:
            note.write_text(json.dumps(what))

        if kills_at is not None:
            kill_at(kills_at, write)
        assert (await account.run()).complete
        assert_exact(table, account.server.account, lake)
    waiting = rows(table, lake, "messages").column("message_status").to_pylist().count("wait")
    assert (waiting == 0) == settled
    with verifying(lake, quick=True) as seen:
        assert list(seen.findings()) == []
    note.write_text("null")


def run(lake: Path, table: TableChoice, settled: bool, kills_at: int | None) -> str | None:
    """A run in a process of its own; where it was killed, if it was."""
    note = lake.with_suffix(".json")
    process = os.fork()
    if process == 0:
        status = 1
        try:
            anyio.run(harvest, lake, table, settled, kills_at, note)
            status = 0
        except BaseException:  # noqa: BLE001  whatever it is, it is told, and this process ends here
            traceback.print_exc()
        finally:
            os._exit(status)
    status = os.waitstatus_to_exitcode(os.waitpid(process, 0)[1])
    if status not in {0, -signal.SIGKILL}:
        raise SystemExit(f"{table}, settled {settled}, place {kills_at}: ended with {status}")
    where: str | None = json.loads(note.read_text())
    return where


def main(folder: Path, table: TableChoice) -> None:
    """Kills a harvest, and then a refresh, at one place after the other."""
    lake, before = folder / "lake", folder / "before"
    for settled in (False, True):
        where: str | None = ""
        number = 1 - STRIDE
        while where is not None:
            number += STRIDE
            shutil.rmtree(lake, ignore_errors=True)
            if settled:
                shutil.copytree(before, lake)  # where it was: Iceberg's tables name their files by that
            where = run(lake, table, settled, number)
            if where is not None:
                run(lake, table, settled, None)
            sys.stdout.write(json.dumps({"settled": settled, "where": where}) + "\n")
            sys.stdout.flush()
        shutil.copytree(lake, before, dirs_exist_ok=True)


if __name__ == "__main__":
    main(Path(sys.argv[1]), TableChoice(TableFormat(sys.argv[2])))
