"""The bodies of answers: records → JSON or XML, block by block, and compressed on the way. For a worker thread."""

from __future__ import annotations

import zlib
from dataclasses import dataclass
from itertools import chain
from typing import TYPE_CHECKING

from isal import isal_zlib

from harvester.simulator import records, render, shaped
from harvester.simulator.envelopes import ENVELOPES, nothing
from harvester.simulator.foul import uncovered
from harvester.simulator.styles import style_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from harvester.config import Wire
    from harvester.simulator.account import Account
    from harvester.simulator.parts import Block
    from harvester.simulator.styles import JsonStyle, XmlStyle

GZIP_LEAST_BYTES = 1024
"""Bodies below this size are sent as they are."""
_GZIP_LEVEL = 0
_GZIP_WINDOW = 16 + zlib.MAX_WBITS


def record_list(
    account: Account, blocks: Iterable[Block], wire: Wire, *, bare: bool = False
) -> Iterator[bytes | memoryview]:
    """Records as an answer in the account's shape, in pieces.

    Blocks but the last are full, so a lone record is alone; if the shape wants it so, or if ``bare``, it has no list
    around it.
    """
    shape = account.spec.shape
    style, envelope = style_of(shape, wire), ENVELOPES[wire]
    line, end = ("\n  ", "\n") if shape.pretty else ("", "")
    first = True
    for block in blocks:
        text = (
            render.plain(block, style) if shape.plain else memoryview(_odd(account, block, style, style.comma + line))
        )
        if account.spec.foul:
            text = memoryview(uncovered(bytes(text)))
        if first:
            text = text[len(style.comma) :]
            alone = (bare or shape.single_bare) and block.count == 1
            yield (envelope.before + ("" if alone else envelope.opening)).encode()
            yield text[len(line) :] if alone else text
            if alone:
                yield envelope.after.encode()
                return
        else:
            yield text
        first = False
    yield nothing(wire, shape.nothing) if first else (end + envelope.closing + envelope.after).encode()


def _odd(account: Account, block: Block, style: JsonStyle | XmlStyle, before: str) -> bytes:
    return "".join(before + text for text in shaped.objects(account, block, style)).encode()


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


__all__ = ["GZIP_LEAST_BYTES", "Body", "cut", "encode", "record_list"]
