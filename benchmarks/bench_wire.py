"""How much processor time a page costs over XML-RPC, as a ratio to the same page over JSON.

The same records over both wires, unpacked, decoded and typed on one thread. XML is written from the JSON, with integers
as ``<i4>`` and ``<i8>`` wherever a text is one, as the vendor's page shows them. Beside it: the exact decoder of XML,
over fewer rows; and the most memory that decoding XML takes beyond the columns, measured in a process of its own.
"""

from __future__ import annotations

import gzip
import json
import re
from multiprocessing import get_context
from typing import TYPE_CHECKING
from xml.sax.saxutils import escape

from benchmarks.account import CAP_BYTES, pieces, served, unpacked
from benchmarks.figures import Figure, Report, WrongResult, ratios
from benchmarks.measuring import in_turns, peak_bytes
from harvester.api.json import JsonCodec
from harvester.api.records import RawTable, to_batch
from harvester.api.unpack import unpacked as unpacked_pieces
from harvester.api.xmlrpc import XmlCodec
from harvester.datasets import MESSAGES

if TYPE_CHECKING:
    from collections.abc import Sequence

    import pyarrow as pa

    from benchmarks.measuring import Options

REFERENCE = "JSON"
GOAL = 6.0
_HEAD = '<?xml version="1.0" encoding="utf-8"?><methodResponse><params><param><value><array><data>'
_TAIL = "</data></array></value></param></params></methodResponse>"
_INTEGER = re.compile(r"0|-?[1-9][0-9]{0,17}")


def as_xml(body: bytes) -> bytes:
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


def packed(body: bytes) -> tuple[bytes, ...]:
    """The body as it comes over the wire."""
    return pieces(gzip.compress(body, compresslevel=1))


def typed(decoded: object) -> pa.RecordBatch:
    if not isinstance(decoded, RawTable):
        raise WrongResult(f"the page was not decoded but {decoded}")
    return to_batch(decoded, MESSAGES, id_send=None)


def by_json(chunks: Sequence[bytes]) -> pa.RecordBatch:
    return typed(JsonCodec(MESSAGES).decode_pieces(unpacked_pieces(chunks, "gzip", CAP_BYTES)))


def by_xml(chunks: Sequence[bytes]) -> pa.RecordBatch:
    return typed(XmlCodec(MESSAGES).decode_pieces(unpacked_pieces(chunks, "gzip", CAP_BYTES)))


def by_exact_xml(chunks: Sequence[bytes]) -> pa.RecordBatch:
    return typed(XmlCodec(MESSAGES).decode_exact(unpacked_pieces(chunks, "gzip", CAP_BYTES)))


def beyond_columns(chunks: Sequence[bytes], few: Sequence[bytes]) -> int:
    """By how much decoding raises the most memory of this process, without the columns, in bytes."""
    by_xml(few)  # what any page takes is there before
    before = peak_bytes()
    batch = by_xml(chunks)
    return peak_bytes() - before - batch.nbytes


def measure(options: Options) -> Report:
    rows, rounds = (2_000, 3) if options.quick else (25_000, 3)
    few = rows // 25
    with served(f"1x{rows}") as account:
        body = unpacked(account.page(account.sends.ids[0]))
    xml = as_xml(body)
    chunks, xml_chunks = packed(body), packed(xml)
    first = packed(as_xml(json.dumps(json.loads(body)[:few]).encode()))
    same = by_json(chunks)
    if not (by_xml(xml_chunks).equals(same) and by_exact_xml(first).equals(same.slice(0, few))):
        raise WrongResult("the wires do not bring the same rows")

    times = in_turns(
        {
            REFERENCE: lambda: by_json(chunks),
            "XML": lambda: by_xml(xml_chunks),
            "XML, by the exact decoder": lambda: by_exact_xml(first),
        },
        rounds,
    )
    a_row = {
        name: tuple(took / (few if "exact" in name else rows) * 1e6 for took in taken) for name, taken in times.items()
    }
    figures = [Figure(REFERENCE, "µs a row", a_row[REFERENCE])]
    figures += [
        Figure(
            name,
            "µs a row",
            taken,
            REFERENCE,
            ratios(taken, a_row[REFERENCE]),
            goal=GOAL if name == "XML" else None,
        )
        for name, taken in a_row.items()
        if name != REFERENCE
    ]
    with get_context("spawn").Pool(1) as pool:
        beyond = pool.apply(beyond_columns, (xml_chunks, first))
    share = Figure("memory to decode XML, to its size", "MB", (beyond / 1e6,), "its body", (beyond / len(xml),))
    about = f"{rows:,} messages: {len(body) / 1e6:.1f} MB of JSON, {len(xml) / 1e6:.1f} MB of XML; on one thread"
    return Report(about, (*figures, share))
