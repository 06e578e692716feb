"""Bounds: how much an answer may hold, so that reading it costs memory and time in proportion to its size. No I/O.

A body is capped in bytes elsewhere, and that is not enough: three bytes of JSON (``{},``) or four of XML (``<a/>``)
become hundreds in memory once they are objects. So what is large is looked at as bytes first, where that is cheap.

No account comes near these bounds. What breaks one is ``OverCap``, so that the query is asked for less, which is what
would help if one did. Refuses to judge what an answer says.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from harvester.datasets import PAGE_CAP
from harvester.errors import NotData, OverCap

if TYPE_CHECKING:
    from harvester.datasets import Dataset

    Body = bytes | bytearray

DEEPEST = 64
"""How many levels of lists and objects a field's value may have."""
WIDEST = 10_000
"""The most fields of a record, and values in a list within one."""
MOST_NAMES = 1000
"""The most names of fields in one answer that the catalogue doesn't know."""
LONGEST_NAME = 1000
"""The most characters of such a name."""
MOST_CELLS = 2**22
"""The most values that such names may stand for: all names times all records."""
MOST_MARKS = 2**20
"""The most bytes in one answer that are no text; each costs microseconds."""
RECORD_TAGS = 2**18
"""The most tags, and the most attributes, of one record in XML."""
RECORD_BYTES = 2**25
"""The most bytes of one record in XML."""

_SMALL_BYTES = 2**21
"""Nothing that is smaller costs much, whatever it holds."""
_MOST_BRACES = 2**24
_SKELETON_BYTES = 2**24
_WINDOW_BYTES = 2**18
_MEAT = bytes(code for code in range(256) if code not in b"[]{},")
_INNERMOST = re.compile(rb"[\[{],*+[\]}]")
_WIDE = re.compile(rb"[\[{],{%d,}" % WIDEST)


def most_records(dataset: Dataset) -> int:
    """How many records an answer may hold: of a paged dataset, several times what the API serves."""
    return 4 * PAGE_CAP if dataset.paged else 2**20


def too_many(what: str) -> OverCap:
    """The error for an answer that holds too much of something."""
    return OverCap(f"the answer holds too many {what}")


def check_json(text: Body, most: int) -> None:
    """Whether JSON may be decoded: a whole answer, one record, or some.

    Args:
        text: the JSON.
        most: how many records it may hold.

    Raises:
        OverCap: it holds more, or a record has more fields than any can have.
        NotData: it is nested too deeply.
    """
    if len(text) <= _SMALL_BYTES:
        return
    if text.count(b"{") > _MOST_BRACES:
        raise too_many("records")
    skeleton = _skeleton(text)
    if skeleton[:1] == b"[":
        skeleton = skeleton[1:-1]
    if _without_levels(skeleton, 2 * DEEPEST).count(b",") >= most:
        raise too_many("records")


def check_nested(value: bytes) -> None:
    """Whether a field's value, a list or an object in JSON, is of no more than 64 levels. Raises NotData, OverCap."""
    if value.count(b"[") + value.count(b"{") > DEEPEST:
        _without_levels(_skeleton(value), DEEPEST)


def _without_levels(skeleton: bytes, most: int) -> bytes:
    """What is left of it without all that is in brackets.

    Raises:
        OverCap: a list or an object holds too many values.
        NotData: they are nested in more levels than ``most``, or in many more where the whole is large.
    """
    for _ in range(most + 1):
        if _WIDE.search(skeleton):
            raise too_many("values in a record")
        windows = range(0, len(skeleton), _WINDOW_BYTES)  # each replacement takes many bytes, while they last
        less = b"".join([_INNERMOST.sub(b"", skeleton[start : start + _WINDOW_BYTES]) for start in windows])
        if len(less) == len(skeleton):
            return less
        skeleton = less
    raise NotData("the answer is nested too deeply")


def _skeleton(text: Body) -> bytes:
    """JSON without all but its brackets, braces and commas. Raises OverCap if too much is left."""
    if b"\\" in text:
        text = text.replace(b"\\\\", b"").replace(b'\\"', b"")
    skeleton = bytearray()
    inside = False
    for start in range(0, len(text), _WINDOW_BYTES):
        parts = text[start : start + _WINDOW_BYTES].split(b'"')
        skeleton += b"".join(parts[inside::2]).translate(None, _MEAT)
        inside ^= len(parts) % 2 == 0
        if len(skeleton) > _SKELETON_BYTES:
            raise too_many("values")
    return bytes(skeleton)


class Marks:
    """How many marks one answer may still need. ``spend`` comes before any part of it is marked."""

    def __init__(self, escape: bytes, controls: bytes) -> None:
        """``escape`` begins what stands for a character; ``controls`` are marked where they stand."""
        self._escape = escape
        self._controls = controls
        self._left = MOST_MARKS

    def spend(self, part: Body) -> None:
        """Count what may have to be marked in a part of the body. Raises OverCap if that is too much."""
        for start in range(0, len(part), _WINDOW_BYTES):
            window = bytes(part[start : start + _WINDOW_BYTES])
            self._left -= len(window) - len(window.translate(None, self._controls)) + window.count(self._escape)
            if not window.isascii():  # a byte that is no UTF-8 becomes three
                odd = window.decode("utf-8", "surrogateescape").encode("utf-8", "surrogatepass")
                self._left -= (len(odd) - len(window)) // 2
            if self._left < 0:
                raise too_many("bytes that are not text")


def json_marks() -> Marks:
    """For an answer in JSON."""
    return Marks(b"\\u", bytes(range(32)))


def xml_marks() -> Marks:
    """For an answer in XML."""
    return Marks(b"&#", bytes([*range(9), *range(11, 32)]))


__all__ = [
    "DEEPEST",
    "LONGEST_NAME",
    "MOST_CELLS",
    "MOST_MARKS",
    "MOST_NAMES",
    "RECORD_BYTES",
    "RECORD_TAGS",
    "WIDEST",
    "Marks",
    "check_json",
    "check_nested",
    "json_marks",
    "most_records",
    "too_many",
    "xml_marks",
]
