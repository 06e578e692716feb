"""Records as an odd shape sends them: value by value, in plain Python. Slow, and only for tests of readers.

What chance decides here depends on the record and the field alone, so that every page, either wire and the truth agree
on it.
"""

from __future__ import annotations

import random
import re
from dataclasses import dataclass
from enum import Enum
from typing import TYPE_CHECKING

from harvester.simulator.hashing import mix, salt
from harvester.simulator.shape import Case, Numbers
from harvester.simulator.styles import JsonStyle, XmlStyle, number

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from harvester.simulator.account import Account
    from harvester.simulator.parts import Block
    from harvester.simulator.shape import Shape

JSON_NUMBER = re.compile(r"-?(0|[1-9]\d*)(\.\d+)?([eE][+-]?\d+)?", re.ASCII)
_EMPTY = ("null", "null", "true", "false", '""', '""', '""', '""')


class Form(Enum):
    """What kind of value is sent."""

    TEXT = "text"
    NUMBER = "number"
    BOOLEAN = "boolean"
    NULL = "null"


@dataclass(frozen=True, slots=True)
class Sent:
    """One field of one record as it is sent.

    Attributes:
        name: as it is spelled in this shape.
        form: what kind of value it is.
        text: the value as text: a string's contents, a number's digits, ``true`` or ``false``, None for null.
    """

    name: str
    form: Form
    text: str | None


def sent_records(account: Account, block: Block) -> Iterator[tuple[Sent, ...]]:
    """Each record's fields, in the order of the vendor's page."""
    shape = account.spec.shape
    columns = block.columns()
    names = tuple(columns)
    key_at = names.index(block.key)
    for values in zip(*(column.to_pylist() for column in columns.values()), strict=True):
        fields = list(zip(names, values, strict=True))
        chance = salt(account.spec.seed, int(values[key_at]))
        if shape.unknown:
            fields += _unknown(account, chance)
        yield tuple(
            _sent(shape, name, text, mix(chance + number))
            for number, (name, text) in enumerate(fields)
            if name not in shape.missing
        )


def _unknown(account: Account, chance: int) -> Iterator[tuple[str, str]]:
    yield "X_batch", str(chance % 1000)
    if chance % 5 == 0:
        yield "X_note", account.banks.notes[chance % len(account.banks.notes)]


def _sent(shape: Shape, name: str, text: str, chance: int) -> Sent:
    if shape.case is not Case.DOCUMENTED:
        name = name.upper() if shape.case is Case.UPPER else name.lower()
    mixed = shape.numbers is Numbers.MIXED
    if (shape.numbers is Numbers.BARE or (mixed and chance & 8)) and JSON_NUMBER.fullmatch(text):
        return Sent(name, Form.NUMBER, text)
    if mixed and not text and name.lower().startswith("custom_"):
        literal = _EMPTY[chance & 7]
        if literal == "null":
            return Sent(name, Form.NULL, None)
        if literal != '""':
            return Sent(name, Form.BOOLEAN, literal)
    return Sent(name, Form.TEXT, text)


def objects(account: Account, block: Block, style: JsonStyle | XmlStyle) -> Iterator[str]:
    """Each record as the wire has it, without a comma."""
    shape = account.spec.shape
    order: random.Random | None = None
    ranks: dict[str, float] = {}
    for record in sent_records(account, block):
        fields: Sequence[Sent] = record
        # The block's first record decides the order of its fields, so that the same query has the same answer.
        order = order or random.Random(repr(record))  # noqa: S311 - an order, not a secret
        if shape.shuffle:
            ranks |= {sent.name: order.random() for sent in record if sent.name not in ranks}
            fields = sorted(record, key=lambda sent: ranks[sent.name])
        if isinstance(style, XmlStyle):
            yield _struct(fields, style, pretty=shape.pretty)
        elif shape.pretty:
            yield "{\n" + ",\n".join(f'    "{sent.name}": {_literal(sent, style)}' for sent in fields) + "\n  }"
        else:
            yield "{" + ",".join(style.field(sent.name, _literal(sent, style)) for sent in fields) + "}"


def _literal(sent: Sent, style: JsonStyle) -> str:
    if sent.text is None:
        return "null"
    return sent.text if sent.form is not Form.TEXT else style.literal(sent.name, sent.text)


def _struct(fields: Sequence[Sent], style: XmlStyle, *, pretty: bool) -> str:
    members = [style.field(sent.name, _xml_literal(sent, style)) for sent in fields]
    if not pretty:
        return style.opening + "".join(members) + style.closing
    lines = (_PRETTY.sub(r"\1\n", member) for member in members)
    return "<value>\n<struct>\n" + "".join(lines) + "</struct>\n</value>"


_PRETTY = re.compile("(<member>|</name>|</value>|</member>)")
"""What a line may end after. Not ``<value>``: where a value has no type, the line's end would be part of it."""


def _xml_literal(sent: Sent, style: XmlStyle) -> str:
    if sent.text is None:
        return "<nil/>"
    if sent.form is Form.BOOLEAN:
        return f"<boolean>{int(sent.text == 'true')}</boolean>"
    if sent.form is Form.NUMBER:
        # A number that prints back in no type of XML-RPC (1e3) stays a string.
        kind = number(sent.text)
        return f"<{kind}>{sent.text}</{kind}>" if kind else style.string(sent.text)
    return style.literal(sent.name, sent.text)


__all__ = ["JSON_NUMBER", "Form", "Sent", "objects", "sent_records"]
