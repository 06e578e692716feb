"""What a compressed body holds, by zlib."""

from __future__ import annotations

import zlib

from tests.fuzz.reference import Refused

_GZIP = 16 + zlib.MAX_WBITS


def unpacked(body: bytes, encoding: str, cap: int) -> bytes:
    """The body without its compression, by zlib. Raises Refused."""
    name = encoding.strip().lower()
    if name not in ("", "identity", "gzip", "x-gzip", "deflate"):
        raise Refused
    if body[:2] == b"\x1f\x8b":
        whole, rest = b"", body
        while rest:
            piece, rest = _inflated(rest, _GZIP, cap)
            rest = rest.lstrip(b"\0")
            whole += piece
    elif name == "deflate" and body:
        is_zlib = len(body) > 1 and body[0] & 15 == 8 and int.from_bytes(body[:2], "big") % 31 == 0
        whole, rest = _inflated(body, zlib.MAX_WBITS if is_zlib else -zlib.MAX_WBITS, cap)
        if rest:
            raise Refused
    else:
        whole = body
    if len(whole) > cap:
        raise Refused
    return whole


def _inflated(data: bytes, window: int, cap: int) -> tuple[bytes, bytes]:
    stream = zlib.decompressobj(window)
    try:
        piece = stream.decompress(data, cap + 1)
    except zlib.error:
        raise Refused from None
    if not stream.eof:
        raise Refused
    return piece, stream.unused_data


__all__ = ["unpacked"]
