"""The whole program as its users start it: a simulated account in one process, the harvester in another."""

from __future__ import annotations

import json
import os
import shlex
import signal
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from harvester.datasets import CATALOGUE, DEFAULT
from harvester.simulator.truth import digest
from tests.harvesting import lake_table
from tests.thorough import some, thorough

MD5 = "c0ffee00c0ffee00c0ffee00c0ffee00"
HARVESTER = [sys.executable, "-m", "harvester"]


@dataclass(frozen=True, slots=True)
class Account:
    """A simulated account in a process of its own."""

    url: str
    client_id: str
    md5: str
    ids: tuple[str, ...]

    def stats(self, requests: int = 0) -> dict[str, Any]:
        """What the account has seen, once there have been so many calls."""
        with urllib.request.urlopen(f"{self.url}/stats?requests={requests}") as answer:
            return json.load(answer)  # type: ignore[no-any-return]

    def truth(self, id_send: str) -> dict[str, Any]:
        with urllib.request.urlopen(f"{self.url}/truth?id_send={id_send}") as answer:
            return json.load(answer)  # type: ignore[no-any-return]

    def command(self, lake: Path, *more: str) -> list[str]:
        quick = ["--rate", "200", "--burst", "20", "--limit", "200"]
        patience = [] if "--patience" in more else ["--patience", "20s"]
        whole = ["--lake", str(lake), "--endpoint", self.url, "--client-id", self.client_id, *quick, *patience]
        return [*HARVESTER, "run", *whole, "--send", *self.ids, *more]

    def environment(self, md5: str | None = None) -> dict[str, str]:
        return os.environ | {"HARVESTER_CLIENT_MD5": md5 or self.md5}

    def run(self, lake: Path, *more: str, md5: str | None = None) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            self.command(lake, *more), env=self.environment(md5), capture_output=True, text=True, check=False
        )

    def assert_exact(self, lake: Path) -> None:
        for id_send in self.ids:
            true = self.truth(id_send)
            for name, dataset in ((name, CATALOGUE[name]) for name in DEFAULT):
                held = lake_table(lake, name, int(id_send))
                assert held.num_rows == true[name]["rows"]
                assert digest(dataset, [held]) == true[name]["digest"]


@contextmanager
def account(*options: str, sends: str = "4x1500") -> Iterator[Account]:
    """Serves an account until the block ends."""
    command = [*HARVESTER, "simulate", "--json", "--port", "0", "--sends", sends, *options]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        told = json.loads(process.stdout.readline())
        count = int(sends.partition("x")[0])
        first = int(told["sends"][0])
        try:
            yield Account(
                told["url"], told["client_id"], told["client_md5"], tuple(str(first + n) for n in range(count))
            )
        finally:
            process.terminate()
            assert process.wait() == 0


def summary(done: subprocess.CompletedProcess[str]) -> dict[str, Any]:
    """The one object on standard output."""
    return json.loads(done.stdout)  # type: ignore[no-any-return]


def test_a_run_is_complete_and_exact_and_a_second_one_asks_nothing(tmp_path: Path) -> None:
    with account("--awkward", "--gaps", "5") as served:
        first = served.run(tmp_path / "lake", "--json")
        assert first.returncode == 0, first.stderr
        told = summary(first)
        assert told["complete"]
        assert told["rows"]["messages"] == 6000
        assert {each["state"] for each in told["slices"]} == {"complete"}
        served.assert_exact(tmp_path / "lake")
        asked = served.stats()["requests"]
        second = served.run(tmp_path / "lake", "--json")
        assert second.returncode == 0
        assert (summary(second)["queries"], summary(second)["rows"]) == (0, told["rows"])
        assert served.stats()["requests"] == asked


