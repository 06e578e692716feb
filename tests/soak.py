"""Real processes, real ``kill -9`` at random instants, again and again; then the lake is held against the truth.

``python -m tests.soak`` (or ``make soak``) serves a simulated account that fails now and then, and harvests it with
runs that are killed. Half-way, what waited for delivery settles, so that the second half of the kills hits refreshing.
The last run of each half is let finish. Then every value is compared, ``harvester verify`` has its say, and nothing may
be left over. The instants follow from ``--seed``; what is under way at them does not.
"""

from __future__ import annotations

import argparse
import contextlib
import http.client
import json
import os
import shutil
import sqlite3
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from random import Random
from typing import Any
from urllib.parse import urlsplit

import psycopg
import pytest

from harvester.datasets import CATALOGUE, DEFAULT
from harvester.lake import layout
from harvester.lake.storage.store import Store
from harvester.model import Secret
from harvester.places import ObjectLake, Place, state_of
from harvester.simulator.spec import skewed
from harvester.simulator.truth import digest
from tests import postgres
from tests.harvesting import lake_table
from tests.object_stores import BUCKET, environment_of, mirror, moto

HARVESTER = [sys.executable, "-m", "harvester"]
FAULTS = (
    "500=0.03,502=0.01,reset=0.03,truncate=0.02,short=0.02,length=0.01,bad-gzip=0.01,html=0.01,empty=0.01,error=0.01"
)
LOOK_S = 0.5
"""How long one look at the account's counts waits for more requests, in seconds."""


class SoakFailed(Exception):
    """The lake is not what it should be, or a run did not end as it should."""


AT_RISK = 2
"""So many times the queries in flight is what a kill has asked again at most: see ``harvest.plan``."""


@dataclass(frozen=True, slots=True)
class Plan:
    """What is harvested, and how often it is killed.

    Attributes:
        kills: kills, in both halves together.
        rows: messages of the account.
        sends: its sends, of unequal size.
        limit: records of a page.
        concurrency: queries in flight at once.
        latency: how long an answer takes, as ``harvester simulate`` is told.
        faults: what goes wrong how often, likewise.
        seed: of the account, its faults and the instants.
        store: where the lake is: in a folder, or in S3, of which moto's server stands in.
        ledger: where its ledger is: beside it, or in a PostgreSQL database that machines share; then each run is
            another machine's, and what was on one that was killed is lost.
    """

    kills: int = 110
    rows: int = 1_000_000
    sends: int = 40
    limit: int = 2500
    concurrency: int = 6
    latency: str = "0.05..0.3"
    faults: str = FAULTS
    seed: int = 0
    store: str = "folder"
    ledger: str = "beside"

    @property
    def pages(self) -> int:
        """About how many requests it takes to ask for everything once."""
        return self.rows // self.limit + 3 * self.sends


@dataclass(slots=True)
class Figures:
    """What came of it.

    Attributes:
        killed: kills by what was under way.
        requests: requests that the account saw.
        faults: faults that it served.
        again: full pages that were served whole twice; see ``Stats.again``.
        rows: rows of the lake, each compared with the truth.
        seconds: how long it took in all.
        verified: whether ``harvester verify`` passed; None where there is no such command.
    """

    killed: Counter[str] = field(default_factory=Counter)
    requests: int = 0
    faults: int = 0
    again: int = 0
    rows: int = 0
    seconds: float = 0.0
    verified: bool | None = None

    @property
    def kills(self) -> int:
        return self.killed.total()


@dataclass(slots=True)
class Served:
    """The account, in a process of its own."""

    told: dict[str, Any]
    plan: Plan

    @property
    def ids(self) -> range:
        first = self.told["sends"][0]
        return range(first, first + self.plan.sends)

    def ask(self, path: str, order: dict[str, Any] | None = None, timeout_s: float | None = None) -> Any:
        """What the simulator says of itself, or is told. Raises TimeoutError."""
        connection = http.client.HTTPConnection(urlsplit(self.told["url"]).netloc, timeout=timeout_s)
        with contextlib.closing(connection):
            body = None if order is None else json.dumps(order)
            connection.request("GET" if order is None else "POST", path, body)
            return json.loads(connection.getresponse().read())

    def stats(self) -> dict[str, Any]:
        found: dict[str, Any] = self.ask("/stats")
        return found


