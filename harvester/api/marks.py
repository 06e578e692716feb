r"""Marks: how bytes that a wire's grammar forbids pass through its decoder, and come out exactly. No I/O.

A value's bytes are its UTF-8 with the wire's escapes undone; half a surrogate pair counts as the three bytes that
UTF-8 would give it. Whatever a decoder would refuse, or no column can hold, is *marked* before decoding: each byte
becomes the code point U+FDD0, which Unicode keeps out of texts for uses such as this one, and two hexadecimal digits.
U+FDD0 itself is marked as well, so that a mark always stands for a byte.

Invariant: undoing the marks of a decoded value gives its bytes. If these are UTF-8 without a NUL, they are the value's
text. Else the value is shown with U+FFFD in place of what is no text, and ``_extra`` holds ``{"$base64": …}`` of it.
"""

from __future__ import annotations

import base64
import re

import msgspec

MARK = "\ufdd0"
"""Begins a mark; two lower-case hexadecimal digits follow."""

_RUN = re.compile(rf"(?:{MARK}[0-9a-f]{{2}})+")
_NO_TEXT = re.compile(f"[\0\udc80-\udcff{MARK}]")
_BYTES = re.compile("[\0\udc80-\udcff]")
_JSON_STRING = re.compile(r'"[^"\\]*+(?:\\.[^"\\]*+)*+(?:"|\\?\Z)', re.DOTALL)
_ODD_IN_JSON = re.compile(
    r"\\\\"  # an escaped backslash: what follows it is no escape
    r"|\\u[dD][89abAB][0-9a-fA-F]{2}\\u[dD][c-fC-F][0-9a-fA-F]{2}"  # a surrogate pair
    r"|\\u(?P<code>[dD][89a-fA-F][0-9a-fA-F]{2}|0000|[fF][dD][dD]0)"
    rf"|(?P<raw>[\x00-\x1f\udc80-\udcff{MARK}])"
)


def marked_char(char: str) -> str:
    """One character as marks; a byte that is no UTF-8 is a character as ``surrogateescape`` has it."""
    return "".join([f"{MARK}{byte:02x}" for byte in char.encode("utf-8", "surrogateescape")])


def marked_code(code: int) -> str:
    """The character of this number as marks, halves of surrogate pairs included."""
    return "".join([f"{MARK}{byte:02x}" for byte in chr(code).encode("utf-8", "surrogatepass")])


def marked_json(body: bytes | bytearray) -> bytes | None:
    """JSON with all that is no text in its strings marked; None if there is no such thing."""
    text = body.decode("utf-8", "surrogateescape")
    marked = _JSON_STRING.sub(_marked_string, text)
    return None if marked == text else marked.encode("utf-8", "surrogateescape")


def _marked_string(found: re.Match[str]) -> str:
    return _ODD_IN_JSON.sub(_marked_in_json, found[0])


def _marked_in_json(found: re.Match[str]) -> str:
    if found["code"]:
        return marked_code(int(found["code"], 16))
    return marked_char(found["raw"]) if found["raw"] else found[0]


def marked_bytes(value: bytes) -> str:
    """A value's bytes as text, with marks for what is no text."""
    return _NO_TEXT.sub(lambda found: marked_char(found[0]), value.decode("utf-8", "surrogateescape"))


def undone(text: str) -> bytes:
    """The bytes of a text with marks."""
    return _RUN.sub(_chars, text).encode("utf-8", "surrogateescape")


def _chars(run: re.Match[str]) -> str:
    return bytes.fromhex(run[0].replace(MARK, "")).decode("utf-8", "surrogateescape")


def shown(text: str) -> tuple[str, bytes | None]:
    """A text without its marks, as a column holds it; and its bytes if that is not all of them."""
    value = undone(text)
    try:
        plain = value.decode()
    except UnicodeDecodeError:
        plain = value.decode("utf-8", "replace")
    else:
        if "\0" not in plain:
            return plain, None
    return plain.replace("\0", "\ufffd"), value


def bytes_piece(value: bytes) -> str:
    """Bytes as the piece of JSON that ``_extra`` holds."""
    return f'{{"$base64":"{base64.b64encode(value).decode()}"}}'


def shown_piece(piece: str) -> str:
    """A nested value's JSON without its marks; in base64, and bytes that are no text raw in it, if there are any."""
    text = _RUN.sub(lambda run: "".join(map(_in_json, _chars(run))), piece)
    return bytes_piece(text.encode("utf-8", "surrogateescape")) if _BYTES.search(text) else text


def _in_json(char: str) -> str:
    return char if _BYTES.match(char) else msgspec.json.encode(char).decode()[1:-1]


__all__ = [
    "MARK",
    "bytes_piece",
    "marked_bytes",
    "marked_char",
    "marked_code",
    "marked_json",
    "shown",
    "shown_piece",
    "undone",
]
