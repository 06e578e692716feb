"""Fuzzing, in the short form; and that it finds what is wrong, whatever that does to the process."""

from __future__ import annotations

import os
import re
import resource
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from harvester.api import exact, marks, records, xmlexact, xmlfast
from tests.fuzz import work
from tests.fuzz.__main__ import QUICK, main
from tests.fuzz.cases import Case, Maker
from tests.fuzz.conditions import MEMORY_BYTES, memory_held_to
from tests.fuzz.oracle import Finding, Outcome, check
from tests.thorough import some, thorough

ROOT = Path(__file__).parent.parent
BODY = b'[{"ID_SEND_MESSAGE":"1","EMAIL":"a"}]'


def fuzz(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "tests.fuzz", *arguments]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)


@pytest.mark.timeout(600)
def test_what_holds_of_every_body_holds_of_thousands_of_mutated_ones() -> None:
    done = fuzz("--quick")
    assert done.returncode == 0, done.stdout + done.stderr
    row = re.compile(r"^ *([a-z].*?) {2,}([\d,]+) +([\d,]+)$", re.MULTILINE)
    counts = {name: [int(n.replace(",", "")) for n in numbers] for name, *numbers in row.findall(done.stdout)}
    assert sum(counts["mutations"]) == QUICK
    for wire in range(2):
        assert counts["records, equal"][wire] > QUICK // 20
        assert counts["of them, some by the fast decoder"][wire] > QUICK // 100
        assert counts["the API's words, equal"][wire] > 0
        for name, numbers in counts.items():
            assert not name.startswith("not judged") or numbers[wire] < QUICK // 20


@pytest.fixture(scope="module")
def maker() -> Maker:
    return Maker(0)


def first_finding(maker: Maker, most: int) -> str | None:
    """The first thing that does not hold, of that many cases."""
    for number in range(most):
        try:
            check(maker.case(number))
        except Finding as finding:
            return str(finding)
    return None


@pytest.mark.parametrize(
    ("owner", "name", "mistaken"),
    some(
        [
            (xmlfast, "_unescaped", lambda texts: texts),  # the fast decoder leaves escapes as they are
            (exact, "as_json", lambda text: records.as_json(text + text)),  # what has no column is changed
            (xmlexact, "_blank", lambda _: None),  # text between elements is let through
            (xmlexact, "_decoded", lambda text: text),  # base64 is left as it is
            (marks, "marked_code", lambda code: chr(code) if code < 0xD800 else "?"),  # half a pair is lost
        ],
        kept=2,
    ),
    ids=["escapes", "extra", "blanks", "base64", "halves"],
)
def test_a_mistake_in_a_decoder_is_found(
    owner: Any, name: str, mistaken: Any, maker: Maker, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(owner, name, mistaken)
    assert first_finding(maker, 2000) is not None


def test_a_case_follows_from_its_seed_and_number(maker: Maker) -> None:
    again = Maker(0)
    cases = [maker.case(number) for number in range(300)]
    assert [again.case(number) for number in range(300)] == cases
    assert len({case.body for case in cases}) > 290
    assert [Maker(1).case(number) for number in range(3)] != cases[:3]


def failing(case: Case) -> Outcome:
    """Ends its process, never ends, or raises, for those cases that the environment names."""
    crash, spin, error = map(int, os.environ["FAILING_CASES"].split())
    if case.chance == crash:
        os.kill(os.getpid(), signal.SIGSEGV)
    if case.chance == spin:
        resource.setrlimit(
            resource.RLIMIT_CPU, (int(time.process_time()) + 1, resource.getrlimit(resource.RLIMIT_CPU)[1])
        )
        while True:
            pass
    if case.chance == error:
        raise ZeroDivisionError
    return Outcome("records")


@thorough
def test_a_body_that_ends_the_process_or_never_ends_is_named_and_the_others_are_tried(
    maker: Maker, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(work, "Maker", lambda _: maker)
    monkeypatch.setenv("FAILING_CASES", " ".join(str(maker.case(number).chance) for number in (3, 6, 8)))
    *_, tally = work.run(12, seed=0, processes=2, check=failing)
    found = {one.name: one for one in tally.found}
    assert set(found) == {"3", "6", "8"}
    assert "SIGSEGV" in found["3"].problem
    assert "processor time" in found["6"].problem
    assert "ZeroDivisionError" in found["8"].problem
    assert found["3"].case == maker.case(3)


def test_what_was_found_is_kept_and_read_again(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "case"
    Case("json", "bounces", "", 7, BODY).save(path)
    assert Case.load(path) == Case("json", "bounces", "", 7, BODY)
    assert main(["--replay", str(path)]) == 0
    monkeypatch.setattr(exact, "_plain_texts", lambda _: ["x"])
    assert main(["--replay", str(path)]) == 1
    assert " reads " in capsys.readouterr().out


def test_memory_out_of_proportion_is_found() -> None:
    with pytest.raises(Finding, match="bytes of memory"), memory_held_to(10, traced=True):
        assert bytearray(MEMORY_BYTES + 100_000)
