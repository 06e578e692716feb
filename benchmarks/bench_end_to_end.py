"""What a whole harvest costs: processor time a row and peak memory of ``harvester run``, from loopback to Parquet.

The reference is ``orjson.loads`` over one of the same bodies, in the same run: it makes Python objects and no lake. The
simulated account is a process of its own; what serving costs it is shown, too, since it must not be what is measured.

    python benchmarks/bench_end_to_end.py [--quick] [--json FILE]
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import orjson

from harvester import __version__
from harvester.datasets import MESSAGES, PAGE_CAP

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

HARVESTER = [sys.executable, "-m", "harvester"]
FIRST_SEND = 601_181
MEBIBYTE = 2**20


@dataclass(frozen=True, slots=True)
class Figures:
    """Of one run: rows harvested, seconds on the clock and of processor time, bytes of memory at the peak."""

    rows: int
    seconds: float
    processor_s: float
    peak_bytes: int
    serving_s: float


@contextmanager
def account(sends: int, rows: int) -> Iterator[dict[str, Any]]:
    """A simulated account in a process of its own."""
    command = [*HARVESTER, "simulate", "--json", "--port", "0", "--sends", f"{sends}x{rows}", "--gaps", "3"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        try:
            yield json.loads(process.stdout.readline())
        finally:
            process.terminate()


def asked(told: dict[str, Any], path: str, payload: bytes | None = None) -> bytes:
    request = urllib.request.Request(f"{told['url']}{path}", data=payload)
    with urllib.request.urlopen(request) as answer:
        return bytes(answer.read())


def harvest(told: dict[str, Any], sends: int) -> Figures:
    ids = [str(FIRST_SEND + number) for number in range(sends)]
    served_s = json.loads(asked(told, "/stats"))["processor_s"]
    with tempfile.TemporaryDirectory() as lake, tempfile.TemporaryFile() as out:
        whole = [
            "--lake",
            lake,
            "--endpoint",
            told["url"],
            "--client-id",
            told["client_id"],
            "--rate",
            "1000",
            "--json",
        ]
        began = time.perf_counter()
        process = subprocess.Popen(
            [*HARVESTER, "run", *whole, "--burst", "100", "--dataset", "messages", "--send", *ids],
            env=os.environ | {"HARVESTER_CLIENT_MD5": told["client_md5"]},
            stdout=out,
            stderr=subprocess.DEVNULL,
        )
        _, status, used = os.wait4(process.pid, 0)
        seconds = time.perf_counter() - began
        process.returncode = os.waitstatus_to_exitcode(status)
        assert process.returncode == 0, f"the harvest ended with {process.returncode}"
        out.seek(0)
        rows = json.load(out)["rows"]["messages"]
    return Figures(
        rows=rows,
        seconds=seconds,
        processor_s=used.ru_utime + used.ru_stime,
        peak_bytes=used.ru_maxrss * (1 if sys.platform == "darwin" else 1024),
        serving_s=json.loads(asked(told, "/stats"))["processor_s"] - served_s,
    )


def reference_s(told: dict[str, Any], rows: int, rounds: int) -> float:
    """Processor time of ``orjson.loads`` a row, over the first page of the first send."""
    call = {
        "function": MESSAGES.function,
        "id": told["client_id"],
        "md5": told["client_md5"],
        "parameters": {"ID_send": str(FIRST_SEND)},
    }
    body = asked(told, "/json.fcgi", json.dumps(call).encode())
    times = []
    for _ in range(rounds + 1):
        began = time.process_time()
        orjson.loads(body)
        times.append(time.process_time() - began)
    return statistics.median(times[1:]) / min(rows, PAGE_CAP)


def main(arguments: Sequence[str]) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="fewer records and runs: some seconds")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures to FILE, too")
    options = parser.parse_args(arguments)
    sends, rows, runs = (2, 50_000, 1) if options.quick else (8, 100_000, 3)

    with account(sends, rows) as told:
        reference = reference_s(told, rows, 5)
        measured = [harvest(told, sends) for _ in range(runs)]
    middle = sorted(measured, key=lambda figures: figures.processor_s)[runs // 2]

    versions = {name: version(name) for name in ("aiohttp", "anyio", "pyarrow", "orjson", "sqlalchemy")}
    about = {"harvester": __version__, "python": platform.python_version(), "machine": platform.machine()} | versions
    print(", ".join(f"{name} {value}" for name, value in about.items()))
    a_row = middle.processor_s / middle.rows
    ratio, serving = a_row / reference, middle.serving_s / middle.processor_s
    print(f"{sends} sends of {rows} messages, whole process, median of {runs}")
    print(
        f"  processor time   {a_row * 1e6:8.1f} µs a row   {ratio:5.2f} x orjson.loads ({reference * 1e6:.1f} µs a row)"
    )
    print(f"  throughput       {middle.rows / middle.seconds:8.0f} rows/s")
    print(f"  cores busy       {middle.processor_s / middle.seconds:8.2f}")
    print(f"  peak memory      {middle.peak_bytes / MEBIBYTE:8.0f} MiB")
    print(f"  serving it cost  {serving:8.0%} of that processor time, in the simulator's process")
    if options.json:
        report = {
            "versions": about,
            "runs": [asdict(figures) for figures in measured],
            "end_to_end": {"ratio": ratio, "processor_s_a_row": a_row, "reference_s_a_row": reference},
        }
        options.json.write_text(json.dumps(report, indent=1) + "\n")


if __name__ == "__main__":
    main(sys.argv[1:])
