"""The truth about an account, for tests: what was sent, what a correct lake holds of it, and a digest of either.

Typing is done here once more, in plain Python and without the harvester's decoders, so that the two can't share a
mistake.
"""

from __future__ import annotations

import hashlib
import json
import re
from dataclasses import dataclass
from datetime import datetime
from functools import lru_cache
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.compute as pc

from harvester.datasets import ARROW_TYPES, BOUNCES, EXTRA, MESSAGES, Dataset, Kind
from harvester.simulator import logs, records
from harvester.simulator.foul import kept, shown
from harvester.simulator.foul import value as sent_value
from harvester.simulator.parts import as_text, join_texts
from harvester.simulator.shaped import sent_records

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping

    from harvester.datasets import Column
    from harvester.simulator.account import Account
    from harvester.simulator.parts import Block

_INTEGER = re.compile(r"0|-?[1-9]\d*", re.ASCII)
_INT64 = range(-(2**63), 2**63)
_DATE = "%Y-%m-%d %H:%M:%S"


class NoSuchSendError(LookupError):
    """The account has no such send."""


def truth(account: Account, dataset: Dataset, id_send: int, *, erased: bool = False) -> pa.Table:
    """What the API sends of one send, as text: a column for each field, named as in the lake; null where there is none.

    Fields that the catalogue does not know have columns after the others. What is paged is in key order, bounces in
    the order in which they are sent. Values that are not text (``AccountSpec.foul``) are as a column shows them.

    Args:
        account: the account as it stands.
        dataset: which of the catalogue's.
        id_send: which send.
        erased: rows that are gone by now belong to it, too.

    Raises:
        NoSuchSendError: there is no such send.
    """
    empty = pa.schema([pa.field(column.name, pa.string()) for column in dataset.fields])
    known = _spelled(dataset)
    tables = [
        pa.table(
            {
                known[name.lower()].name if name.lower() in known else name.lower(): _shown(account, column)
                for name, column in columns.items()
            }
        )
        for columns in _sent(account, dataset, id_send, erased=erased)
    ]
    return pa.concat_tables([empty.empty_table(), *tables], promote_options="default")


def expected(account: Account, dataset: Dataset, id_send: int, *, erased: bool = False) -> pa.Table:
    """What a correct lake holds of one send: in the dataset's schema, by key, bounces by key and then all columns.

    A typed column is null where the value is absent, null or empty, or does not print back as it was sent; in that
    last case, and for fields that the catalogue does not know, ``_extra`` holds field name → text. What is not text is
    there as well, as ``foul`` says. Arguments and errors are those of ``truth``.
    """
    return pa.Table.from_batches(expected_batches(account, dataset, id_send, erased=erased), dataset.schema)


def expected_batches(
    account: Account, dataset: Dataset, id_send: int, *, erased: bool = False
) -> Iterator[pa.RecordBatch]:
    """``expected``, a few thousand rows at a time; messages take no more memory than that, however many there are."""
    foul = account.spec.foul
    batches = (
        _typed(dataset, id_send, columns, foul=foul) for columns in _sent(account, dataset, id_send, erased=erased)
    )
    if dataset.paged:
        return batches
    table = pa.Table.from_batches(batches, dataset.schema)
    others = [name for name in dataset.schema.names if name != dataset.key]
    return iter(table.sort_by([(name, "ascending") for name in (dataset.key, *others)]).to_batches())


@dataclass(frozen=True, slots=True)
class Summary:
    """What a slice of a correct lake comes to: its number of rows, and their ``digest``."""

    rows: int
    digest: str


def summary(account: Account, dataset: Dataset, id_send: int, *, erased: bool = False) -> Summary:
    """``expected``, summed up without ever holding more than a few thousand messages."""
    rows = 0

    def counted() -> Iterator[pa.RecordBatch]:
        nonlocal rows
        for batch in expected_batches(account, dataset, id_send, erased=erased):
            rows += batch.num_rows
            yield batch

    value = digest(dataset, counted())
    return Summary(rows, value)


def digest(dataset: Dataset, batches: Iterable[pa.RecordBatch | pa.Table]) -> str:
    """SHA-256 over the rows of a slice, whoever holds it: the same for the same values in the same order.

    Each value is written as its length and its text (``-`` for null), columns in the dataset's order; ``_extra`` with
    its fields by name. So neither the size of batches nor the way in which ``_extra`` is written makes a difference.
    """
    result = hashlib.sha256()
    for batch in batches:
        table = pa.Table.from_batches([batch]) if isinstance(batch, pa.RecordBatch) else batch
        for part in table.select(dataset.schema.names).cast(dataset.schema).to_batches(records.BLOCK_ROWS):
            result.update(_canonical(part))
    return result.hexdigest()


