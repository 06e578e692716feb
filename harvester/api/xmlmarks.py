"""What XML forbids, marked before it is parsed, also where a piece of the body ends in the middle of it. No I/O.

XML has no way to say most control characters, U+FFFE, U+FFFF or a byte that is no UTF-8, not even as a reference, and
makes a line feed of a carriage return. In texts, CDATA sections and comments these become marks (``marks``); a ``]]>``
in a text becomes one that is allowed. What stands in a tag is left alone: there it is an error.
"""

from __future__ import annotations

import codecs
import re

from harvester.api.marks import MARK, marked_char, marked_code

_RAW = f"[\\x00-\\x08\\x0b-\\x1f\\udc80-\\udcff{MARK}\\ufffe\\uffff]"
_ODD = re.compile(_RAW)
_NOTABLE = re.compile(
    rf"(?P<opening><(?:!\[CDATA\[|!--|\?))|&#(?:(?P<number>[0-9]{{1,32}})|x(?P<hex>[0-9a-fA-F]{{1,32}}));|\]\]>|{_RAW}"
)
_FORBIDDEN = frozenset([*range(9), 11, 12, *range(14, 32), *range(0xD800, 0xE000), ord(MARK), 0xFFFE, 0xFFFF])
_CONTROLS = bytes([*range(9), *range(11, 32)])
_SIGNS = (b"<!", b"<?", b"&#", b"]]>", b"\xef\xb7\x90", b"\xef\xbf\xbe", b"\xef\xbf\xbf")
_CLOSINGS = {"<![CDATA[": "]]>", "<!--": "-->", "<?": "?>"}
_TAG = ">"
_UNDECIDED = {
    "": re.compile(r"(?:<(?:!(?:-|\[[CDAT]{0,5})?)?|&(?:#(?:x?[0-9a-fA-F]{0,32})?)?|\]{1,2})\Z"),
    "]]>": re.compile(r"\]{1,2}\Z"),
    "-->": re.compile(r"-{1,2}\Z"),
    "?>": re.compile(r"\?\Z"),
}
"""What may be the beginning of something at the end of a piece, by what is being waited for there."""
_LONGEST_UNDECIDED = 48


class XmlMarker:
    """Marks one body, piece after piece.

    Attributes:
        marked: whether there are marks in what came out so far.
    """

    def __init__(self) -> None:
        self.marked = False
        self._decode = codecs.getincrementaldecoder("utf-8")("surrogateescape").decode
        self._held = ""
        self._closing = ""  # what ends the tag, comment and so on that the next character belongs to; "" in a text

    def feed(self, piece: bytes | bytearray | memoryview) -> bytes:
        """The piece with marks, without an end that can't be decided yet and with the undecided end before it."""
        text = self._held + self._decode(piece)
        self._held = ""
        if not self._closing:
            decided = self._undecided(text)
            plain = _plain(text[:decided])
            if plain is not None:
                self._held = text[decided:]
                if _in_tag(text, 0, decided, before=False):
                    self._closing = _TAG
                return plain
        return "".join(self._parts(text)).encode("utf-8", "surrogateescape")

    def finish(self) -> bytes:
        """What was held back; nothing follows it."""
        text = self._held + self._decode(b"", final=True)
        self._held = ""
        return self._with_marks(text).encode("utf-8", "surrogateescape")

    def _parts(self, text: str) -> list[str]:
        parts: list[str] = []
        place = 0
        while place < len(text):
            place = (
                self._through_markup(text, place, parts) if self._closing else self._through_text(text, place, parts)
            )
        return parts

    def _through_markup(self, text: str, place: int, parts: list[str]) -> int:
        """To the end of the comment, tag and so on, or of what there is of it."""
        end = text.find(self._closing, place)
        stop = end + len(self._closing) if end >= 0 else self._undecided(text, place)
        part = text[place:stop]
        parts.append(part if self._closing == _TAG else self._with_marks(part))
        if end >= 0:
            self._closing = ""
            return stop
        self._held = text[stop:]
        return len(text)

    def _through_text(self, text: str, place: int, parts: list[str]) -> int:
        """Through texts and whole tags, to where a comment or the like begins."""
        limit = self._undecided(text, place)
        in_tag = False
        while found := _NOTABLE.search(text, place, limit):
            in_tag = _in_tag(text, place, found.start(), before=in_tag)
            parts.append(text[place : found.start()])
            place = found.end()
            if found["opening"]:
                parts.append(found[0])
                self._closing = _CLOSINGS[found[0]]
                return place
            parts.append(found[0] if in_tag else _marked(found))
            self.marked |= not in_tag
            in_tag &= found[0] != "]]>"
        if _in_tag(text, place, limit, before=in_tag):
            self._closing = _TAG
        parts.append(text[place:limit])
        self._held = text[limit:]
        return len(text)

    def _undecided(self, text: str, place: int = 0) -> int:
        """Where the end begins that can't be decided without what follows; the text's end if there is none."""
        tail = _UNDECIDED.get(self._closing)
        found = tail.search(text, max(place, len(text) - _LONGEST_UNDECIDED)) if tail else None
        return found.start() if found else len(text)

    def _with_marks(self, text: str) -> str:
        text, count = _ODD.subn(lambda found: marked_char(found[0]), text)
        self.marked |= count > 0
        return text


def _plain(text: str) -> bytes | None:
    """The text as bytes if there is nothing in it that needs a closer look, as in nearly all pieces."""
    try:
        raw = text.encode()
    except UnicodeEncodeError:
        return None
    if len(raw.translate(None, _CONTROLS)) < len(raw) or any(sign in raw for sign in _SIGNS):
        return None
    return raw


def _in_tag(text: str, start: int, stop: int, *, before: bool) -> bool:
    """Whether a tag is open at ``stop``; ``before`` if one is at ``start``."""
    opened, closed = text.rfind("<", start, stop), text.rfind(">", start, stop)
    return before if opened == closed else opened > closed


def _marked(found: re.Match[str]) -> str:
    whole = found[0]
    if whole == "]]>":
        return "]]&gt;"
    if not whole.startswith("&"):
        return marked_char(whole)
    code = int(found["number"]) if found["number"] else int(found["hex"], 16)
    return marked_code(code) if code in _FORBIDDEN else whole


__all__ = ["XmlMarker"]
