"""More cases, by coverage: those that reach a line of the decoders that none had reached are mutated on. By atheris.

Atheris ends the process that it works in, so it has processes of its own (``under_atheris``).
"""

from __future__ import annotations

import importlib.util
import re
import signal
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

from harvester.config import Wire
from tests.fuzz import seeds
from tests.fuzz.work import Found

LONGEST = 4096
"""The longest body that is tried, in bytes."""
_MOST_S = 60
_MOST_MIB = 2500
_RUNS = re.compile(r"stat::number_of_executed_units: *(\d+)")
_NEW = re.compile(r"stat::new_units_added: *(\d+)")


@dataclass(frozen=True)
class Guided:
    """What came of it.

    Attributes:
        runs: how many bodies were tried.
        kept: how many of them reached something new.
        found: those that went wrong.
    """

    runs: int
    kept: int
    found: list[Found]


def installed() -> bool:
    """Whether atheris is there; it is made for Linux, and not for every version of Python."""
    return importlib.util.find_spec("atheris") is not None


def run(runs: int, seed: int, processes: int) -> Guided:
    """Try that many bodies at least, in that many processes."""
    with tempfile.TemporaryDirectory(prefix="harvester-fuzz-") as temporary:
        folder = Path(temporary)
        (folder / "first").mkdir()
        _write_seeds(folder / "first", seed)
        workers = [_start(folder, which, runs // processes, seed) for which in range(processes)]
        told = [worker.communicate()[1] for worker in workers]
        found = [one for which, worker in enumerate(workers) for one in _found(folder, which, worker, told[which])]
    return Guided(_sum(_RUNS, told), _sum(_NEW, told), found)


def _start(folder: Path, which: int, runs: int, seed: int) -> subprocess.Popen[str]:
    (folder / f"kept-{which}").mkdir()
    (folder / f"found-{which}").mkdir()
    limits = [f"-max_len={LONGEST}", f"-timeout={_MOST_S}", f"-rss_limit_mb={_MOST_MIB}", f"-runs={runs}"]
    limits += [f"-seed={2 * seed + which + 1}", "-print_final_stats=1", f"-artifact_prefix={folder}/found-{which}/"]
    command = [sys.executable, "-m", "tests.fuzz.under_atheris", *limits, f"{folder}/kept-{which}", f"{folder}/first"]
    return subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, errors="replace")


def _found(folder: Path, which: int, worker: subprocess.Popen[str], told: str) -> list[Found]:
    from tests.fuzz.under_atheris import case_of  # noqa: PLC0415  there the decoders are imported

    paths = sorted((folder / f"found-{which}").iterdir())
    problem = told[-3000:]
    if worker.returncode and not paths:
        status = worker.returncode
        name = signal.Signals(-status).name if status < 0 else f"status {status}"
        raise RuntimeError(f"atheris ended with {name}, and names no body:\n{problem}")
    return [Found(case_of(path.read_bytes()), f"guided-{which}-{path.name[:14]}", problem) for path in paths]


def _write_seeds(folder: Path, seed: int) -> None:
    """The seeds, each with the byte in front that says how to read it."""
    names = list(seeds.DATASETS)
    for number, wire in enumerate(Wire):
        for place, (dataset, body) in enumerate(seeds.bodies(wire, seed)):
            if len(body) < LONGEST:
                head = bytes([names.index(dataset) * len(Wire) + number])
                (folder / f"{wire.value}-{place}").write_bytes(head + body)


def _sum(pattern: re.Pattern[str], told: list[str]) -> int:
    return sum(int(number) for text in told for number in pattern.findall(text))


__all__ = ["Guided", "installed", "run"]
