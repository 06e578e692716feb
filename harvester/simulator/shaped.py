"""Records as an odd shape sends them: value by value, in plain Python. Slow, and only for tests of readers.

What chance decides here depends on the record and the field alone, so that every page, and the truth, agree on it.
"""

from __future__ import annotations

import random
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from harvester.simulator.hashing import mix, salt
from harvester.simulator.parts import quoted
from harvester.simulator.spec import Case, Numbers

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from harvester.simulator.account import Account
    from harvester.simulator.parts import Block
    from harvester.simulator.spec import Shape

JSON_NUMBER = re.compile(r"-?(0|[1-9]\d*)(\.\d+)?([eE][+-]?\d+)?", re.ASCII)
_EMPTY = ("null", "null", "true", "false", '""', '""', '""', '""')


@dataclass(frozen=True, slots=True)
class Sent:
    """One field of one record as it is sent.

    Attributes:
        name: as it is spelled in this shape.
        literal: the value's JSON.
        text: the value as text: a string's contents, a number's or a boolean's literal, None for null.
    """

    name: str
    literal: str
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
            fields += _unknown(chance)
        yield tuple(
            _sent(shape, name, text, mix(chance + number))
            for number, (name, text) in enumerate(fields)
            if name not in shape.missing
        )


def _unknown(chance: int) -> Iterator[tuple[str, str]]:
    yield "X_batch", str(chance % 1000)
    if chance % 5 == 0:
        yield "X_note", "seen },{ twice"


def _sent(shape: Shape, name: str, text: str, chance: int) -> Sent:
    if shape.case is not Case.DOCUMENTED:
        name = name.upper() if shape.case is Case.UPPER else name.lower()
    mixed = shape.numbers is Numbers.MIXED
    if (shape.numbers is Numbers.BARE or (mixed and chance & 8)) and JSON_NUMBER.fullmatch(text):
        return Sent(name, text, text)
    if mixed and not text and name.lower().startswith("custom_"):
        literal = _EMPTY[chance & 7]
        return Sent(name, literal, {"null": None, '""': ""}.get(literal, literal))
    return Sent(name, quoted(text, ascii_only=shape.ascii), text)


def objects(account: Account, block: Block) -> Iterator[str]:
    """Each record as a JSON object."""
    shape = account.spec.shape
    order: random.Random | None = None
    ranks: dict[str, float] = {}
    for record in sent_records(account, block):
        fields: Sequence[Sent] = record
        # The block's first record decides the order of its fields, so that the same query has the same answer.
        order = order or random.Random("".join(sent.literal for sent in record))  # noqa: S311 - an order, not a secret
        if shape.shuffle:
            ranks |= {sent.name: order.random() for sent in record if sent.name not in ranks}
            fields = sorted(record, key=lambda sent: ranks[sent.name])
        if shape.pretty:
            yield "{\n" + ",\n".join(f'    "{sent.name}": {sent.literal}' for sent in fields) + "\n  }"
        else:
            yield "{" + ",".join(f'"{sent.name}":{sent.literal}' for sent in fields) + "}"


__all__ = ["JSON_NUMBER", "Sent", "objects", "sent_records"]
