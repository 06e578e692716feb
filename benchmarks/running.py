"""Starts processes that are to be measured whole: their processor time is theirs alone, and that of the account's not.

``harvest`` raises WrongResult where rows are missing.
"""

from __future__ import annotations

import compileall
import json
import os
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow.dataset as ds

from benchmarks.account import ROOT
from benchmarks.figures import WrongResult

if TYPE_CHECKING:
    from collections.abc import Sequence

    from benchmarks.account import Served


_PACKAGES = ("harvester", "benchmarks")


@dataclass(frozen=True, slots=True)
class Used:
    """What a process took, from its start to its end.

    Attributes:
        seconds: on the clock.
        processor_s: of all its threads.
    """

    seconds: float
    processor_s: float


@dataclass(frozen=True, slots=True)
class Harvested:
    """What a harvest took.

    Attributes:
        rows: how many rows it brought.
        whole: what the whole process took, with starting Python.
        harvest_s: seconds on the clock while it harvested.
        harvest_processor_s: processor time meanwhile.
        queued_s: how long its threads waited meanwhile for a core that others had; of those that are left in the end.
        peak_bytes: the most memory that the process had.
        serving_s: processor time that the account took meanwhile, in its own process.
        late_s: how late the event loop was, each time it was asked.
        own_s: how much processor time the process used meanwhile, each time.
    """

    rows: int
    whole: Used
    harvest_s: float
    harvest_processor_s: float
    queued_s: float
    peak_bytes: int
    serving_s: float
    late_s: tuple[float, ...]
    own_s: tuple[float, ...]

    @property
    def processor_s_a_row(self) -> float:
        return self.whole.processor_s / self.rows


def run_whole(command: Sequence[str], **variables: str) -> Used:
    """Runs a command to its end, its output thrown away. Raises WrongResult, with what it said, if it fails.

    Modules are compiled beforehand, as those of an installed program are.
    """
    for package in _PACKAGES:
        compileall.compile_dir(ROOT / package, quiet=2)
    with tempfile.TemporaryFile() as said:
        began = time.perf_counter()
        process = subprocess.Popen(
            command, cwd=ROOT, env=os.environ | variables, stdin=subprocess.DEVNULL, stdout=said, stderr=said
        )
        _, status, used = os.wait4(process.pid, 0)
        seconds = time.perf_counter() - began
        process.returncode = os.waitstatus_to_exitcode(status)
        if process.returncode:
            said.seek(0)
            tail = said.read().decode(errors="replace")[-2000:]
            raise WrongResult(f"{command[2]} ended with {process.returncode}:\n{tail}")
    return Used(seconds, used.ru_utime + used.ru_stime)


def harvest(account: Served, *, probe: bool = False, options: Sequence[str] = ()) -> Harvested:
    """Harvests all messages of an account into a lake that is thrown away, by ``harvester run``.

    How many messages each send has is known beforehand, as it is where a run finds its sends.

    Args:
        account: what to harvest.
        probe: whether to ask the event loop how late it is.
        options: further options of ``harvester run``.
    """
    served_s = account.processor_s()
    with tempfile.TemporaryDirectory(prefix="benchmark-") as folder:
        lake, figures, listed = Path(folder, "lake"), Path(folder, "figures.json"), Path(folder, "sends.csv")
        pairs = zip(account.sends.ids, account.sends.rows, strict=True)
        listed.write_text("id_send,rows\n" + "".join(f"{id_send},{rows}\n" for id_send, rows in pairs), "utf-8")
        command = [sys.executable, "-m", "benchmarks.watched", str(figures), "probe" if probe else "-", "run"]
        command += ["--lake", str(lake), "--endpoint", account.url, "--client-id", account.client_id]
        command += ["--sends-file", str(listed), "--dataset", "messages", "--rate", "1000", "--burst", "1000"]
        used = run_whole([*command, "--json", *options], HARVESTER_CLIENT_MD5=account.client_md5)
        found: dict[str, Any] = json.loads(figures.read_text(encoding="utf-8"))
        rows = rows_in(lake / "messages")
    if rows != account.rows:
        raise WrongResult(f"the lake holds {rows} rows, and the account {account.rows}")
    return Harvested(
        rows=rows,
        whole=used,
        harvest_s=found["harvest_s"],
        harvest_processor_s=found["harvest_processor_s"],
        queued_s=found["queued_s"],
        peak_bytes=found["peak_bytes"],
        serving_s=account.processor_s() - served_s,
        late_s=tuple(found.get("late_s", ())),
        own_s=tuple(found.get("own_s", ())),
    )


def rows_in(folder: Path) -> int:
    """How many rows the Parquet files below a folder hold."""
    return int(ds.dataset(sorted(map(str, folder.rglob("*.parquet")))).count_rows())


__all__ = ["Harvested", "Used", "harvest", "rows_in", "run_whole"]
