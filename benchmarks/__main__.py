"""Runs benchmarks, each in a process of its own: a table on the screen, and with --json all figures in a file.

Every figure is measured on seeded data, in rounds after a warm-up, as a ratio to a reference of the same round where
there is one. Goals are shown as met or not; no exit status depends on them. A benchmark whose work came out wrong
fails, and then this exits with 1. With --quick two run at a time, so that their figures say less.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchmarks.figures import Report, WrongResult
from benchmarks.measuring import Options, versions

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

_QUICK_AT_ONCE = 2
BENCHMARKS = tuple(sorted(path.stem.removeprefix("bench_") for path in Path(__file__).parent.glob("bench_*.py")))


def alone(name: str, options: Options) -> dict[str, Any]:
    """Runs one benchmark in this process; its report as JSON. Raises WrongResult."""
    began = time.perf_counter()
    report: Report = import_module(f"benchmarks.bench_{name}").measure(options)
    return report.as_json() | {"seconds": round(time.perf_counter() - began, 1)}


def in_a_process(name: str, arguments: Sequence[str]) -> dict[str, Any] | None:
    """Runs one benchmark in a process of its own; its report as JSON, or None if it failed, which it said itself."""
    with tempfile.TemporaryDirectory(prefix="benchmark-") as folder:
        found = Path(folder, "report.json")
        command = [sys.executable, "-m", "benchmarks", name, "--json", str(found), "--silent", *arguments]
        if subprocess.run(command, check=False).returncode:
            return None
        report: dict[str, Any] = json.loads(found.read_text(encoding="utf-8"))["benchmarks"][name]
        return report


def ran(names: Sequence[str], options: Options, passed: Sequence[str]) -> Iterator[tuple[str, dict[str, Any] | None]]:
    """Runs benchmarks, in their order: each one's name, and its report; None if it failed, which was said.

    Args:
        names: which; a single one runs in this process.
        options: how much is measured.
        passed: the same, as arguments.
    """

    def one(name: str) -> dict[str, Any] | None:
        try:
            return alone(name, options) if len(names) == 1 else in_a_process(name, passed)
        except WrongResult as wrong:
            print(f"{name} FAILED: {wrong}", file=sys.stderr)
            return None

    if len(names) == 1:
        yield names[0], one(names[0])
        return
    with ThreadPoolExecutor(_QUICK_AT_ONCE if options.quick else 1) as workers:
        yield from zip(names, workers.map(one, names), strict=True)


def show(name: str, report: dict[str, Any]) -> None:
    print(f"\n{name} ({report['seconds']:.0f} s)")
    print("\n".join(Report.from_json(report).lines()), flush=True)


def show_goals(reports: dict[str, dict[str, Any]]) -> None:
    """All goals in one place, in the end."""
    goals = [
        (name, figure)
        for name, report in reports.items()
        for figure in report["figures"]
        if figure.get("goal") is not None
    ]
    if goals:
        met = sum(figure["met"] for _, figure in goals)
        print(f"\n{met} of {len(goals)} goals met" + ("" if met == len(goals) else "; not met:"))
        for name, figure in goals:
            if not figure["met"]:
                found = figure.get("ratio", figure["median"])
                print(f"  {name}: {figure['name']}: {found:.3g}, goal {figure['goal']:g}")


def main(arguments: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"which, if not all: {', '.join(BENCHMARKS)}")
    parser.add_argument("--quick", action="store_true", help="less of everything: all of them in about a minute")
    parser.add_argument(
        "--whole", action="store_true", help="more where that tells more, which takes long: memory, schedule, split"
    )
    parser.add_argument("--sends", type=int, metavar="N", help="how many tiny sends, such as 100000")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write all figures to FILE, too")
    parser.add_argument("--silent", action="store_true", help=argparse.SUPPRESS)
    given = parser.parse_args(arguments)
    if unknown := [name for name in given.names if name not in BENCHMARKS]:
        parser.error(f"there is no benchmark {unknown[0]!r}; there are {', '.join(BENCHMARKS)}")
    names = given.names or BENCHMARKS
    options = Options(quick=given.quick, whole=given.whole, sends=given.sends)
    passed = [*["--quick"] * given.quick, *["--whole"] * given.whole]
    passed += [] if given.sends is None else ["--sends", str(given.sends)]

    about = versions()
    if not given.silent:
        print(", ".join(f"{name} {value}" for name, value in about.items()), flush=True)
    reports: dict[str, dict[str, Any]] = {}
    failed: list[str] = []
    for name, report in ran(names, options, passed):
        if report is None:
            failed.append(name)
            continue
        reports[name] = report
        if not given.silent:
            show(name, report)
    if not given.silent:
        show_goals(reports)
    if given.json:
        whole = {"versions": about, "quick": given.quick, "benchmarks": reports, "failed": failed}
        given.json.write_text(json.dumps(whole, indent=1) + "\n", encoding="utf-8")
    if failed and not given.silent:
        print(f"failed: {', '.join(failed)}", file=sys.stderr)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
