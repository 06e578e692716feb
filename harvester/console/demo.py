"""``harvester demo``: a simulated account, harvested for real, and the lake held against the truth.

The simulator is a process of its own, as a server would be. It ends with this one, however this one ends: it stops as
soon as the pipe between them closes. It is in a session of its own, too, so that Ctrl-C reaches the harvest alone.
"""

import http.client
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any
from urllib.parse import urlsplit

from cyclopts import Group, Parameter
from rich.text import Text

from harvester.config import Settings
from harvester.console.converters import path
from harvester.console.exits import Exit, tell
from harvester.console.output import print_lines
from harvester.console.running import run_harvest
from harvester.console.sources import PREFIX
from harvester.console.wording import count
from harvester.datasets import BOUNCES, MESSAGES, Dataset
from harvester.errors import HarvesterError, UsageError
from harvester.model import Secret, Send

OPTIONS = Group("What to show", sort_key=1)
_SENDS = 8
_RATE = 6.0
_LIMIT = 5_000
_FAULTS = "500=0.04,reset=0.03,truncate=0.03,short=0.03"
_STOP_S = 5.0


@Parameter(name="*")
@dataclass(frozen=True, slots=True, kw_only=True)
class DemoOptions:
    """What ``harvester demo`` can be told."""

    lake: Annotated[
        Path,
        Parameter(
            group=OPTIONS,
            converter=path,
            metavar="DIR",
            help="The folder for the Parquet files. A second run asks for nothing.",
        ),
    ] = Path("demo-lake")
    rows: Annotated[
        int, Parameter(group=OPTIONS, metavar="N", help=f"Messages of the account's {_SENDS} sends, together.")
    ] = 250_000
    seed: Annotated[int, Parameter(group=OPTIONS, metavar="N", help="What every record follows from.")] = 0


class SimulatorFailed(HarvesterError):
    """The simulator did not start, or went away."""


@dataclass(frozen=True, slots=True)
class _Simulated:
    """A simulated account that another process serves."""

    url: str
    client_id: str
    client_md5: str
    sends: tuple[int, ...]

    def get(self, path: str) -> Any:  # noqa: ANN401  decoded JSON
        """What the simulator tells of itself; not part of the API. Raises SimulatorFailed."""
        connection = http.client.HTTPConnection(urlsplit(self.url).netloc)
        try:
            connection.request("GET", path)
            return json.loads(connection.getresponse().read())
        except (OSError, http.client.HTTPException, ValueError) as error:
            raise SimulatorFailed(f"the simulator can't be asked for {path}: {error}") from error
        finally:
            connection.close()


def run_demo(options: DemoOptions) -> Exit:
    """Simulate, harvest, compare. Raises UsageError, SimulatorFailed."""
    if options.rows < 1:
        raise UsageError(f"--rows is at least 1, not {options.rows}")
    with _simulator(options) as account:
        tell(
            f"Harvesting {count(options.rows, 'message')} in {_SENDS} sends from a simulated account at {account.url}, "
            f"{_RATE:g} queries a second. It fails now and then, on purpose."
        )
        lake = options.lake.expanduser()
        settings = Settings(
            lake=lake,
            client_id=account.client_id,
            client_md5=Secret(account.client_md5),
            endpoint=account.url,
            rate=_RATE,
            limit=_LIMIT,
            timeout_s=30.0,
            patience_s=300.0,
        )
        sends = [Send(id_send) for id_send in account.sends]
        status = run_harvest(settings, sends, json=False, log_format="auto")
        if status is not Exit.COMPLETE:
            return status
        print_lines(_to_try(lake))
        print_lines(_served(account))
        same = _compared(account, lake)
    return Exit.COMPLETE if same else Exit.INCOMPLETE


