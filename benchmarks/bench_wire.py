"""How much processor time a page costs over XML-RPC, as a ratio to the same page over JSON.

The same records (messages of the simulated account, seeded, gzip) over both wires, unpacked, decoded and typed on one
thread, in turns, so that a busy machine slows both alike. XML is written from the JSON, with integers as ``<i4>`` and
``<i8>`` wherever a text is one, as the vendor's page shows them. Beside it: the exact decoder of XML, over fewer rows;
and the most memory that decoding XML takes beyond the columns, measured in a process of its own.

    python benchmarks/bench_wire.py [--quick] [--json FILE]
"""

from __future__ import annotations

import argparse
import gzip
import json
import platform
import re
import resource
import statistics
import sys
import time
from importlib.metadata import version
from multiprocessing import get_context
from pathlib import Path
from typing import TYPE_CHECKING, Any
from xml.sax.saxutils import escape

import anyio
from bench_decode import CAP, page

from harvester import __version__
from harvester.api.json import JsonCodec
from harvester.api.records import RawTable, to_batch
from harvester.api.unpack import unpack, unpacked
from harvester.api.xmlrpc import XmlCodec
from harvester.datasets import MESSAGES

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    import pyarrow as pa

WIRE_PIECE = 2**16
GOAL = 6.0
_HEAD = '<?xml version="1.0" encoding="utf-8"?><methodResponse><params><param><value><array><data>'
_TAIL = "</data></array></value></param></params></methodResponse>"
_INTEGER = re.compile(r"0|-?[1-9][0-9]{0,17}")


def as_xml(body: bytes | bytearray) -> bytes:
    """A JSON page as a method response."""
    parts = [_HEAD]
    for record in json.loads(body):
        parts.append("<value><struct>")
        parts.extend(
            f"<member><name>{name}</name><value>{_typed(text)}</value></member>" for name, text in record.items()
        )
        parts.append("</struct></value>")
    return "".join([*parts, _TAIL]).encode()


def _typed(text: str) -> str:
    if not _INTEGER.fullmatch(text):
        return f"<string>{escape(text)}</string>"
    kind = "i4" if -(2**31) <= int(text) < 2**31 else "i8"
    return f"<{kind}>{text}</{kind}>"


def packed(body: bytes | bytearray) -> list[bytes]:
    """The body as it comes over the wire."""
    data = gzip.compress(body, compresslevel=1)
    return [data[start : start + WIRE_PIECE] for start in range(0, len(data), WIRE_PIECE)]


def by_json(chunks: Sequence[bytes]) -> pa.RecordBatch:
    decoded = JsonCodec(MESSAGES).decode(unpack(chunks, "gzip", CAP))
    assert isinstance(decoded, RawTable)
    return to_batch(decoded, MESSAGES, id_send=None)


def by_xml(chunks: Sequence[bytes]) -> pa.RecordBatch:
    decoded = XmlCodec(MESSAGES).decode_pieces(unpacked(chunks, "gzip", CAP))
    assert isinstance(decoded, RawTable)
    return to_batch(decoded, MESSAGES, id_send=None)


def by_exact_xml(chunks: Sequence[bytes]) -> pa.RecordBatch:
    decoded = XmlCodec(MESSAGES).decode_exact(unpacked(chunks, "gzip", CAP))
    assert isinstance(decoded, RawTable)
    return to_batch(decoded, MESSAGES, id_send=None)


def measure(ways: dict[str, Callable[[], object]], rounds: int) -> dict[str, list[float]]:
    times: dict[str, list[float]] = {name: [] for name in ways}
    for number in range(rounds + 1):
        for name, way in ways.items():
            began = time.process_time()
            way()
            if number:  # the first round warms up
                times[name].append(time.process_time() - began)
    return times


def _most_bytes() -> int:
    """The most memory that this process ever had, in bytes."""
    status = Path("/proc/self/status")
    if status.exists():  # where the other figure counts what the parent had, too
        return int(status.read_text().partition("VmHWM:")[2].split()[0]) * 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


def _beyond_columns(chunks: list[bytes], few: list[bytes]) -> int:
    """By how much decoding raises the most memory of this process, without the columns, in bytes."""
    by_xml(few)  # what any page takes is there before
    before = _most_bytes()
    batch = by_xml(chunks)
    return _most_bytes() - before - batch.nbytes


def main(arguments: Sequence[str]) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="fewer records and rounds: some seconds")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures to FILE, too")
    options = parser.parse_args(arguments)
    rows, rounds = (5_000, 3) if options.quick else (25_000, 9)
    few = rows // 25

    answer = anyio.run(page, rows, "plain")
    body = unpack(answer.chunks, answer.content_encoding, CAP)
    xml = as_xml(body)
    chunks, xml_chunks = packed(body), packed(xml)
    first = packed(as_xml(json.dumps(json.loads(body)[:few]).encode()))
    assert by_xml(xml_chunks).equals(by_json(chunks))
    assert by_exact_xml(first).equals(by_json(chunks).slice(0, few))

    times = measure({"json": lambda: by_json(chunks), "xml": lambda: by_xml(xml_chunks)}, rounds)
    times |= measure({"xml, exact decoder": lambda: by_exact_xml(first)}, min(rounds, 3))
    with get_context("spawn").Pool(1) as pool:
        beyond = pool.apply(_beyond_columns, (xml_chunks, first))

    versions = {name: version(name) for name in ("pyarrow", "lxml", "msgspec", "isal")}
    about = {"harvester": __version__, "python": platform.python_version(), "machine": platform.machine()} | versions
    print(", ".join(f"{name} {value}" for name, value in about.items()))
    print(f"{rows} messages: {len(body) / 1e6:.1f} MB of JSON, {len(xml) / 1e6:.1f} MB of XML; unpack, decode and type")
    figures: dict[str, Any] = {}
    reference = statistics.median(times["json"]) / rows
    for name, taken in times.items():
        per_row = statistics.median(taken) / (few if "exact" in name else rows)
        print(f"  {name:20} {per_row * 1e6:8.2f} µs a row   {per_row / reference:6.2f} x json")
        figures[name] = {"seconds_per_row": per_row, "ratio": per_row / reference}
    print(f"  decoding XML takes {beyond / 1e6:.1f} MB beyond the columns, {beyond / len(xml):.0%} of the body")
    ratio = figures["xml"]["ratio"]
    print(f"  XML : JSON is {ratio:.2f}, at most {GOAL:g} is the goal: {'met' if ratio <= GOAL else 'MISSED'}")
    if options.json:
        report = {
            "versions": about,
            "rows": rows,
            "json_bytes": len(body),
            "xml_bytes": len(xml),
            "wires": figures,
            "xml_bytes_beyond_columns": beyond,
        }
        options.json.write_text(json.dumps(report, indent=1) + "\n")


if __name__ == "__main__":
    main(sys.argv[1:])
