"""A small harvest, or a refresh, that ends at its n-th durable step: for every n, and each time for real.

``python -m tests.crashing DIR harvest`` (or ``refresh``, or ``wide``: three sends in one walk) runs it for n = 1, 2, 3,
… until there is no such step, and prints one JSON object for each (one of several, unless ``TEST_STRIDE`` says 1: see
``make soak``). Each run is a process of its own, forked from this one, that ends by ``os._exit`` right before the step:
nothing is unwound or closed, and a file that was about to be synced is cut to half, as a power cut may do. The process
after it goes on from there to the end, and holds the lake against the truth.

A durable step is a folder made, a file synced, renamed or removed, or a commit of the ledger.
"""

from __future__ import annotations

import json
import os
import shutil
import stat
import sys
import traceback
from collections.abc import Callable
from dataclasses import replace
from datetime import datetime, timedelta
from functools import cache
from pathlib import Path
from typing import Any

import anyio
from sqlalchemy.engine import Connection

from harvester.config import Scope, Wire
from harvester.datasets import CATALOGUE, DEFAULT
from harvester.harvest.status import read_status
from harvester.simulator import AccountSpec, body, listed, records
from harvester.simulator.account import Account
from harvester.simulator.truth import digest, expected
from tests.harvesting import QUICK, field, lake_table
from tests.thorough import STRIDE

STOPPED = 70
"""The exit status of a process that stopped where it was told to."""
SENT = datetime(2026, 11, 1, 9, 0, 0)  # noqa: DTZ001  the API's dates have no zone
SPEC = AccountSpec(sends=listed({601: 130}), failed=0.2, waiting=0.1, first_date=SENT, days_between=0.0)
TUNING = replace(QUICK, clock=lambda: SENT + timedelta(days=20), target_bytes=20_000)
HARVEST, REFRESH, WIDE = "harvest", "refresh", "wide"
MANY = AccountSpec(sends=listed({601: 20, 602: 75, 603: 30}), failed=0.2)


def stop_before(number: int, note: Callable[[str], None]) -> None:
    """Has this process end right before its n-th durable step; ``note`` is told which kind that is."""
    taken = 0

    def stopping(name: str, step: Callable[..., Any]) -> Callable[..., Any]:
        def stepped(*args: Any, **kwargs: Any) -> Any:
            nonlocal taken
            taken += 1
            if taken == number:
                if name == "fsync":
                    _halve(args[0])
                note(name)
                os._exit(STOPPED)
            return step(*args, **kwargs)

        return stepped

    for name in ("mkdir", "fsync", "replace", "unlink"):
        setattr(os, name, stopping(name, getattr(os, name)))
    Connection._commit_impl = stopping("commit", Connection._commit_impl)  # type: ignore[method-assign]


def _halve(descriptor: int) -> None:
    found, path = os.fstat(descriptor), Path(f"/proc/self/fd/{descriptor}")
    if stat.S_ISREG(found.st_mode) and path.exists():
        os.truncate(path, found.st_size // 2)


@cache
def truth(settled: bool) -> dict[str, str]:
    """What the account holds: a digest a dataset."""
    account = Account(SPEC)
    account.settled = settled
    return {name: digest(CATALOGUE[name], [expected(account, CATALOGUE[name], 601)]) for name in DEFAULT}


def warm_up(settled: bool) -> None:
    """Makes what each process would have to make for itself: the truth, and the texts that pages are made of."""
    truth(settled)
    account = Account(SPEC)
    for state in (False, True):
        account.settled = state
        for blocks in (records.messages(account, runs) for runs in records.blocks(account.all_runs(0, erased=False))):
            b"".join(body.record_list(account, [blocks], Wire.JSON))
        b"".join(body.record_list(account, records.bounces(account, 0), Wire.JSON))


async def harvest(lake: Path, settled: bool, stops_at: int | None, note: Path) -> None:
    """Harvests, or refreshes; notes how many requests it took, and where it was stopped."""
    async with field(lake, SPEC, tuning=TUNING, limit=50, concurrency=1) as account:
        account.server.account.settled = settled
        requests = account.server.stats

        def write(step: str | None) -> None:
            note.write_text(json.dumps([step, requests.requests]))

        if stops_at is not None:
            stop_before(stops_at, write)
        result = await account.run()
    assert result.complete, [outcome.error for outcome in result.slices()]
    for name, true in truth(settled).items():
        assert digest(CATALOGUE[name], [lake_table(lake, name, 601)]) == true, name
    assert not [path for folder in ("segments", "writing") for path in (lake / "_harvest" / folder).iterdir()]
    status = read_status(lake)
    assert (status.staged_segments, status.rows["messages"], status.unsettled == 0) == (0, 130, settled)
    assert status.data_files == len(list(lake.rglob("*.parquet"))) > 2
    write(None)


async def harvest_many(lake: Path, stops_at: int | None, note: Path) -> None:
    """Likewise, of several sends at once; one is in several pages."""
    async with field(lake, MANY, limit=50, concurrency=1, scope=Scope.ACCOUNT, datasets=("messages",)) as account:
        requests = account.server.stats

        def write(step: str | None) -> None:
            note.write_text(json.dumps([step, requests.requests]))

        if stops_at is not None:
            stop_before(stops_at, write)
        result = await account.run(account.server.account.sends)
        assert result.complete, [outcome.error for outcome in result.slices()]
        account.assert_exact(datasets=("messages",))
    assert not [path for folder in ("segments", "writing") for path in (lake / "_harvest" / folder).iterdir()]
    assert read_status(lake).data_files == len(list(lake.rglob("*.parquet"))) == 3
    write(None)


def run(lake: Path, what: str, stops_at: int | None) -> tuple[str | None, int]:
    """A run in a process of its own: the step that it was stopped before, if it was, and its requests."""
    note = lake.with_suffix(".json")
    process = os.fork()
    if process == 0:
        status = 1
        try:
            if what == WIDE:
                anyio.run(harvest_many, lake, stops_at, note)
            else:
                anyio.run(harvest, lake, what == REFRESH, stops_at, note)
            status = 0
        except BaseException:  # noqa: BLE001  whatever it is, it is told, and this process ends here
            traceback.print_exc()
        finally:
            os._exit(status)
    status = os.waitstatus_to_exitcode(os.waitpid(process, 0)[1])
    if status not in {0, STOPPED}:
        raise SystemExit(f"{what}, step {stops_at}: ended with {status}")
    step, requests = json.loads(note.read_text())
    return step, requests


def main(folder: Path, what: str) -> None:
    """Stops at one step after the other."""
    warm_up(settled=what == REFRESH)
    before, number = folder / "before", 1 - STRIDE
    step: str | None = ""
    if what == REFRESH:
        run(before, HARVEST, None)
    while step is not None:
        number += STRIDE
        lake = folder / str(number)
        if before.exists():
            shutil.copytree(before, lake)
        step, asked = run(lake, what, number)
        if step is not None:
            asked += run(lake, what, None)[1]
        shutil.rmtree(lake)
        sys.stdout.write(json.dumps({"step": step, "asked": asked}) + "\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2])
