"""What of an answer may be shown to a person or a log: how it begins, with no personal data beyond ids.

An answer that could not be used is shown by its outline: names of fields, ids, punctuation. All other values are
masked, whatever they are, since a damaged answer may hold anything anywhere. Pages for people are shown by their title.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator

MOST_SHOWN = 120
"""How much of an answer is shown, in characters."""

LOOKED_AT = 4096
"""How much of an answer is looked at, in bytes."""

MASK = "…"
"""Stands where something is not shown."""

_SECRET_TAIL = 64  # a part of a secret that the last byte looked at cuts in two is shorter than this
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_.-]{0,40}")
_SHOWN_NUMBERS = re.compile(r"id|id_.*|error_status|faultcode|\w*_count", re.IGNORECASE)
_SHOWN_WORDS = frozenset({"error", "faultstring"})
_NUMBER = re.compile(r"-?[0-9]{1,40}")
_JSON = re.compile(
    r'(?P<string>"(?:[^"\\]|\\.)*+(?P<end>"?))|(?P<mark>[][{}:,])|(?P<literal>true|false|null)\b|(?P<space>\s+)'
    r'|(?P<other>[^][{}:,"\s]+)',
    re.DOTALL,
)
_XML = re.compile(r"<!--.*?(?:-->|$)|<!\[CDATA\[.*?(?:\]\]>|$)|<[^<>]*>?|[^<]+", re.DOTALL)
_TAG = re.compile(r"<(/?[A-Za-z_?][A-Za-z0-9_:.-]*)")
_HTML = re.compile(r"<(?:!doctype\s+html|html|head|title|body|h1|center|p)\b", re.IGNORECASE)
_TITLE = re.compile(r"<title[^>]*>(.*?)</title>", re.IGNORECASE | re.DOTALL)
_UNSEEN = re.compile(r"<(script|style)\b.*?(?:</\1\s*>|$)|<!--.*?(?:-->|$)|<[^>]*(?:>|$)", re.IGNORECASE | re.DOTALL)
_WORD = re.compile(r"\S+")
_AT = re.compile(r"@|%40|&#64;|\\u0040")
_TELEPHONE = re.compile(r"\+?[0-9](?:[ -]?[0-9]){8,}")
_FIELDS = re.compile(r'"\s*[:,]')


def shown(
    body: bytes | bytearray | str, hide: Callable[[str], str] = str, masked: Collection[str] = frozenset()
) -> str:
    """How an answer begins, on one line of at most 120 characters; empty if there is nothing to show.

    Args:
        body: the answer, or its first part.
        hide: takes secrets out of a text.
        masked: fields, in lower case, whose ids are not shown either.
    """
    text = body[:LOOKED_AT] if isinstance(body, str) else bytes(body[:LOOKED_AT]).decode(errors="replace")
    text = hide(text)
    if len(body) > LOOKED_AT:
        text = text[:-_SECRET_TAIL]
    text = text.lstrip("\ufeff \t\r\n")
    if not text.startswith("<"):
        outline = _json(text, masked) if text[:1] in ("[", "{", '"') else prose(text, masked)
    elif "<methodResponse" not in text and _HTML.search(text):
        title = _TITLE.search(text)
        outline = prose(title[1] if title and title[1].strip() else _UNSEEN.sub(" ", text), masked)
    else:
        outline = "".join(_xml(text, masked))
    return shortened(outline)


def words(text: str, hide: Callable[[str], str] = str) -> str:
    """As much of what the API says as is looked at, without secrets."""
    return hide(text) if len(text) <= LOOKED_AT else hide(text[:LOOKED_AT])[:-_SECRET_TAIL]


def field_name(name: str) -> str:
    """A field's name as it was sent; a mask in place of what is no name, which may hold anything."""
    return name if _NAME.fullmatch(name) else MASK


def prose(text: str, masked: Collection[str] = frozenset()) -> str:
    """A text for people, without e-mail addresses and what may be telephone numbers; ``masked`` as in ``shown``."""
    return _json(text, masked) if _FIELDS.search(text) else _plain(text)


def shortened(text: str) -> str:
    """A text on one line of at most 120 characters, nothing unprintable in it."""
    line = " ".join("".join(char if char.isprintable() else " " for char in text).split())
    return line if len(line) <= MOST_SHOWN else line[:MOST_SHOWN].rstrip() + MASK


def _json(text: str, masked: Collection[str]) -> str:
    """The outline of what is, or was to be, JSON."""
    pieces: list[str] = []
    name = ""
    for found in _JSON.finditer(text):
        sent = found[0]
        if found["space"]:
            piece = " "
        elif found["literal"]:
            piece = sent
        elif found["mark"]:
            name = name if sent == ":" else ""
            piece = sent
        elif found["string"] and text[found.end() :].lstrip()[:1] == ":":
            name = sent[1:-1] if _NAME.fullmatch(sent[1:-1]) else ""
            piece = f'"{name or MASK}"'
        elif found["string"]:
            piece = f'"{_value(name, sent[1:-1], masked) if found["end"] else MASK}{found["end"]}'
        else:
            piece = _value(name, sent, masked)
        pieces.append(piece)
    return "".join(pieces)


def _xml(text: str, masked: Collection[str]) -> Iterator[str]:
    """The outline of what is, or was to be, XML: tags without their attributes."""
    tag = name = ""
    for token in _XML.findall(text):
        if found := _TAG.match(token):
            tag = found[1]
            if tag != "?xml":
                yield f"<{tag}>"
        elif token.startswith("<"):
            yield f"<{MASK}>"
        elif not (value := token.strip()):
            continue
        elif tag == "name":
            name = value if _NAME.fullmatch(value) else ""
            yield name or MASK
        else:
            yield _value(name, value, masked)


def _value(name: str, value: str, masked: Collection[str]) -> str:
    """A field's value, if it may be shown: an id, or the API's own words; else the mask."""
    if name.lower() in masked:
        return MASK
    if not value or (_SHOWN_NUMBERS.fullmatch(name) and _NUMBER.fullmatch(value)):
        return value
    return _plain(value) if name.lower() in _SHOWN_WORDS else MASK


def _plain(text: str) -> str:
    words = _WORD.sub(lambda word: MASK if _AT.search(word[0]) else word[0], text)
    return _TELEPHONE.sub(MASK, words)


__all__ = ["LOOKED_AT", "MASK", "MOST_SHOWN", "field_name", "prose", "shortened", "shown", "words"]
