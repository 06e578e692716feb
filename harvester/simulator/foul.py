"""Bytes that are not text: how an account holds them, how they are sent, and what a correct lake makes of them.

Arrow's texts are valid UTF-8, so inside the simulator a byte that is part of no character, and half a surrogate pair,
have a *stand-in*: a character of the second-last plane, which nothing else here uses. They become what they stand for
when a body is made.

The rule of the lake: a value's bytes are its UTF-8 as sent, the wire's escapes undone (half a pair as its three
bytes). Where those are valid UTF-8 without a NUL, they are the value. Else the value is what is left with U+FFFD in
place of what is not valid, and of NUL; and ``_extra`` holds the bytes themselves, as ``{"$base64": "…"}``.
"""

from __future__ import annotations

import base64
import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

_RAW = 0xF0000
"""Above it by as much as the byte says: the stand-in of a byte; and of half a pair, by as much as its code point."""
_ESCAPED = 0xDC00
"""Above it by as much as the byte says: how Python decodes a byte that is part of no character."""
STAND_IN = re.compile("[\U000f0080-\U000f00ff\U000fd800-\U000fdfff]")
_HALF = re.compile("[\U000fd800-\U000fdfff]")
_PARTS = re.compile(f"({STAND_IN.pattern})")
_STAND_IN_BYTES = re.compile(rb"\xf3\xb0[\x82\x83][\x80-\xbf]|\xf3\xbd[\xa0-\xbf][\x80-\xbf]")


def raw(sent: bytes) -> str:
    """The bytes as a text with stand-ins. What is valid UTF-8 among them stays."""
    text = sent.decode("utf-8", "surrogateescape")
    return "".join(chr(_RAW + ord(char) - _ESCAPED) if _is_half(char) else char for char in text)


def half(code: int) -> str:
    """Half a surrogate pair, as its stand-in: over JSON it is sent as an escape."""
    return chr(_RAW + code)


def uncovered(body: bytes) -> bytes:
    """A body with what its stand-ins stand for."""
    return _STAND_IN_BYTES.sub(_stood_for, body)


def around(text: str, escaped: Callable[[str], str]) -> str:
    """The text with all of it escaped but its stand-ins."""
    if not STAND_IN.search(text):
        return escaped(text)
    return "".join(part if STAND_IN.fullmatch(part) else escaped(part) for part in _PARTS.split(text))


def escaped_halves(text: str) -> str:
    """The text with JSON's escapes in place of halves of pairs."""
    return _HALF.sub(lambda found: f"\\u{ord(found[0]) - _RAW:04x}", text)


def value(text: str) -> str | bytes:
    """What a text with stand-ins is to the lake: itself, or its bytes if those are not text."""
    if not STAND_IN.search(text) and "\x00" not in text:
        return text
    sent = uncovered(text.encode())
    try:
        return sent if b"\x00" in sent else sent.decode()
    except UnicodeDecodeError:
        return sent


def shown(value: str | bytes) -> str:
    """What a column shows of a value."""
    return value if isinstance(value, str) else value.decode("utf-8", "replace").replace("\x00", "\ufffd")


def kept(value: str | bytes) -> str | dict[str, str]:
    """What ``_extra`` holds of a value."""
    return value if isinstance(value, str) else {"$base64": base64.b64encode(value).decode()}


def _is_half(char: str) -> bool:
    return "\ud800" <= char <= "\udfff"


def _stood_for(found: re.Match[bytes]) -> bytes:
    code = ord(found[0].decode()) - _RAW
    return bytes([code]) if code <= 0xFF else chr(code).encode("utf-8", "surrogatepass")  # noqa: PLR2004  a byte's


FOUL = (
    raw(b"Jos\xe9 Nov\xe1k"),
    raw(b"\xe9"),
    raw("Ji\u0159í".encode() + b"\xc5"),
    raw(b"\xf0\x9f\x93"),
    raw(b"\xff\xfe start"),
    raw(b"\x80\x80\x80"),
    raw(b"\xc0\x80 overlong"),
    raw(b"\xf4\x90\x80\x80 beyond"),
    raw(b"\xe2\x82\xac \xe2\x82"),
    raw(b'say \xe9 "twice" <b>&amp;</b> \\ },{ \r\n\t'),
    raw(b"\xed\xa0\xbd"),
    raw(b"\xed\xa0\xbd\xed\xb3\xa7"),
    half(0xD83D),
    f"x{half(0xD83D)}y",
    f"{half(0xDCE7)}{half(0xD83D)} the wrong way round",
    f"{half(0xD83D)}\U0001f4e7{half(0xDCE7)}",
    f"{raw(bytes([0xE9]))}\x00{half(0xDC00)} all of it",
    "a\x00b",
    "\x00",
    "controls \x01 \x08 \x0b \x0c \x1f \x7f \x85",
    "\ufffe \uffff \ufdd0",
    "a mark already \ufffd",
    '{"$base64":"6Q=="}',
    "\\ud83d \\u0000 spelled out",
)
"""Texts that are not text, among some that only look so."""
FOUL_IDS = tuple(map(raw, (b"351\xe9431738", b"\xff", b"9\xc5", b"\xef\xbb\xbf7")))
"""Values of an id that are not text, and one that begins with a byte order mark. Nothing here needs escaping."""
FOUL_DATE = raw(b"2016-02-16 04:30:15\xff")
FOUL_LOCAL = raw(b"andr\xe9.")
"""What an address may begin with."""

__all__ = [
    "FOUL",
    "FOUL_DATE",
    "FOUL_IDS",
    "FOUL_LOCAL",
    "STAND_IN",
    "around",
    "escaped_halves",
    "half",
    "kept",
    "raw",
    "shown",
    "uncovered",
    "value",
]
