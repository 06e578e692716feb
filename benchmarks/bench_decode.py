"""How much processor time it takes to decode one page, as ratios to ``orjson.loads`` over the same body.

One page of 25,000 messages from the simulated account (seeded, gzip), on one thread. ``orjson.loads`` makes Python
objects and no columns: it is the reference because it is known to be quick and does no more than read the JSON.
The ways are measured in turns, so that a busy machine slows all of them alike.

    python benchmarks/bench_decode.py [--quick] [--json FILE] [--shape plain|awkward|mixed]
"""

from __future__ import annotations

import argparse
import json
import platform
import statistics
import sys
import time
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import anyio
import orjson

from harvester import __version__
from harvester.api.json import JsonCodec
from harvester.api.records import RawTable, to_batch
from harvester.api.transport import Answer, Transport
from harvester.api.unpack import unpack
from harvester.config import Settings
from harvester.datasets import MESSAGES
from harvester.model import Secret
from harvester.simulator import AccountSpec, Numbers, Shape, equal, serve

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

CAP = 2**30
SHAPES = {"plain": Shape(), "awkward": Shape(), "mixed": Shape(numbers=Numbers.MIXED, unknown=True)}
REFERENCE = "orjson.loads"


@dataclass(frozen=True, slots=True)
class Timing:
    """Processor times of one way, in seconds."""

    times: tuple[float, ...]

    @property
    def median(self) -> float:
        return statistics.median(self.times)

    @property
    def spread(self) -> float:
        """Half the distance between the quartiles, as a share of the median."""
        low, _, high = statistics.quantiles(self.times, n=4)
        return (high - low) / 2 / self.median


async def page(rows: int, shape: str) -> Answer:
    """One page of a simulated account, as it comes over the wire."""
    spec = AccountSpec(seed=1, sends=equal(1, rows), awkward=shape == "awkward", shape=SHAPES[shape])
    query = {"ID_send": str(spec.sends.ids[0]), "limit": str(rows)}
    call = {"function": MESSAGES.function, "id": spec.client_id, "md5": spec.client_md5, "parameters": query}
    async with serve(spec) as server:
        settings = Settings(
            lake=Path("unused"), client_id=spec.client_id, client_md5=Secret(spec.client_md5), endpoint=server.url
        )
        async with Transport(settings) as transport:
            return await transport.post("/json.fcgi", json.dumps(call).encode())


def ways(answer: Answer, body: bytes | bytearray) -> dict[str, Callable[[], object]]:
    codec = JsonCodec(MESSAGES)
    exact = codec.decode_exact(body)  # the codec has met all names from here on, as on a second page
    assert isinstance(exact, RawTable)
    fast = codec.decode_fast(body)

    def whole() -> object:
        decoded = codec.decode(unpack(answer.chunks, answer.content_encoding, CAP))
        assert isinstance(decoded, RawTable)
        return to_batch(decoded, MESSAGES, id_send=None)

    measured: dict[str, Callable[[], object]] = {
        REFERENCE: lambda: orjson.loads(body),
        "exact decoder": lambda: codec.decode_exact(body),
        "typing": lambda: to_batch(exact, MESSAGES, id_send=None),
        "unpack, decode and type": whole,
        "unpack": lambda: unpack(answer.chunks, answer.content_encoding, CAP),
    }
    if fast is not None:
        assert to_batch(fast, MESSAGES, id_send=None).equals(to_batch(exact, MESSAGES, id_send=None))
        measured["fast decoder"] = lambda: codec.decode_fast(body)
        measured["fast decoder and typing"] = lambda: to_batch(codec.decode_fast(body) or exact, MESSAGES, id_send=None)
    return measured


def measure(measured: dict[str, Callable[[], object]], rounds: int) -> dict[str, Timing]:
    times: dict[str, list[float]] = {name: [] for name in measured}
    for number in range(rounds + 1):
        for name, way in measured.items():
            began = time.process_time()
            way()
            if number:  # the first round warms up
                times[name].append(time.process_time() - began)
    return {name: Timing(tuple(taken)) for name, taken in times.items()}


def main(arguments: Sequence[str]) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="fewer records and rounds: a few seconds")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures to FILE, too")
    parser.add_argument("--shape", choices=sorted(SHAPES), default="plain", help="how the account's JSON looks")
    options = parser.parse_args(arguments)
    rows, rounds = (5_000, 5) if options.quick else (25_000, 15)

    answer = anyio.run(page, rows, options.shape)
    body = unpack(answer.chunks, answer.content_encoding, CAP)
    timings = measure(ways(answer, body), rounds)

    versions = {name: version(name) for name in ("pyarrow", "msgspec", "orjson", "isal")}
    about = {"harvester": __version__, "python": platform.python_version(), "machine": platform.machine()} | versions
    print(", ".join(f"{name} {value}" for name, value in about.items()))
    print(
        f"{rows} messages ({options.shape}), {len(body) / 1e6:.1f} MB, {answer.wire_bytes / 1e6:.1f} MB on the wire; "
        f"processor time, median of {rounds}"
    )
    reference = timings[REFERENCE].median
    figures: dict[str, Any] = {}
    for name, timing in timings.items():
        ratio = timing.median / reference
        print(f"  {name:25} {timing.median * 1e3:8.1f} ms ±{timing.spread:4.0%}   {ratio:5.2f} x {REFERENCE}")
        figures[name] = {"median_s": timing.median, "spread": timing.spread, "ratio": ratio}
    if options.json:
        report = {"versions": about, "shape": options.shape, "rows": rows, "body_bytes": len(body), "decode": figures}
        options.json.write_text(json.dumps(report, indent=1) + "\n")


if __name__ == "__main__":
    main(sys.argv[1:])
