"""What an XML-RPC response means, by way of expat, and by what the specification says of each element.

Expat is as strict as XML is, and the harvester is not where a server sends bytes that XML forbids. So these are
replaced by characters that stand for them before expat sees the text: in texts, CDATA sections and comments, not in
tags.
"""

from __future__ import annotations

import base64
import codecs
import re
from dataclasses import dataclass, field, replace
from xml.parsers import expat

from harvester.datasets import Dataset
from tests.fuzz.reference import NOTHING, Answer, Number, Record, Refused, Rows, Said, Value, has_key, shown, words_of

_SPACE = b" \t\r\n"
_BLANK = re.compile("[ \t\r\n\U0010000d]*")
_DECLARATION = re.compile(rb"<\?xml[ \t\r\n][^<>]*?\?>")
_NAMED = re.compile(rb"""encoding[ \t\r\n]*=[ \t\r\n]*["']([A-Za-z0-9._-]+)["']""")
_ENCODINGS = {"utf-8", "ascii", "iso8859-1", "iso8859-2", "iso8859-15", "cp1250", "cp1252"}
_TOKEN = re.compile(
    r"(?P<verbatim><!--.*?-->|<!\[CDATA\[.*?\]\]>|<\?.*?\?>)|(?P<tag></?[^<>!?][^<>]*>)|(?P<text>[^<]+)|(?P<broken><)",
    re.DOTALL,
)
_USUAL_TAG = re.compile(r"</?(?:ex:)?[A-Za-z0-9.]+[ \t\r\n]*/?>")
_USUAL_PI = re.compile(r"<\?(?![xX][mM][lL])[A-Za-z]+[ \t\r\n]")
_FORBIDDEN = re.compile("[\0-\x08\x0b-\x1f\udc80-\udcff\ufffe\uffff]")
_REFERENCE = re.compile(r"&#(?:([0-9]{1,32})|x([0-9A-Fa-f]{1,32}));")
_STANDS = re.compile("[\U00100000-\U001000ff\U0010d800-\U0010dfff\U0010e0fe\U0010e0ff]")
_TYPES = {"string", "boolean", "nil", "dateTime.iso8601", "base64"}
_NUMBERS = {"i1", "i2", "i4", "i8", "int", "biginteger", "double", "float", "bigdecimal"}
_JSON_NUMBER = re.compile(rb"-?(?:0|[1-9][0-9]*)(?:\.[0-9]+)?(?:[eE][+-]?[0-9]+)?")
_COMPACT = re.compile(rb"(\d{4})(\d\d)(\d\d)T(\d\d:\d\d:\d\d)")
_LONG = 1000
_BASE64 = re.compile(rb"(?:[A-Za-z0-9+/]{4})*(?:[A-Za-z0-9+/]{2}==|[A-Za-z0-9+/]{3}=)?")
_DEEP = 55


@dataclass
class Element:
    name: str
    texts: list[str] = field(default_factory=list)
    inner: list[Element] = field(default_factory=list)

    @property
    def text(self) -> bytes:
        return _bytes("".join(self.texts))


def read(body: bytes, dataset: Dataset) -> Answer:
    """The answer that a body is. Raises Refused; says ``unusual`` where XML is written as no API would.

    A field's name that is longer than any is unusual, too: the harvester has a bound.
    """
    text, unusual = _prepared(_decoded(body))
    try:
        return _answer(_tree(text), dataset, unusual=unusual)
    except _TooDeep:
        return Said(None, unusual=True)
    except Refused:
        raise Refused(unusual=unusual) from None


class _TooDeep(Exception):
    pass


def _decoded(body: bytes) -> str:
    text = body.removeprefix(b"\xef\xbb\xbf").lstrip(_SPACE)
    encoding = "utf-8"
    if declaration := _DECLARATION.match(text):
        text = text[declaration.end() :].lstrip(_SPACE)
        if named := _NAMED.search(declaration[0]):
            try:
                encoding = codecs.lookup(named[1].decode()).name
            except LookupError:
                raise Refused from None
            if encoding not in _ENCODINGS:
                raise Refused
    if not text.startswith((b"<methodResponse", b"<!--", b"<?")):
        raise Refused
    return text.decode("utf-8" if encoding == "ascii" else encoding, "surrogateescape")


def _prepared(text: str) -> tuple[str, bool]:
    """The text as expat takes it, and whether there is something unusual in it."""
    unusual = _STANDS.search(text) is not None
    parts: list[str] = []
    for token in _TOKEN.finditer(text):
        part = token[0]
        if token["tag"]:
            unusual |= not _USUAL_TAG.fullmatch(part)
        elif token["text"]:
            part = _REFERENCE.sub(_referred, part.replace("]]>", "]]&gt;"))
            part = _FORBIDDEN.sub(_standing, part)
        elif token["verbatim"]:
            unusual |= part.startswith("<?") and not _USUAL_PI.match(part)
            part = _FORBIDDEN.sub(_standing, part)
        parts.append(part)
    return "".join(parts), unusual


def _standing(found: re.Match[str]) -> str:
    code = ord(found[0])
    if code >= 0xFFFE:
        return chr(0x10E000 + (code & 0xFF))
    return chr(0x100000 + (code & 0xFF))  # a control character, or a byte


def _referred(found: re.Match[str]) -> str:
    code = int(found[1]) if found[1] else int(found[2], 16)
    if 0xD800 <= code <= 0xDFFF:
        return chr(0x100000 + code)
    return _standing(forbidden) if code < 0x10000 and (forbidden := _FORBIDDEN.match(chr(code))) else found[0]