@thorough
@pytest.mark.timeout(180)
def test_a_run_killed_again_and_again_ends_exact_and_asks_no_page_twice_that_was_kept(tmp_path: Path) -> None:
    lake, kills, concurrency = tmp_path / "lake", 3, 4
    with account("--latency", "0.02..0.06", "--gaps", "3") as served:
        command = served.command(lake, "--concurrency", str(concurrency))
        for kill in range(kills):
            with subprocess.Popen(
                command, env=served.environment(), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
            ) as process:
                served.stats(requests=served.stats()["requests"] + 5 + kill)
                process.send_signal(signal.SIGKILL)
        done = served.run(lake, "--json")
        assert done.returncode == 0, done.stderr
        served.assert_exact(lake)
        undisturbed = len(served.ids) * (8 + 1)  # pages of 200 rows that overlap by one or two, and the tail
        messages = served.stats()["functions"]["mailkit.report.raw.messages"]
        in_flight = 2 * concurrency  # a walk's next page is asked for while its last is being committed
        assert messages <= undisturbed + kills * in_flight
        assert [path.name for path in (lake / "_harvest" / "segments").iterdir()] == []
        assert [path.name for path in (lake / "_harvest" / "writing").iterdir()] == []


def test_a_signal_drains_and_the_same_command_resumes(tmp_path: Path) -> None:
    lake = tmp_path / "lake"
    with account("--latency", "0.05") as served:
        with subprocess.Popen(
            served.command(lake), env=served.environment(), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        ) as process:
            served.stats(requests=8)
            process.send_signal(signal.SIGTERM)
            out, err = process.communicate()
        assert process.returncode == 130
        assert "same command" in out
        assert "Traceback" not in err
        assert served.run(lake).returncode == 0
        served.assert_exact(lake)


def test_a_send_that_fails_for_good_is_named_and_the_others_finish(tmp_path: Path) -> None:
    with account("--fail-sends", "601182") as served:
        done = served.run(tmp_path / "lake", "--json", "--patience", "1s")
        assert done.returncode == 1
        incomplete = [each for each in summary(done)["slices"] if each["state"] == "incomplete"]
        assert {each["id_send"] for each in incomplete} == {601182}
        assert "500" in incomplete[0]["error"]
        status = subprocess.run(
            [*HARVESTER, "status", str(tmp_path / "lake")], capture_output=True, text=True, check=False
        )
        assert status.returncode == 1
        assert "601182" in status.stdout


def test_wrong_credentials_end_with_3_after_one_attempt_and_the_secret_is_nowhere(tmp_path: Path) -> None:
    with account() as served:
        done = served.run(tmp_path / "lake", md5=MD5)
        assert done.returncode == 3
        assert "Unauthorized" in done.stderr
        assert "Traceback" not in done.stderr
        assert served.stats()["requests"] == 1
        assert MD5 not in done.stdout + done.stderr
        assert all(MD5 not in part for part in served.command(tmp_path))
        for path in (tmp_path / "lake").rglob("*"):
            assert not path.is_file() or MD5.encode() not in path.read_bytes()


def test_an_id_that_is_none_ends_with_2(tmp_path: Path) -> None:
    command = [*HARVESTER, "run", "--lake", str(tmp_path), "--send", "12x", "--client-id", "1"]
    done = subprocess.run(
        command, env=os.environ | {"HARVESTER_CLIENT_MD5": MD5}, capture_output=True, text=True, check=False
    )
    assert done.returncode == 2
    assert "'12x'" in done.stderr


