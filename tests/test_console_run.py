"""``harvester run`` and ``harvester status`` before a fake harvest: signals, exit statuses, what is printed where.

Run as a program, this module is the command line with the fake in place of the real harvest. What the fake does is told
by the environment variable FAKE_HARVEST.
"""

from __future__ import annotations

import json
import logging
import os
import signal
import subprocess
import sys
import threading
import time
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

import anyio
import anyio.lowlevel
import pytest
import structlog

import harvester.harvest.run
from harvester.console import secrecy
from harvester.console.cli import command_line
from harvester.console.start import main
from harvester.errors import LakeInUse, ServerNotReached, Unauthorized
from harvester.harvest.finding import Finder
from harvester.harvest.outcome import Result, SliceOutcome, Snapshot
from harvester.harvest.status import LakeStatus
from harvester.lake.bearing import Remembered
from harvester.model import Borne

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from harvester.config import Settings
    from harvester.model import Send

ROOT = Path(__file__).resolve().parent.parent
MD5 = "5f4dcc3b5aa765d61d8327deb882cf99"


def outcome(id_send: int, *, rows: int = 100, dataset: str = "messages", error: str | None = None) -> SliceOutcome:
    return SliceOutcome(
        dataset=dataset,
        id_send=id_send,
        state="complete" if error is None else "incomplete",
        proof="tail" if error is None else None,
        rows=rows,
        expected=None,
        unsettled=0,
        overdue=0,
        changed=0,
        gone=0,
        queries=2,
        error=error,
    )


class FakeHarvest:
    """Harvests nothing, in the way that FAKE_HARVEST says; tells on standard error when it has begun."""

    def __init__(self, settings: Settings, sends: Iterable[Send] | Finder) -> None:
        self._settings = settings
        self._manner = os.environ.get("FAKE_HARVEST", "complete")
        self._sends = sends
        self._drained = anyio.Event()
        self._rows = 0

    def drain(self) -> None:
        if "deaf" not in self._manner:
            self._drained.set()

    def snapshot(self) -> Snapshot:
        return Snapshot(
            seconds=1.0,
            rows={"messages": self._rows, "bounces": 0},
            rows_before={"messages": 10, "bounces": 0},
            rows_expected={},
            queries=3,
            attempts=4,
            in_flight=1,
            concurrency=8,
            rate=self._settings.rate,
            rate_used=0.5,
            slices=4,
            slices_complete=1,
            slices_failed=0,
            under_way=(),
            waiting=0,
            trouble=None,
            paused_s=0.0,
            draining=self._drained.is_set(),
        )

    async def run(self) -> Result:
        self._rows = 7
        match self._manner.removesuffix("-thread"):
            case "unauthorized":
                raise Unauthorized(f"the API says Unauthorized to client {self._settings.client_id}")
            case "unreached":
                raise ServerNotReached("no connection to the server could be made")
            case "in-use":
                raise ExceptionGroup("workers", [ValueError("other"), LakeInUse("another run holds the lake")])
            case "bug":
                raise ZeroDivisionError(f"body client_md5={self._settings.client_md5!s}")
            case "wait" | "deaf":
                if "thread" in self._manner:
                    # A daemon, as the worker threads of anyio are.
                    threading.Thread(target=time.sleep, args=(600,), daemon=True).start()
                await anyio.lowlevel.checkpoint()
                sys.stderr.write("begun\n")
                sys.stderr.flush()
                await self._drained.wait()
                return self._result([outcome(1), outcome(2, rows=5)], interrupted=True, complete=False)
            case "drained-complete":
                await self._drained.wait()
                return self._result([outcome(1)], interrupted=False, complete=True)
            case "partly":
                slices = [
                    replace(outcome(1), expected=7),
                    outcome(2, rows=3, error="the server answered 500"),
                    outcome(3, rows=0),
                ]
                return self._result(slices, complete=False)
            case "many":
                return self._result((outcome(number) for number in range(1, 20_001)), complete=True)
        return self._all()

    def _all(self) -> Result:
        if not isinstance(self._sends, Finder):
            return self._result([outcome(send.id_send) for send in self._sends], complete=True)
        return replace(
            self._result([replace(outcome(7), changed=3), replace(outcome(8), changed=2)], complete=False),
            doubts=(f"a list that quotes {self._settings.client_md5!s}",),
            unlisted=(9, 10),
            met={"messages": ("X_batch",)},
        )

    def _result(self, slices: Iterable[SliceOutcome], *, complete: bool, interrupted: bool = False) -> Result:
        return Result(
            complete=complete,
            interrupted=interrupted,
            rows={"messages": 100, "bounces": 0},
            queries=3,
            attempts=4,
            seconds=1.5,
            slices=lambda: iter(slices),
        )