def _canonical(batch: pa.RecordBatch) -> bytes:
    values: list[str | pa.StringArray] = []
    for name, column in zip(batch.schema.names, batch.columns, strict=True):
        text = as_text(column) if name != EXTRA else _sorted_objects(as_text(column))
        values.append(as_text(join_texts([as_text(pc.binary_length(text)), text], ":").fill_null("-")))
    rows = join_texts(values, ",")
    return "".join(f"{row}\n" for row in rows.to_pylist()).encode()


def _sorted_objects(column: pa.StringArray) -> pa.StringArray:
    if column.null_count == len(column):
        return column
    return pa.array([None if text is None else _object(json.loads(text)) for text in column.to_pylist()], pa.string())


def _object(fields: Mapping[str, object]) -> str:
    return json.dumps(fields, ensure_ascii=False, separators=(",", ":"), sort_keys=True)


def _sent(account: Account, dataset: Dataset, id_send: int, *, erased: bool) -> Iterator[dict[str, pa.StringArray]]:
    """Field name as sent → texts, block by block."""
    ordinal = account.ordinal(id_send)
    if ordinal is None:
        raise NoSuchSendError(f"the account has no send {id_send}")
    if dataset is BOUNCES:
        blocks = records.bounces(account, ordinal)
    elif dataset is not MESSAGES:
        blocks = logs.blocks(account, dataset, logs.entries(account, dataset, range(ordinal, ordinal + 1)))
    else:
        blocks = (records.messages(account, runs) for runs in records.blocks(account.all_runs(ordinal, erased=erased)))
    for block in blocks:
        yield block.columns() if account.spec.shape.plain else _odd(account, block)


def _spelled(dataset: Dataset) -> Mapping[str, Column]:
    return {spelling: column for column in dataset.fields for spelling in column.spellings}


def _odd(account: Account, block: Block) -> dict[str, pa.StringArray]:
    rows = [{sent.name: sent.text for sent in record} for record in sent_records(account, block)]
    names = dict.fromkeys(name for row in rows for name in row)
    return {name: pa.array([row.get(name) for row in rows], pa.string()) for name in names}


def _shown(account: Account, texts: pa.StringArray) -> pa.StringArray:
    if not account.spec.foul:
        return texts
    return pa.array([None if text is None else shown(sent_value(text)) for text in texts.to_pylist()], pa.string())


def _typed(dataset: Dataset, id_send: int, columns: Mapping[str, pa.StringArray], *, foul: bool) -> pa.RecordBatch:
    rows = len(next(iter(columns.values())))
    extras: list[dict[str, object]] = [{} for _ in range(rows)]
    known = _spelled(dataset)
    made: dict[str, pa.Array[Any]] = {column.name: pa.repeat(pa.scalar(id_send), rows) for column in dataset.implied}
    for name, texts in columns.items():
        column = known.get(name.lower())
        if column is not None and column.kind is Kind.TEXT:
            made[column.name] = _cleansed(name, texts, extras) if foul else texts
            continue
        values: list[int | datetime | None] = []
        typed = None if column is None else _VALUES[column.kind]
        for extra, text in zip(extras, texts.to_pylist(), strict=True):
            value = typed(text) if typed is not None and text else None
            values.append(value)
            if value is None and text is not None and (text or column is None):
                extra[name] = kept(sent_value(text))
        if column is not None:
            made[column.name] = pa.array(values, ARROW_TYPES[column.kind])
    made[EXTRA] = pa.array([_object(extra) if extra else None for extra in extras], pa.string())
    arrays = [made[field.name] if field.name in made else pa.nulls(rows, field.type) for field in dataset.schema]
    return pa.RecordBatch.from_arrays(arrays, schema=dataset.schema)


def _cleansed(name: str, texts: pa.StringArray, extras: list[dict[str, object]]) -> pa.StringArray:
    """A column of text as the lake shows it; the bytes of what is not text go to the extras."""
    values = [None if text is None else sent_value(text) for text in texts.to_pylist()]
    for extra, value in zip(extras, values, strict=True):
        if isinstance(value, bytes):
            extra[name] = kept(value)
    return pa.array([None if value is None else shown(value) for value in values], pa.string())


def _integer(text: str) -> int | None:
    if _INTEGER.fullmatch(text) and (value := int(text)) in _INT64:
        return value
    return None


@lru_cache(maxsize=65_536)
def _date(text: str) -> datetime | None:
    try:
        value = datetime.strptime(text, _DATE)  # noqa: DTZ007 - the API's dates have no zone
    except ValueError:
        return None
    return value if value.strftime(_DATE) == text else None


_VALUES: Mapping[Kind, Callable[[str], int | datetime | None]] = MappingProxyType({Kind.ID: _integer, Kind.DATE: _date})

__all__ = ["NoSuchSendError", "Summary", "digest", "expected", "expected_batches", "summary", "truth"]