def test_nobody_listening_ends_with_1_and_says_so(tmp_path: Path) -> None:
    command = [*HARVESTER, "run", "--lake", str(tmp_path), "--send", "1", "--client-id", "1", "--patience", "1s"]
    done = subprocess.run(
        [*command, "--endpoint", "http://127.0.0.1:1"],
        env=os.environ | {"HARVESTER_CLIENT_MD5": MD5},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1
    assert "could not be connected to" in done.stderr


def test_a_lake_in_use_ends_with_4(tmp_path: Path) -> None:
    lake = tmp_path / "lake"
    with account("--latency", "2") as served:  # so slow that the first run is at work for longer than the second takes
        with subprocess.Popen(
            served.command(lake), env=served.environment(), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        ) as process:
            served.stats(requests=2)
            second = served.run(lake)
            process.terminate()
        assert second.returncode == 4
        assert "another run is using the lake" in second.stderr


def test_a_lake_that_cannot_be_written_ends_with_4(tmp_path: Path) -> None:
    (tmp_path / "lake").write_text("a file")
    with account() as served:
        done = served.run(tmp_path / "lake")
        assert done.returncode == 4
        assert "could not make the folder" in done.stderr
        assert served.stats()["requests"] == 0


def test_a_signal_while_the_program_is_loaded_is_quiet(tmp_path: Path) -> None:
    command = [*HARVESTER, "run", "--lake", str(tmp_path), "--send", "1", "--client-id", "1"]
    with subprocess.Popen(
        [sys.executable, "-X", "importtime", *command[1:]], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stderr is not None
        while "rich" not in process.stderr.readline():  # the program's parts are being loaded
            pass
        process.send_signal(signal.SIGINT)
        _, err = process.communicate()
    assert process.returncode == 130
    assert "Traceback" not in err
    assert "harvester: interrupted" in err


@pytest.mark.parametrize("stream", some([">&- 2>&-", ">&-", "2>&-"], 1))
def test_a_closed_standard_stream_fails_no_run(tmp_path: Path, stream: str) -> None:
    with account(sends="1x50") as served:
        command = shlex.join(served.command(tmp_path / "lake", "--json"))
        done = subprocess.run(
            ["sh", "-c", f"{command} {stream}"], env=served.environment(), capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stderr
        assert "Traceback" not in done.stderr
        served.assert_exact(tmp_path / "lake")


def test_a_wrong_endpoint_ends_the_run_in_time_and_is_named(tmp_path: Path) -> None:
    with account(sends="1x50") as served:
        command = [*served.command(tmp_path / "lake", "--patience", "1s"), "--json"]
        command[command.index("--endpoint") + 1] = f"{served.url}/elsewhere"
        done = subprocess.run(command, env=served.environment(), capture_output=True, text=True, check=False)
        assert done.returncode == 1
        assert "404" in done.stderr
        assert "--endpoint" in done.stderr


@pytest.mark.parametrize("path", ["--lake", "--sends-file", "--client-md5-file"])
def test_an_empty_path_is_a_variable_that_was_not_set(tmp_path: Path, path: str) -> None:
    given = {"--lake": str(tmp_path), "--client-id": "1", "--sends-file": "-", "--client-md5-file": "x"} | {path: ""}
    words = [word for pair in given.items() for word in pair]
    done = subprocess.run(
        [*HARVESTER, "run", *words], capture_output=True, text=True, check=False, stdin=subprocess.DEVNULL
    )
    assert done.returncode == 2
    assert "is empty" in done.stderr


def test_pandas_is_not_imported_where_it_is_installed(tmp_path: Path) -> None:
    """Half a second of each run, for nothing: pyarrow would."""
    installed = tmp_path / "installed"
    installed.mkdir()
    (installed / "pandas.py").write_text("import os\nos._exit(77)\n", encoding="utf-8")
    with account(sends="1x20") as served:
        environment = served.environment() | {"PYTHONPATH": os.pathsep.join([str(installed), *sys.path])}
        command = served.command(tmp_path / "lake")
        run = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
        assert run.returncode == 0, run.stderr
        served.assert_exact(tmp_path / "lake")


@pytest.mark.parametrize(("asked", "pool"), [(None, "system"), ("mimalloc", "mimalloc")])
def test_memory_goes_back_to_all_unless_one_knows_better(asked: str | None, pool: str) -> None:
    environment = {name: value for name, value in os.environ.items() if name != "ARROW_DEFAULT_MEMORY_POOL"}
    environment |= {} if asked is None else {"ARROW_DEFAULT_MEMORY_POOL": asked}
    code = "from harvester.console import settling; settling.settle()\n"
    code += "import pyarrow; print(pyarrow.default_memory_pool().backend_name)"
    said = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
    assert said.stdout.strip() == pool


@pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="counts threads as Linux shows them")
def test_numpy_begins_no_threads() -> None:
    code = "from harvester.console import settling; settling.settle()\n"
    code += "import os, numpy; print(len(os.listdir('/proc/self/task')))"
    environment = {name: value for name, value in os.environ.items() if name != "OPENBLAS_NUM_THREADS"}
    said = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
    assert int(said.stdout) == 1
