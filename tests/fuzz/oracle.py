"""What has to hold of every case: the harvester reads what the reference reads, or raises an error of its own."""

from __future__ import annotations

import base64
import random
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass

import pyarrow as pa

from harvester.api import meaning, xmlrpc
from harvester.api.alike import Alike
from harvester.api.json import JsonCodec
from harvester.api.records import Fault, RawTable, Words, to_batch
from harvester.api.shown import LOOKED_AT, MOST_SHOWN, shown
from harvester.api.slabs import Slabs
from harvester.api.unpack import Unpacking, unpack, unpacked
from harvester.api.xmlrpc import XmlCodec
from harvester.datasets import Dataset
from harvester.errors import AttemptFailed, HarvesterError
from tests.fuzz import reference, reference_json, reference_packed, reference_xml
from tests.fuzz.cases import Case
from tests.fuzz.conditions import Finding, memory_held_to, sizes, watched
from tests.fuzz.reference import Answer, Refused, Rows, Said, Unjudged, Value
from tests.fuzz.seeds import DATASETS

ID_SEND = 7
_MOST_SHOWN = MOST_SHOWN + 1


@dataclass(frozen=True)
class Outcome:
    """How a case went.

    Attributes:
        kind: ``records`` or ``words``, or the error's name.
        fast: whether the fast decoder took some of it.
        judged: whether the reference had a say.
    """

    kind: str
    fast: bool = False
    judged: bool = True


Read = pa.RecordBatch | Words | HarvesterError


def check(case: Case) -> Outcome:
    """How a case goes. Raises Finding, and whatever else the harvester should not raise."""
    chance = random.Random(case.chance)
    dataset = DATASETS[case.dataset]
    cap = chance.choice([2**20, 2**20, 2000]) if case.encoding else 2**20
    chunks = _pieces(case.body, chance)
    size = max(len(case.body), cap if case.encoding else 0)
    traced = chance.random() < 1 / 64
    with nullcontext() if traced else sizes(chance), memory_held_to(size, traced=traced):
        if case.wire == "json":
            found, fast = _json(case, chunks, cap, dataset, chance)
        else:
            found, fast = _xml(case, chunks, cap, dataset)
    if chance.random() < 0.25:
        _look_at(found, case.body)
    try:
        body = reference_packed.unpacked(case.body, case.encoding, cap)
        meant = (reference_json if case.wire == "json" else reference_xml).read(body, dataset)
        return _compared(found, meant, dataset, fast=fast)
    except Refused as refused:
        if isinstance(found, AttemptFailed) or refused.unusual:
            return Outcome(_kind(found), judged=isinstance(found, AttemptFailed))
        raise Finding(f"the reference refuses what is read as {_told(found)}") from None
    except Unjudged:
        return Outcome(_kind(found), fast, judged=False)


def _json(case: Case, chunks: Sequence[bytes], cap: int, dataset: Dataset, chance: random.Random) -> tuple[Read, bool]:
    codec = JsonCodec(dataset)
    with watched(Slabs, "decode") as taken, watched(Alike, "decode") as alike:
        usual = _read(lambda: codec.decode_pieces(Unpacking(chunks, case.encoding, cap)), dataset)
    whole = _read(lambda: JsonCodec(dataset).decode_exact(unpack(chunks, case.encoding, cap)), dataset)
    _agree("the exact decoder", usual, whole)
    if chance.random() < 0.25:
        again = _read(lambda: codec.decode_pieces(unpacked(chunks, case.encoding, cap)), dataset)
        _agree("a second reading", usual, again)
    return usual[0], any(taken) or any(alike)


def _xml(case: Case, chunks: Sequence[bytes], cap: int, dataset: Dataset) -> tuple[Read, bool]:
    with watched(xmlrpc, "decode_block") as taken:
        usual = _read(lambda: XmlCodec(dataset).decode_pieces(unpacked(chunks, case.encoding, cap)), dataset)
    whole = _read(lambda: XmlCodec(dataset).decode_exact([unpack(chunks, case.encoding, cap)]), dataset)
    _agree("the exact decoder", usual, whole)
    return usual[0], any(taken)


def _pieces(body: bytes, chance: random.Random) -> list[bytes]:
    """The body split anywhere: not at all, at some places, or, seldom, nearly everywhere."""
    if chance.random() < 0.5:
        return [body]
    most = chance.choice([3, 100]) if chance.random() < 0.05 else len(body)
    found, place = [], 0
    while place < len(body):
        size = chance.randint(1, max(1, most))
        found.append(body[place : place + size])
        place += size
    return found


