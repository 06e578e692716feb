"""What a JSON body means, by Python's own parser: exact numbers, texts as bytes."""

from __future__ import annotations

import json
import re
from typing import Any

from harvester.datasets import Dataset
from tests.fuzz.reference import NOTHING, Answer, Number, Record, Refused, Rows, Said, Unjudged, Value, has_key, shown
from tests.fuzz.reference import words_of as _words_of

_RAW = 0x100000
"""Above it by as much as the byte says: what stands for a byte that is part of no character."""
_STANDS = re.compile("[\U00100080-\U001000ff]")
_ESCAPED = re.compile("[\udc80-\udcff]")
_SPACE = b" \t\r\n"
_DEEP = 60
_VAST = re.compile("[0-9.][eE][+-]?[0-9]{3}")
_ANYTHING = json.JSONDecoder(
    strict=False,
    parse_int=Number,
    parse_float=Number,
    object_pairs_hook=dict,
    parse_constant=lambda _: (_ for _ in ()).throw(ValueError("no JSON")),
)


def read(body: bytes, dataset: Dataset) -> Answer:
    """The answer that a body is. Raises Refused, Unjudged."""
    text = body.removeprefix(b"\xef\xbb\xbf").strip(_SPACE)
    value = parse(text)
    if isinstance(value, list):
        return _list(value, dataset)
    if isinstance(value, dict):
        record = _record(value)
        if not record:
            return NOTHING
        if has_key(record, dataset):
            return Rows([record])
        if (said := _words_of(record)) is not None:
            return said
    if value is None or value == b"":
        return NOTHING
    if isinstance(value, bytes):
        return Said(shown(value))
    raise Refused


def parse(text: bytes) -> Value:
    """A JSON value. Raises Refused, Unjudged."""
    decoded = text.decode("utf-8", "surrogateescape")
    if _STANDS.search(decoded) or (decoded.count("[") + decoded.count("{") > _DEEP and _depth(decoded) > _DEEP):
        raise Unjudged
    if _VAST.search(decoded):
        raise Unjudged
    try:
        found = _ANYTHING.decode(_ESCAPED.sub(lambda at: chr(_RAW + ord(at[0]) - 0xDC00), decoded))
    except ValueError:
        raise Refused from None
    return _meant(found)


def _depth(text: str) -> int:
    """How deep it may be nested; more than that only where brackets stand in texts."""
    depth = deepest = 0
    for char in re.findall(r"[][{}]", text):
        depth += 1 if char in "[{" else -1
        deepest = max(deepest, depth)
    return deepest


def _meant(value: Any) -> Value:
    if isinstance(value, dict):
        return {_bytes(name): _meant(inner) for name, inner in value.items()}
    if isinstance(value, list):
        return [_meant(inner) for inner in value]
    return _bytes(value) if isinstance(value, str) and not isinstance(value, Number) else value


def _bytes(text: str) -> bytes:
    if not _STANDS.search(text):
        return text.encode("utf-8", "surrogatepass")
    return b"".join(
        bytes([ord(char) - _RAW]) if _STANDS.match(char) else char.encode("utf-8", "surrogatepass") for char in text
    )


def _list(values: list[Value], dataset: Dataset) -> Answer:
    records = []
    for value in values:
        if not isinstance(value, dict):
            raise Refused
        records.append(_record(value))
    if len(records) == 1 and not has_key(records[0], dataset) and (said := _words_of(records[0])) is not None:
        return said
    return Rows(records)


def _record(value: dict[bytes, Value]) -> Record:
    return {shown(name): inner for name, inner in value.items()}


__all__ = ["parse", "read"]