@contextmanager
def _simulator(options: DemoOptions) -> Iterator[_Simulated]:
    arguments = f"--sends skewed:{_SENDS}:{options.rows} --seed {options.seed} --latency 0.1..0.4 --faults {_FAULTS}"
    process = subprocess.Popen(  # noqa: S603  our own program
        [sys.executable, "-m", "harvester", "simulate", "--json", "--until-stdin-closes", *arguments.split()],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env={name: value for name, value in os.environ.items() if not name.startswith(PREFIX)},
        start_new_session=True,
    )
    try:
        if process.stdin is None or process.stdout is None:
            raise SimulatorFailed("the simulator has no pipes")
        line = process.stdout.readline()
        if not line:
            raise SimulatorFailed("the simulator did not start")
        told = json.loads(line)
        yield _Simulated(told["url"], told["client_id"], told["client_md5"], tuple(told["sends"]))
    finally:
        process.terminate()
        try:
            process.wait(_STOP_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        for pipe in (process.stdin, process.stdout):
            if pipe is not None:
                pipe.close()


def _to_try(lake: Path) -> Iterator[Text]:
    """A query that runs with what the harvester itself needs, unlike the one for DuckDB."""
    yield Text(
        f'  {sys.executable} -c "import pyarrow.parquet as pq; print(pq.read_table('
        f"'{lake}/messages').group_by('tld').aggregate([([], 'count_all')]).to_pylist())\""
    )


def _served(account: _Simulated) -> Iterator[Text]:
    stats = account.get("/stats")
    faults = ", ".join(f"{kind} {number}" for kind, number in sorted(stats["faults"].items()))
    asked = (
        count(stats["requests"], "query", "queries") if stats["requests"] else "nothing: all of it was there already"
    )
    yield Text("")
    yield Text(f"The account was asked {asked}{f'; it failed on purpose: {faults}' if faults else ''}.")


def _compared(account: _Simulated, lake: Path) -> bool:
    """Hold every value that the lake holds against what the account holds."""
    tell("Comparing every value with the truth …")
    total, wrong = 0, []
    ahead = ThreadPoolExecutor(1)  # the simulator works on one send while the lake's part of another is read
    try:
        truths = ahead.map(account.get, [f"/truth?id_send={id_send}" for id_send in account.sends])
        for id_send, truth in zip(account.sends, truths, strict=True):
            for dataset in (MESSAGES, BOUNCES):
                name = dataset.name
                rows, value = _held(lake, dataset, id_send)
                total += rows
                if (rows, value) != (truth[name]["rows"], truth[name]["digest"]):
                    wrong.append(
                        f"{name} of send {id_send}: {rows:,} rows in the lake, {truth[name]['rows']:,} in truth"
                    )
    finally:
        ahead.shutdown(wait=False, cancel_futures=True)
    if not wrong:
        print_lines(
            [Text(f"The lake equals the truth: {count(total, 'row')}, every value compared.", style="bold green")]
        )
        return True
    lines = ["The lake differs from the truth:", *(f"  {line}" for line in wrong)]
    lines.append(f"(Was {lake} filled with other --rows or another --seed? Give --lake another folder then.)")
    print_lines([Text(line, style="bold red" if line is lines[0] else "") for line in lines])
    return False


def _held(lake: Path, dataset: Dataset, id_send: int) -> tuple[int, str]:
    """How many rows a reader of the lake finds of a slice, and their digest."""
    import pyarrow.dataset as pad  # noqa: PLC0415  only this command pays for it

    from harvester.simulator import digest  # noqa: PLC0415  likewise

    files = sorted((lake / dataset.name / f"send={id_send}").glob("*.parquet"), key=_first_key)
    found = pad.dataset([str(file) for file in files], schema=dataset.schema, format="parquet")
    batches = list(found.to_batches())
    return sum(batch.num_rows for batch in batches), digest(dataset, batches)


def _first_key(file: Path) -> int:
    return int(file.stem.split("-")[1])


__all__ = ["DemoOptions", "run_demo"]
