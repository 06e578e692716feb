"""The bodies of answers: records → JSON, block by block, and compressed on the way. Meant for a worker thread."""

from __future__ import annotations

import zlib
from dataclasses import dataclass
from itertools import chain
from typing import TYPE_CHECKING

from isal import isal_zlib

from harvester.simulator import records, render, shaped

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from harvester.simulator.account import Account
    from harvester.simulator.parts import Block

GZIP_LEAST_BYTES = 1024
"""Bodies below this size are sent as they are."""
_GZIP_LEVEL = 0
_GZIP_WINDOW = 16 + zlib.MAX_WBITS


def json_list(account: Account, blocks: Iterable[Block]) -> Iterator[bytes | memoryview]:
    """Records as JSON in the account's shape, in pieces. Blocks but the last are full, so a lone record is alone."""
    shape = account.spec.shape
    line, end = ("\n  ", "\n]") if shape.pretty else ("", "]")
    first = True
    for block in blocks:
        bare = shape.single_bare and block.count == 1 and first
        opening = b"[" if first else b","
        if shape.plain:
            text = render.plain(block, ascii_only=shape.ascii)[1:]
        else:
            text = memoryview(_odd(account, block, "," + line))
            opening += line.encode()
        if bare:
            yield text
            return
        yield opening
        yield text
        first = False
    yield shape.nothing.value.encode() if first else end.encode()


def _odd(account: Account, block: Block, between: str) -> bytes:
    return between.join(shaped.objects(account, block)).encode()


@dataclass(frozen=True, slots=True)
class Body:
    """A body as it is sent.

    Attributes:
        data: the bytes.
        gzipped: whether they are a gzip stream.
    """

    data: bytes
    gzipped: bool


def encode(pieces: Iterable[bytes | memoryview], *, gzip: bool) -> Body:
    """The whole body; compressed if ``gzip`` is allowed and it is worth it."""
    rest = iter(pieces)
    held: list[bytes | memoryview] = []
    size = 0
    for piece in rest:
        held.append(piece)
        size += len(piece)
        if gzip and size >= GZIP_LEAST_BYTES:
            stream = isal_zlib.compressobj(_GZIP_LEVEL, isal_zlib.DEFLATED, _GZIP_WINDOW)
            return Body(
                b"".join([*(stream.compress(some) for some in chain(held, rest)), stream.flush()]), gzipped=True
            )
    return Body(b"".join(held), gzipped=False)


def cut(pieces: Iterable[bytes | memoryview], share: float) -> bytes:
    """The first ``share`` of a body: at least one byte, and not all."""
    whole = b"".join(pieces)
    return whole[: records.shortened(len(whole), share)]


__all__ = ["GZIP_LEAST_BYTES", "Body", "cut", "encode", "json_list"]
