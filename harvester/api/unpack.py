"""Undoing a body's compression, on a worker thread: compressed pieces in, the body or its pieces out, up to a cap.

Raises for what does not come out whole: nothing is ever taken from half a body.
"""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING

from isal import igzip_lib

from harvester.errors import AttemptFailed, Cut, NotData, OverCap

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

STEP_BYTES = 2**20
"""How much is unpacked at a time."""

_MOST_MEMBERS = 10_000
"""gzip members in one body; each costs time, and an empty one is twenty bytes. (In BGZF, one holds up to 64 KiB.)"""
_BROKEN: type[Exception] = igzip_lib.IsalError  # type: ignore[assignment]  # isal's stub says that it is an instance
_GZIP_MAGIC = b"\x1f\x8b"
_NAMES = {"": "identity", "identity": "identity", "gzip": "gzip", "x-gzip": "gzip", "deflate": "deflate"}


class Unpacking:
    """What ``unpacked`` yields, as often as it is gone over: so a body can be read again that is never held whole."""

    def __init__(self, chunks: Sequence[bytes], encoding: str, cap: int) -> None:
        self._packed = chunks, encoding, cap

    def __iter__(self) -> Iterator[bytes]:
        return unpacked(*self._packed)


def unpack(chunks: Sequence[bytes], encoding: str, cap: int) -> bytes | bytearray:
    """The body that was sent in pieces, whole. As ``unpacked``, whose pieces it joins."""
    pieces = unpacked(chunks, encoding, cap)
    body: bytes | bytearray = next(pieces, b"")
    for piece in pieces:
        if isinstance(body, bytes):
            body = bytearray(body)
        body += piece
    return body


def unpacked(chunks: Sequence[bytes], encoding: str, cap: int) -> Iterator[bytes]:
    """The body that was sent in pieces, in other pieces: none is empty, and compressed ones make 1 MiB at most.

    What it raises, it raises when it comes to it; so nothing is to be taken from a body before its end is there.

    Args:
        chunks: the body as it came over the wire.
        encoding: the ``Content-Encoding`` header as sent. A body's own first bytes decide whether it is gzip, since
            proxies undo it and leave the header; ``deflate`` may come in zlib's wrapping or bare, as servers do.
        cap: the largest body to unpack, in bytes.

    Raises:
        Cut: it ends early, or is corrupt.
        OverCap: it is larger than the cap, or in too many members.
        NotData: an encoding that was not asked for.
    """
    name = _NAMES.get(encoding.strip().lower())
    if name is None:
        raise NotData(f"the answer is encoded as {encoding[:40]!r}, which was not asked for")
    head = _head(chunks)
    if head == _GZIP_MAGIC:
        yield from _inflated(chunks, igzip_lib.DECOMP_GZIP, cap, many=True)
    elif name == "deflate" and head:
        flag = igzip_lib.DECOMP_ZLIB if _is_zlib(head) else igzip_lib.DECOMP_DEFLATE
        yield from _inflated(chunks, flag, cap, many=False)
    elif sum(map(len, chunks)) > cap:
        raise _over(cap)
    else:
        yield from filter(None, chunks)


def said_size(chunks: Sequence[bytes], encoding: str) -> int | None:
    """How large the body is that was sent in pieces, by what it says itself, in bytes; None if it does not say.

    A gzip stream says so in its last four bytes (RFC 1952). It may lie, and says nothing of streams in front of it.
    """
    if _head(chunks) == _GZIP_MAGIC:
        return int.from_bytes(chunks[-1][-4:], "little")
    return None if _NAMES.get(encoding.strip().lower()) == "deflate" else sum(map(len, chunks))


def counted_size(chunks: Sequence[bytes], encoding: str, cap: int) -> int:
    """How large the body is, by going over it: as far as it can be unpacked, at most the cap. On a worker thread."""
    size = 0
    with suppress(AttemptFailed):
        for piece in unpacked(chunks, encoding, cap):
            size += len(piece)
    return size


def _inflated(chunks: Iterable[bytes], flag: int, cap: int, *, many: bool) -> Iterator[bytes]:
    """Unpack one stream, or ``many`` gzip members one after the other."""
    size, members = 0, 1
    stream = igzip_lib.IgzipDecompressor(flag=flag)
    try:
        for chunk in chunks:
            rest = chunk
            while rest := (rest.lstrip(b"\0") if many and stream.eof else rest):  # members may be padded
                if stream.eof:
                    if not many:
                        raise Cut("bytes follow the end of the packed answer")
                    members += 1
                    if members > _MOST_MEMBERS:
                        raise OverCap(f"the packed answer has more than {_MOST_MEMBERS} parts")
                    stream = igzip_lib.IgzipDecompressor(flag=flag)
                for piece in _drained(stream, rest, size, cap):
                    size += len(piece)
                    yield piece
                rest = stream.unused_data if stream.eof else b""
    except _BROKEN:
        raise Cut("the packed answer is corrupt") from None
    if not stream.eof:
        raise Cut(f"the packed answer ends early, after {size} bytes")


def _drained(stream: igzip_lib.IgzipDecompressor, data: bytes, size: int, cap: int) -> Iterator[bytes]:
    """Unpack ``data``, up to its end or the stream's; ``size`` bytes came before."""
    while True:
        piece = stream.decompress(data, min(STEP_BYTES, cap + 1 - size))
        size += len(piece)
        if size > cap:
            raise _over(cap)
        if piece:
            yield piece
        if stream.eof or stream.needs_input:
            return
        data = b""


def _head(chunks: Sequence[bytes]) -> bytes:
    """The first two bytes, or as many as there are."""
    head = b""
    for chunk in chunks:
        head += chunk[:2]
        if len(head) >= 2:  # noqa: PLR2004
            break
    return head[:2]


def _is_zlib(head: bytes) -> bool:
    """Whether these two bytes are zlib's header (RFC 1950)."""
    return len(head) == 2 and head[0] & 0x0F == 8 and int.from_bytes(head, "big") % 31 == 0  # noqa: PLR2004


def _over(cap: int) -> OverCap:
    return OverCap(f"the answer is larger than {cap} bytes")


__all__ = ["STEP_BYTES", "Unpacking", "counted_size", "said_size", "unpack", "unpacked"]