def _bytes(text: str) -> bytes:
    if not _STANDS.search(text):
        return text.encode()
    return b"".join(_stood_for(char) if _STANDS.match(char) else char.encode() for char in text)


def _stood_for(char: str) -> bytes:
    code = ord(char) - 0x100000
    if code <= 0xFF:
        return bytes([code])
    return chr(code if code < 0xE000 else 0xFF00 + (code & 0xFF)).encode("utf-8", "surrogatepass")


def _tree(text: str) -> Element:
    parser = expat.ParserCreate("utf-8")
    top = Element("")
    open_: list[Element] = [top]

    def start(name: str, _: dict[str, str]) -> None:
        one = Element(name.rpartition(":")[2])
        open_[-1].inner.append(one)
        open_.append(one)

    parser.StartElementHandler = start

    def end(_: str) -> None:
        open_.pop()

    def characters(data: str) -> None:
        open_[-1].texts.append(data)

    parser.EndElementHandler = end
    parser.CharacterDataHandler = characters
    try:
        parser.Parse(f"<answer>{text}</answer>".encode("utf-8", "surrogateescape"), True)
    except expat.ExpatError:
        raise Refused from None
    return top.inner[0]


def _only(element: Element, *names: str) -> Element | None:
    """The one element in another; None if there is none."""
    _no_text(element)
    if len(element.inner) > 1 or any(inner.name not in names for inner in element.inner):
        raise Refused
    return element.inner[0] if element.inner else None


def _no_text(element: Element) -> None:
    if not _BLANK.fullmatch("".join(element.texts)):
        raise Refused


def _answer(root: Element, dataset: Dataset, *, unusual: bool) -> Answer:
    """What a whole response says: a list, a lone struct, a text, nothing, or a fault."""
    response = _only(root, "methodResponse")
    content = response and _only(response, "params", "fault")
    if content is None:
        raise Refused
    if content.name == "fault":
        return Said(None, unusual=True)  # the harvester may find it too odd to be one
    param = _only(content, "param")
    value = param and _only(param, "value")
    if value is None:
        return Rows((), unusual)
    if value.inner and value.inner[0].name == "array":
        return _list(value, dataset, unusual=unusual)
    return _alone(value, dataset, unusual=unusual)


def _alone(value: Element, dataset: Dataset, *, unusual: bool) -> Answer:
    """What a value says that is no list."""
    kind = value.inner[0].name if value.inner else "string"
    said = _value(value, 0)
    if isinstance(said, dict):
        record = _members(value.inner[0], 0)
        words = Rows([record] if record else ()) if not record or has_key(record, dataset) else words_of(record)
    elif kind == "nil" or (kind == "string" and isinstance(said, bytes) and not shown(said).strip()):
        words = NOTHING
    else:
        words = Said(shown(said)) if kind == "string" and isinstance(said, bytes) else None
    if words is None:
        raise Refused
    return replace(words, unusual=unusual)


def _list(value: Element, dataset: Dataset, *, unusual: bool) -> Answer:
    array = _only(value, "array")
    data = array and _only(array, "data")
    records: list[Record] = []
    if data is not None:
        _no_text(data)
        for one in data.inner:
            struct = _only(one, "struct") if one.name == "value" else None
            if struct is None:
                raise Refused
            records.append(_members(struct, 0))
    if len(records) == 1 and not has_key(records[0], dataset) and (words := words_of(records[0])) is not None:
        return replace(words, unusual=unusual)
    return Rows(records, unusual or any(len(name) > _LONG for record in records for name in record))


def _members(struct: Element, depth: int) -> Record:
    return {shown(name): value for name, value in _pairs(struct, depth)}


def _pairs(struct: Element, depth: int) -> list[tuple[bytes, Value]]:
    _no_text(struct)
    found: list[tuple[bytes, Value]] = []
    for member in struct.inner:
        _no_text(member)
        parts = {part.name: part for part in member.inner}
        if member.name != "member" or len(member.inner) != 2 or set(parts) != {"name", "value"} or parts["name"].inner:
            raise Refused
        found.append((parts["name"].text, _value(parts["value"], depth)))
    return found


def _value(element: Element, depth: int) -> Value:
    if not element.inner:
        return element.text
    if depth > _DEEP:
        raise _TooDeep
    one = _only(element, "array", "struct", *_TYPES, *_NUMBERS)
    assert one is not None
    if one.name == "struct":
        return dict(_pairs(one, depth + 1))
    if one.name == "array":
        data = _only(one, "data")
        if data is None:
            return []
        _no_text(data)
        if any(value.name != "value" for value in data.inner):
            raise Refused
        return [_value(value, depth + 1) for value in data.inner]
    return _scalar(one, nested=depth > 0)


def _scalar(one: Element, *, nested: bool) -> Value:
    if one.inner:
        raise Refused
    text = one.text
    if one.name == "nil":
        _no_text(one)
        return None
    if one.name == "boolean" and text in (b"0", b"1"):
        return text == b"1"
    if one.name == "dateTime.iso8601" and (found := _COMPACT.fullmatch(text)):
        return b"%s-%s-%s %s" % found.groups()
    if one.name == "base64" and _BASE64.fullmatch(packed := b"".join(text.split())):
        return base64.b64decode(packed)
    return Number(text.decode()) if nested and one.name in _NUMBERS and _JSON_NUMBER.fullmatch(text) else text


__all__ = ["read"]
