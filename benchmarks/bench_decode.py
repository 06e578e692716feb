"""What it takes to decode one page, on one thread: unpacking, decoding and typing, as ratios to ``orjson.loads``.

``orjson.loads`` makes Python objects and no columns: it is the reference because it is known to be quick and does no
more than read the JSON. Accounts of three shapes: as they mostly look, with awkward text, and such that only the exact
decoder can tell what was sent.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import orjson

from benchmarks.account import CAP_BYTES, pieces, served, unpacked
from benchmarks.figures import Figure, Report, WrongResult, compared
from benchmarks.measuring import in_turns
from harvester.api.json import JsonCodec
from harvester.api.records import RawTable, to_batch
from harvester.api.unpack import unpack
from harvester.api.unpack import unpacked as unpacked_pieces
from harvester.datasets import MESSAGES

if TYPE_CHECKING:
    from collections.abc import Callable

    import pyarrow as pa

    from benchmarks.measuring import Options

REFERENCE = "orjson.loads"


def ways(packed: bytes, shape: str) -> dict[str, Callable[[], object]]:
    """What is measured with one page."""
    codec = JsonCodec(MESSAGES)
    chunks, body = pieces(packed), unpacked(packed)

    def typed(decoded: object) -> pa.RecordBatch:
        if not isinstance(decoded, RawTable):
            raise WrongResult(f"the page was not decoded but {decoded}")
        return to_batch(decoded, MESSAGES, id_send=None)

    def whole() -> pa.RecordBatch:
        return typed(codec.decode_pieces(unpacked_pieces(chunks, "gzip", CAP_BYTES)))

    exact = typed(codec.decode_exact(body))  # the codec has met all names from here on, as on a second page
    if not whole().equals(exact) or exact.num_rows != len(orjson.loads(body)):
        raise WrongResult(f"{shape}: the decoders disagree")
    return {
        f"{shape}: {REFERENCE}": lambda: orjson.loads(body),
        f"{shape}: unpack, decode and type": whole,
        f"{shape}: unpack": lambda: unpack(chunks, "gzip", CAP_BYTES),
        f"{shape}: decode": lambda: codec.decode(body),
        f"{shape}: decode exactly": lambda: codec.decode_exact(body),
    }


def measure(options: Options) -> Report:
    rows, shapes = (5_000, {"plain": 3}) if options.quick else (25_000, {"plain": 4, "awkward": 1, "mixed": 1})
    figures: list[Figure] = []
    for shape, rounds in shapes.items():
        with served(f"1x{rows}", shape=shape) as account:
            packed = account.page(account.sends.ids[0])
        times = in_turns(ways(packed, shape), rounds)
        figures += compared(times, f"{shape}: {REFERENCE}", unit="ms", scale=1e3, goals={})
    return Report(f"a page of {rows:,} messages, on one thread, by shape of the account", tuple(figures))
