"""A body's text as it comes, in windows: what is not used yet of it, and at least so much. No I/O of its own."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

    Body = bytes | bytearray

BOM = b"\xef\xbb\xbf"
WHITESPACE = b" \t\r\n"
"""What may stand before a JSON text, and around what is in it (RFC 8259)."""
_LIST_OF_OBJECTS = re.compile(rb"\[[ \t\r\n]*\{")
"""How a list begins that ``pyarrow.json`` may see: a ``null`` in front ends the process (apache/arrow issue 47409)."""


class Feed:
    """The inside of a JSON list.

    Attributes:
        text: what is not used yet; at the end, without the bracket that closes the list.
        ended: whether nothing comes after ``text``.
        closed: whether the list was closed there, after an object.
    """

    def __init__(self, pieces: Iterable[Body]) -> None:
        self.text = b""
        self.ended = False
        self.closed = False
        self._pieces = iter(pieces)
        self._piece = memoryview(b"")

    def opens_list(self, size: int) -> bool:
        """Whether the body begins as a list of objects does, by its first ``size`` bytes. ``text`` then does, too."""
        self._take(size)
        text = self.text.removeprefix(BOM).lstrip(WHITESPACE)
        opening = _LIST_OF_OBJECTS.match(text)
        if opening is None:
            return False
        self.text = text[opening.end() - 1 :]
        return True

    def fill(self, size: int) -> bool:
        """Has ``text`` hold at least so many bytes, or all that is left. Whether it is a window that can be read."""
        if self.ended:
            return bool(self.text)
        self.ended = self._take(size)
        if not self.ended:
            return True
        text = self.text.rstrip(WHITESPACE)
        inside = text.removesuffix(b"]")
        self.text = inside.rstrip(WHITESPACE)
        self.closed = len(inside) < len(text) and self.text.endswith(b"}")
        return self.closed

    def drop(self, size: int) -> None:
        """So many bytes of ``text`` are used; and whitespace after them."""
        self.text = self.text[size:].lstrip(WHITESPACE)

    def _take(self, size: int) -> bool:
        """Has ``text`` hold so many bytes, if there are so many; whether there were not."""
        parts: list[Body | memoryview] = [self.text]
        have = len(self.text)
        while have < size:
            if not self._piece:
                piece = next(self._pieces, None)
                if piece is None:
                    break
                self._piece = memoryview(piece)
            part = self._piece[: size - have]
            self._piece = self._piece[len(part) :]
            parts.append(part)
            have += len(part)
        self.text = b"".join(parts)
        return have < size


__all__ = ["BOM", "WHITESPACE", "Feed"]
