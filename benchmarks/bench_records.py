"""What typing costs: text columns into ids, dates and ``_extra``, so that nothing is lost.

And what it costs to take people's data out before that: addresses are hashed, domains of others kept, names dropped.

The reference is ``pyarrow.compute.cast`` of the plain page's columns, which is quick and lax: it takes ``0x10`` for 16,
and says nothing of what it changed. (It can't read the awkward page at all.)
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import pyarrow as pa
import pyarrow.compute as pc

from benchmarks.account import served, unpacked
from benchmarks.figures import Report, WrongResult, compared
from benchmarks.measuring import in_turns
from harvester.api.json import JsonCodec
from harvester.api.records import RawTable, as_dates, as_integers, to_batch
from harvester.api.redacting import Redactor
from harvester.datasets import MESSAGES, Kind
from harvester.model import Secret
from harvester.redaction import parse_redaction

if TYPE_CHECKING:
    from collections.abc import Callable

    from benchmarks.measuring import Options

REFERENCE = "pyarrow's cast"
REDACTED = "email=hash,reply_to=domain,first_name=drop,last_name=drop,full_name=drop,phone=drop,mobile=drop"
_KEY = Secret("0123456789abcdef" * 4)
_TYPES = {Kind.DATE: pa.timestamp("s"), Kind.ID: pa.int64()}


def lax(table: RawTable) -> list[object]:
    """The same columns by pyarrow's own cast; blanks and zero dates are null beforehand, since it refuses them."""
    typed: list[object] = []
    for column, sent in zip(MESSAGES.fields, table.columns, strict=True):
        if (kind := _TYPES.get(column.kind)) is not None:
            blank = pc.or_(pc.equal(sent.values, pa.scalar("")), pc.starts_with(sent.values, "0000"))
            typed.append(pc.cast(pc.if_else(blank, pa.scalar(None, pa.string()), sent.values), kind))
    return typed


def ways(table: RawTable, shape: str) -> dict[str, Callable[[], object]]:
    """What is measured with one page."""
    sent = {column.name: sent.values for column, sent in zip(MESSAGES.fields, table.columns, strict=True)}
    key, date = sent[MESSAGES.key], sent[MESSAGES.dates[0]]
    if to_batch(table, MESSAGES, id_send=None).num_rows != table.rows:
        raise WrongResult("typing lost rows")
    redactor = Redactor(parse_redaction([REDACTED], _KEY), MESSAGES)
    return {
        f"{shape}: all columns": lambda: to_batch(table, MESSAGES, id_send=None),
        f"{shape}: all columns, redacted": lambda: to_batch(
            redactor.redacted(table), MESSAGES, id_send=None, keeps=redactor.keeps
        ),
        f"{shape}: a column of ids": lambda: as_integers(key),
        f"{shape}: a column of dates": lambda: as_dates(date),
    }


def page(rows: int, shape: str) -> RawTable:
    with served(f"1x{rows}", shape=shape) as account:
        table = JsonCodec(MESSAGES).decode(unpacked(account.page(account.sends.ids[0])))
    if not isinstance(table, RawTable) or table.rows != rows:
        raise WrongResult(f"the page was not decoded but {table}")
    return table


def measure(options: Options) -> Report:
    rows, rounds = (5_000, 5) if options.quick else (25_000, 25)
    plain = page(rows, "plain")
    measured = {REFERENCE: lambda: lax(plain)} | ways(plain, "plain") | ways(page(rows, "awkward"), "awkward")
    figures = compared(in_turns(measured, rounds), REFERENCE, unit="ms", scale=1e3, goals={})
    return Report(f"a page of {rows:,} messages, decoded already, on one thread", figures)