def _read(decode: Callable[[], RawTable | Words], dataset: Dataset) -> tuple[Read, frozenset[str]]:
    """What is read, and the names met that the catalogue doesn't know."""
    try:
        found = decode()
    except AttemptFailed as error:
        return error, frozenset()
    if isinstance(found, Words):
        return found, frozenset()
    for column in found.columns:
        column.values.validate(full=True)
    batch = to_batch(found, dataset, id_send=ID_SEND)
    batch.validate(full=True)
    if not batch.schema.equals(dataset.schema):
        raise Finding(f"the batch has another schema:\n{batch.schema}")
    return batch, found.met


def _agree(who: str, one: tuple[Read, frozenset[str]], other: tuple[Read, frozenset[str]]) -> None:
    first, second = one[0], other[0]
    if isinstance(first, HarvesterError) and isinstance(second, HarvesterError):
        return
    if isinstance(first, pa.RecordBatch) and isinstance(second, pa.RecordBatch):
        same = first.equals(second) and one[1] == other[1]
    else:
        same = type(first) is type(second) and first == second
    if not same:
        raise Finding(f"{who} reads {_told(second)}, and at first it was {_told(first)}")


def _look_at(found: Read, body: bytes) -> None:
    """What is told of an answer that can't be used is short, on one line, and names no address."""
    texts: list[str] = []
    if isinstance(found, Words):
        error = meaning.of_fault(found.text) if isinstance(found, Fault) else meaning.of_words(found.text)
        texts.append(str(error))
    if isinstance(found, HarvesterError):
        texts += [str(found), shown(body[: LOOKED_AT + 1])]
        if len(texts[-1]) > _MOST_SHOWN:
            raise Finding(f"too much is shown: {texts[-1]!r}")
    for text in texts:
        if "@" in text or not text.isprintable():
            raise Finding(f"this is shown: {text!r}")


def _compared(found: Read, meant: Answer, dataset: Dataset, *, fast: bool) -> Outcome:
    if isinstance(found, HarvesterError):
        if meant.unusual:
            return Outcome(type(found).__name__, judged=False)
        raise Finding(f"refused ({found}), and the reference reads {_told_of(meant)}")
    if isinstance(meant, Said):
        if isinstance(found, Words) and meant.text in (None, found.text):
            return Outcome("words")
        if meant.unusual:
            return Outcome(_kind(found), judged=False)
        raise Finding(f"the reference reads {_told_of(meant)}, the harvester {_told(found)}")
    if not isinstance(found, pa.RecordBatch):
        raise Finding(f"the reference reads {_told_of(meant)}, the harvester {_told(found)}")
    _same(found, meant, dataset)
    return Outcome("records", fast)


def _same(batch: pa.RecordBatch, meant: Rows, dataset: Dataset) -> None:
    if batch.num_rows != len(meant.records):
        raise Finding(f"{batch.num_rows} records, and the reference reads {len(meant.records)}")
    for name, values in reference.expected(meant.records, dataset, ID_SEND).items():
        column = batch.column(name).to_pylist()
        if name == "_extra":
            for row, (text, value) in enumerate(zip(column, values, strict=True)):
                _same_extra(row, text, value)
        elif column != values:
            raise Finding(f"{name} is {column!r}, and the reference reads {values!r}")


def _same_extra(row: int, text: str | None, meant: dict[bytes, Value] | None) -> None:
    try:
        found = None if text is None else reference_json.parse(text.encode())
    except Refused:
        raise Finding(f"_extra of record {row} is no JSON: {text!r}") from None
    if found is None or meant is None:
        same = found is meant
    else:
        assert isinstance(found, dict)
        same = list(found) == sorted(meant) and all(_same_value(found[name], meant[name]) for name in meant)
    if not same:
        raise Finding(f"_extra of record {row} is {text!r}, and the reference reads {meant!r}")


def _same_value(found: Value, meant: Value) -> bool:
    if type(found) is type(meant) and found == meant:
        return True
    if not isinstance(meant, (list, dict)) or reference.is_clean(meant) or not isinstance(found, dict):
        return False
    packed = found.get(b"$base64")
    return isinstance(packed, bytes) and reference_json.parse(base64.b64decode(packed, validate=True)) == meant


def _kind(found: Read) -> str:
    if isinstance(found, pa.RecordBatch):
        return "records"
    return "words" if isinstance(found, Words) else type(found).__name__


def _told(found: Read) -> str:
    if isinstance(found, pa.RecordBatch):
        return f"{found.num_rows} records: {found.to_pylist()!r}"[:2000]
    return repr(found)[:500]


def _told_of(meant: Answer) -> str:
    if isinstance(meant, Rows):
        return f"{len(meant.records)} records: {list(meant.records)!r}"[:2000]
    return repr(meant)[:500]


__all__ = ["Finding", "Outcome", "check"]