def many_outcomes() -> Iterator[SliceOutcome]:
    yield outcome(1)
    yield outcome(1, dataset="bounces")
    yield outcome(2)
    for number in range(3, 28):
        yield outcome(number, rows=3, error="the server answered 500")


STATUS = LakeStatus(
    rows={"bounces": 5, "messages": 100_203},
    slices_by_state={"bounces": {"complete": 1}, "messages": {"complete": 2, "incomplete": 25}},
    data_files=3,
    data_bytes=5 * 2**20,
    staged_segments=2,
    staged_bytes=4096,
    unsettled=7,
    in_use=True,
    last_run=datetime(2024, 5, 31, 8, 0, tzinfo=UTC),
    redaction="email=hash,first_name=drop key=0123456789abcdef",
    partition_by="month",
    remembered=Remembered(Borne(4.71, None), datetime.fromisoformat("2024-05-31 08:30:00")),
    slices=many_outcomes,
)


@contextmanager
def untouched(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A command line may be tried in this process: with an account and no other setting, and no trace is left of it."""
    for name in list(os.environ):
        if name.startswith("HARVESTER_"):
            monkeypatch.delenv(name)
    monkeypatch.setenv("HARVESTER_CLIENT_ID", "12345")
    monkeypatch.setenv("HARVESTER_CLIENT_MD5", MD5)
    monkeypatch.setattr(secrecy, "_hidden", set[str]())
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    try:
        yield
    finally:
        root.handlers, root.level = handlers, level
        logging.captureWarnings(capture=False)
        structlog.reset_defaults()


@pytest.fixture(autouse=True)
def clean(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(harvester.harvest.run, "Harvest", FakeHarvest)
    with untouched(monkeypatch):
        yield


class Finished:
    """Runs ``harvester run`` in this process, before a fake harvest: exit status, standard output, standard error."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
        self._monkeypatch = monkeypatch
        self._capsys = capsys

    def __call__(self, manner: str, *arguments: str) -> tuple[int, str, str]:
        self._monkeypatch.setenv("FAKE_HARVEST", manner)
        status = command_line(["run", "--lake", "lake", "--send", "1", *arguments])
        out, err = self._capsys.readouterr()
        return status, out, err


@pytest.fixture
def finished(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Finished:
    return Finished(monkeypatch, capsys)


def environment(manner: str, **more: str) -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith("HARVESTER_")}
    return {
        **kept,
        "PYTHONPATH": str(ROOT),
        "PYTHONWARNINGS": "error",
        "FAKE_HARVEST": manner,
        "HARVESTER_CLIENT_ID": "12345",
        "HARVESTER_CLIENT_MD5": MD5,
        **more,
    }


@contextmanager
def started(manner: str, *arguments: str, **more: Any) -> Iterator[subprocess.Popen[str]]:
    """``harvester run`` before a fake harvest, as a process of its own, which never outlives the block."""
    process = subprocess.Popen(
        [sys.executable, __file__, "run", "--lake", "lake", "--send", "1", *arguments],
        env=environment(manner, **more),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    with process:
        try:
            yield process
        finally:
            process.kill()


def wait_for(stream: IO[str] | None, text: str) -> None:
    assert stream is not None
    for line in stream:
        if text in line:
            return
    pytest.fail(f"{text!r} never came")


@pytest.mark.parametrize(
    ("manner", "status", "error"),
    [
        ("complete", 0, None),
        ("partly", 1, None),
        ("unreached", 1, "no connection to the server could be made"),
        ("unauthorized", 3, "the API says Unauthorized to client 12345"),
        ("in-use", 4, "another run holds the lake"),
    ],
)
def test_the_exit_status_says_how_it_went_and_json_says_it_in_full(
    finished: Finished, manner: str, status: int, error: str | None
) -> None:
    returncode, out, err = finished(manner, "--json")
    summary = json.loads(out)
    assert returncode == status
    assert summary["complete"] is (status == 0)
    fields = ["complete", "rows", "queries", "attempts", "seconds", "doubts", "unlisted", "new_fields"]
    assert list(summary)[:11] == [*fields, "lowered_limit", "pace", "slices"]
    assert summary.get("error") == error
    if error is None:
        assert list(summary["slices"][0]) == list(SliceOutcome.__dataclass_fields__)
    else:
        assert error in err
        assert summary["rows"] == {"messages": 17, "bounces": 0}
    assert "Traceback" not in err


def test_what_lists_had_to_say_is_in_the_json_summary_without_the_md5_code(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert command_line(["run", "--lake", "lake", "--all", "--json"]) == 1
    summary = json.loads(capsys.readouterr().out)
    assert summary["complete"] is False
    assert summary["doubts"] == ["a list that quotes ***"]
    assert (summary["unlisted"], summary["new_fields"]) == ([9, 10], {"messages": ["X_batch"]})
    assert summary["changed"] == 5


def test_an_unforeseen_error_is_one_sentence_without_the_md5_code(finished: Finished) -> None:
    returncode, out, err = finished("bug", "--json")
    assert returncode == 1
    assert "ZeroDivisionError (body client_md5=***)" in json.loads(out)["error"]
    assert "HARVESTER_DEBUG=1" in err
    assert "Traceback" not in err
    assert MD5 not in out + err


def test_its_traceback_can_be_had_and_has_no_md5_code_either(
    finished: Finished, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HARVESTER_DEBUG", "1")
    returncode, out, err = finished("bug")
    assert (returncode, out) == (1, "")
    assert "Traceback" in err
    assert MD5 not in err


def test_the_summary_is_all_that_standard_output_holds(finished: Finished) -> None:
    returncode, out, err = finished("partly")
    assert returncode == 1
    assert out.startswith("Incomplete: 2 of 3 slices complete.\n")
    assert "No rows at all: send 3." in out
    assert "messages of send 1: 100 rows, 93 more than the 7 expected" in out
    assert "progress" in err


def test_standard_error_can_be_a_json_object_a_line(finished: Finished) -> None:
    """Errors included: whoever reads it needn't expect anything else."""
    _, out, err = finished("partly", "--json", "--log-format", "json")
    events = [json.loads(line) for line in err.splitlines()]
    assert json.loads(out)["complete"] is False
    assert [event["event"] for event in events] == [
        "progress",
        "finished",
        "no rows at all: perhaps a mistyped id",
        "proven complete, yet not as many rows as expected",
    ]
    _, _, err = finished("unauthorized", "--log-format", "json")
    assert json.loads(err.splitlines()[-1])["level"] == "error"


def test_many_slices_are_not_held() -> None:
    """Thousands of slices are written as they are read, and a reader that goes away is no error."""
    with started("many", "--json") as process:
        assert process.stdout is not None
        assert process.stderr is not None
        assert process.stdout.readline().startswith('{"complete":true')
        process.stdout.close()
        assert "Broken" not in process.stderr.read()
        assert process.wait() == 0


def test_the_first_signal_drains_and_the_summary_says_how_to_resume() -> None:
    with started("wait") as process:
        wait_for(process.stderr, "begun")
        process.send_signal(signal.SIGTERM)
        out, err = process.communicate()
    assert process.returncode == 130
    assert "finishing what is in flight" in err
    assert "Once more (Ctrl-C) stops at once" in err
    assert out.startswith("Stopped: ")
    assert "run the same command again" in out


def test_the_second_signal_stops_at_once_whatever_threads_are_busy_with() -> None:
    with started("deaf-thread", "--json") as process:
        wait_for(process.stderr, "begun")
        process.send_signal(signal.SIGINT)
        wait_for(process.stderr, "finishing what is in flight")
        process.send_signal(signal.SIGINT)
        out, err = process.communicate()
    assert process.returncode == 130
    assert "Stopped at once" in err
    assert json.loads(out)["error"] == "stopped at once by a signal"


def test_a_run_drains_when_its_time_is_over(finished: Finished) -> None:
    returncode, _, err = finished("wait", "--for", "10ms")
    assert returncode == 130
    assert "of --for are over" in err


def test_time_that_is_over_is_no_failure_if_all_was_done_by_then(finished: Finished) -> None:
    assert finished("drained-complete", "--for", "10ms")[0] == 0


def test_a_closed_standard_error_fails_no_harvest() -> None:
    with started("complete") as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stderr.close()
        assert process.stdout.read().startswith("Complete:")
    assert process.returncode == 0


if __name__ == "__main__":
    harvester.harvest.run.Harvest = FakeHarvest  # type: ignore[assignment, misc]
    main()