@contextmanager
def served(plan: Plan) -> Iterator[Served]:
    """Serves the account until the block ends."""
    words = [f"--sends=skewed:{plan.sends}:{plan.rows}", f"--seed={plan.seed}", f"--fault-seed={plan.seed}"]
    words += [f"--latency={plan.latency}", f"--faults={plan.faults}", "--gaps=3", "--waiting=0.04", "--failed=0.05"]
    command = [*HARVESTER, "simulate", "--json", "--until-stdin-closes", *words]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        try:
            yield Served(json.loads(process.stdout.readline()), plan)
        finally:
            process.terminate()


class Soak:
    """One soak, in a folder of its own."""

    def __init__(self, plan: Plan, account: Served, folder: Path, ledger: Secret | None = None) -> None:
        self.plan = plan
        self.account = account
        self.lake: Place = folder / "lake"
        if plan.store == "s3":
            self.lake = ObjectLake(f"s3://{BUCKET}/soak", folder / "lake")
        self.ledger = ledger
        self.figures = Figures()
        self._folder = folder
        self._log = folder / "stderr"
        self._dice = Random(plan.seed)
        self._list = folder / "sends.csv"
        sizes = dict(zip(account.ids, skewed(plan.sends, plan.rows).rows, strict=True))
        # Every other send says how many messages it has, so that both proofs of messages are met.
        lines = [f"{send},{rows if send % 2 else ''}" for send, rows in sizes.items()]
        self._list.write_text("\n".join(["id_send,rows", *lines]) + "\n")

    def soak(self) -> Figures:
        began = time.monotonic()
        self._half(self.plan.kills // 2)
        self.account.ask("/control", {"settled": True, "reset_stats": True})
        more: list[str] = []
        while self.figures.kills < self.plan.kills:
            self._half(self.plan.kills - self.figures.kills, *more)
            more = ["--refresh", "all"]
            self.account.ask("/control", {"reset_stats": True})
        self._compare()
        self._look_for_leftovers()
        self.figures.verified = self._verify()
        self.figures.seconds = time.monotonic() - began
        return self.figures

    def _half(self, kills: int, *more: str) -> None:
        """Runs that are killed, and one that is let finish; that is the first that comes to its end before its kill."""
        for left in range(kills, 0, -1):
            if not self._killed(left, *more):
                break
        else:
            done = subprocess.run(
                self._command("--json", *more), env=self._environment(), capture_output=True, check=False
            )
            if done.returncode != 0:
                raise SoakFailed(f"the last run ended with {done.returncode}: {done.stdout!r} {done.stderr!r}")
        stats = self.account.stats()
        self.figures.requests += stats["requests"]
        self.figures.faults += sum(stats["faults"].values())
        self.figures.again += stats["again"]

    def _killed(self, kills_left: int, *more: str) -> bool:
        """A run that is killed at some instant; False if it came to its end before."""
        before = self.account.stats()["requests"]
        share = max(1.0, (0.9 * self.plan.pages - before) / kills_left)
        until = before + round(self._dice.uniform(0, 2 * share))
        sooner_s = self._dice.uniform(0.1, 2.0) if self._dice.random() < 0.2 else None  # while it starts, perhaps
        later_s = self._dice.uniform(0, 0.3)
        with self._log.open("wb") as log:
            process = subprocess.Popen(
                self._command(*more), env=self._environment(), stdout=subprocess.DEVNULL, stderr=log
            )
        with process:
            if sooner_s is not None:
                time.sleep(sooner_s)
            else:
                while process.poll() is None:
                    with contextlib.suppress(TimeoutError):
                        self.account.ask(f"/stats?requests={until}", timeout_s=LOOK_S)
                        break
                time.sleep(later_s)
            now = self.account.stats()
            process.kill()
        if process.returncode >= 0:
            if process.returncode != 0:
                raise SoakFailed(f"a run ended with {process.returncode}: {self._log.read_text()}")
            return False
        self.figures.killed[self._under_way(asked=now["requests"] > before)] += 1
        if self.ledger is not None and isinstance(self.lake, ObjectLake):
            shutil.rmtree(self.lake.state, ignore_errors=True)
            self.lake = replace(self.lake, state=self._folder / f"machine-{self.figures.kills}")
        return True

    def kill_once(self, requests: int, so: Callable[[], bool], *more: str) -> None:
        """A run that is killed once there have been so many requests and it is so; it must not end before."""
        command = self._command(*more)
        with subprocess.Popen(command, env=self._environment(), stderr=subprocess.DEVNULL) as run:
            self.account.ask(f"/stats?requests={requests}", timeout_s=100)
            while not so():
                assert run.poll() is None, "it came to its end before"
            run.kill()

    def _under_way(self, *, asked: bool) -> str:
        """What the killed run was doing, by what it left."""
        home = state_of(self.lake) / "_harvest"
        left = _left(home, self._folder) if self.ledger is None else _left_in(self.ledger)
        if left is None:
            return "making the ledger"
        store = Store(self.lake, shared=self.ledger is not None)
        staged = set(store.names(layout.SEGMENTS))
        written = any((home / "writing").glob("*")) or any(store.names(layout.WRITING))
        return next(
            what
            for what, so in (
                ("replacing: written, being renamed", left.intended & left.ended),
                ("sealing: written, being renamed", left.intended),
                ("replacing: writing the file", written and left.ended),
                ("sealing: writing the file", written),
                ("staging: written, not committed", staged - left.segments),
                ("starting, putting right", not asked),
                ("fetching to refresh", left.refreshing),
                ("fetching", True),
            )
            if so
        )

    def _command(self, *more: str) -> list[str]:
        plan, told = self.plan, self.account.told
        where = ["--lake", str(self.lake), *self._state, "--endpoint", told["url"], "--client-id", told["client_id"]]
        pace = ["--rate", "1000", "--burst", "100", "--limit", str(plan.limit), "--concurrency", str(plan.concurrency)]
        return [*HARVESTER, "run", *where, *pace, "--sends-file", str(self._list), "--patience", "10m", *more]

    @property
    def _state(self) -> list[str]:
        return ["--state", str(self.lake.state)] if isinstance(self.lake, ObjectLake) else []

    def _environment(self) -> dict[str, str]:
        ledger = {} if self.ledger is None else {"HARVESTER_LEDGER": str(self.ledger)}
        return os.environ | ledger | {"HARVESTER_CLIENT_MD5": self.account.told["client_md5"]}

    def _compare(self) -> None:
        """Every value of the lake against the account's."""
        lake = self._folder / "copy" if isinstance(self.lake, ObjectLake) else self.lake
        if isinstance(self.lake, ObjectLake):
            mirror(self.lake, lake)
        with ThreadPoolExecutor(1) as ahead:  # the simulator works on one send while the lake's part of another is read
            truths = ahead.map(lambda send: self.account.ask(f"/truth?id_send={send}"), self.account.ids)
            for id_send, truth in zip(self.account.ids, truths, strict=True):
                for dataset in (CATALOGUE[name] for name in DEFAULT):
                    held = lake_table(lake, dataset.name, id_send)
                    true = truth[dataset.name]
                    if (held.num_rows, digest(dataset, [held])) != (true["rows"], true["digest"]):
                        raise SoakFailed(f"{dataset.name} of send {id_send}: {held.num_rows} rows, not {true['rows']}")
                    self.figures.rows += held.num_rows

    def _look_for_leftovers(self) -> None:
        lake = state_of(self.lake)
        home = lake / "_harvest"
        left = [path for folder in ("segments", "writing") for path in (home / folder).glob("*")]
        left += [path for path in lake.rglob("*") if path.is_file() and path.suffix != ".parquet"]
        left = [path for path in left if path.parent != home]
        if self.ledger is not None and isinstance(self.lake, ObjectLake):
            ours = mirror(self.lake, self._folder / "copy") / layout.HOME
            left += [path for path in ours.rglob("*") if path.is_file() and path != ours.parent / layout.ELSEWHERE]
        if left:
            raise SoakFailed(f"left over: {', '.join(map(str, left))}")

    def _verify(self) -> bool | None:
        known = subprocess.run([*HARVESTER, "--help"], capture_output=True, text=True, check=True)
        if " verify " not in known.stdout:
            return None
        done = subprocess.run(
            [*HARVESTER, "verify", str(self.lake), *self._state],
            env=self._environment(),
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode != 0:
            raise SoakFailed(f"harvester verify ended with {done.returncode}: {done.stdout} {done.stderr}")
        return True


@dataclass(frozen=True, slots=True)
class _Left:
    """What a ledger says after a kill: names of segments, and slices by number, of which something is half done."""

    segments: set[str]
    intended: set[int]
    ended: set[int]
    refreshing: set[int]


def _left(home: Path, folder: Path) -> _Left | None:
    """Reads a copy of the ledger, since opening it would put it right; None if there is none yet."""
    with tempfile.TemporaryDirectory(dir=folder) as copies:
        for path in home.glob("ledger.sqlite*"):
            if not path.name.endswith("-shm"):
                shutil.copyfile(path, Path(copies) / path.name)
        with contextlib.closing(sqlite3.connect(Path(copies) / "ledger.sqlite")) as connection:

            def values(query: str) -> set[Any]:
                return {row[0] for row in connection.execute(query)}

            return _told(values, "SELECT name FROM sqlite_master")


def _left_in(ledger: Secret) -> _Left | None:
    """Likewise, of a ledger that is the only one in its database."""
    with psycopg.connect(ledger, autocommit=True) as connection:

        def values(query: str) -> set[Any]:
            return {row[0] for row in connection.execute(query.encode())}

        for schema in values("SELECT nspname FROM pg_namespace WHERE nspname LIKE 'harvester%'"):
            connection.execute(f"SET search_path TO {schema}".encode())
            return _told(values, f"SELECT tablename FROM pg_tables WHERE schemaname = '{schema}'")
    return None


def _told(values: Callable[[str], set[Any]], tables: str) -> _Left | None:
    if not {"segments", "data_files", "refreshes"} <= values(tables):
        return None
    return _Left(
        segments=values("SELECT name FROM segments"),
        intended=values("SELECT slice_id FROM data_files WHERE sealed = 0"),
        ended=values("SELECT slice_id FROM refreshes WHERE ended = 1"),
        refreshing=values("SELECT slice_id FROM refreshes"),
    )


def soak(plan: Plan, folder: Path) -> Figures:
    """Soaks a lake in a folder. Raises SoakFailed."""
    with ExitStack() as held:
        account = held.enter_context(served(plan))
        if plan.store == "s3":
            os.environ.update(environment_of("s3", held.enter_context(moto())))
        ledger = None
        if plan.ledger == "shared":
            database = held.enter_context(postgres.server())
            ledger = database.url(database.database())
        return Soak(plan, account, folder, ledger).soak()


def lines(plan: Plan, figures: Figures) -> Iterator[str]:
    """The figures, as a table."""
    most = AT_RISK * plan.concurrency * figures.kills
    yield f"account        {plan.rows:,} messages in {plan.sends} sends, {plan.limit:,} to a page"
    yield f"kills          {figures.kills}, with {plan.concurrency} queries in flight"
    for what, number in figures.killed.most_common():
        yield f"               {number:5} {what}"
    yield f"requests       {figures.requests:,}, of which {figures.faults:,} failed on purpose"
    each = figures.again / max(1, figures.kills)
    yield f"asked again    {figures.again:,} pages, {each:.2f} a kill, of {most:,} in flight or on their way in"
    yield f"lake           {figures.rows:,} rows, every value compared with the truth; nothing left over"
    yield f"verify         {'passed' if figures.verified else 'there is no such command'}"
    yield f"took           {figures.seconds:.0f} s"


def main() -> None:
    """Soaks by the command line's options."""
    parser = argparse.ArgumentParser(description="Kills runs at random instants and holds the lake against the truth.")
    for name in ("kills", "rows", "sends", "limit", "concurrency", "seed"):
        parser.add_argument(f"--{name}", type=int, metavar="N", default=getattr(Plan(), name))
    parser.add_argument("--latency", metavar="TIME", default=Plan().latency)
    parser.add_argument("--faults", metavar="FAULTS", default=FAULTS)
    parser.add_argument("--store", choices=("folder", "s3"), default=Plan().store)
    parser.add_argument("--ledger", choices=("beside", "shared"), default=Plan().ledger)
    plan = Plan(**vars(parser.parse_args()))
    with tempfile.TemporaryDirectory(prefix="soak-") as folder:
        try:
            figures = soak(plan, Path(folder))
        except (SoakFailed, pytest.skip.Exception) as error:
            sys.exit(f"soak: {error}")
    for line in lines(plan, figures):
        sys.stdout.write(f"{line}\n")
    if figures.again > AT_RISK * plan.concurrency * figures.kills:
        sys.exit("soak: more pages were asked again than were in flight")


if __name__ == "__main__":
    main()
