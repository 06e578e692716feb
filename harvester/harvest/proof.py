"""Continuity and completeness: what one answer proves. Plain functions over keys; nothing here asks or waits.

Invariant ("no silent end"): rows are taken only from an answer that holds a record that was known before, except the
first answer of all; and a slice is complete only by one of the proofs of ``model.Proof``. A page shorter than asked is
no proof.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import TYPE_CHECKING, cast

import pyarrow as pa
import pyarrow.compute as pc
from pyarrow import csv

from harvester.datasets import EXTRA
from harvester.errors import CursorAbsent, OutOfOrder, Unproven
from harvester.harvest.trust import ASKINGS
from harvester.model import KEY_END, MOST_ANCHORS, KeyRange, Proof

if TYPE_CHECKING:
    from harvester.model import Page

_MOST_FRUITLESS = 60
_FEW_KEYS = 24
"""So few are faster looked at one by one."""
_ANCHOR_SPREAD = 3
"""Anchors lie 1, 3, 9, 27 … records before the cursor: near ones cost least to go over again, far ones outlive more."""


@dataclass(frozen=True, slots=True)
class Step:
    """What a page of a walk changes.

    Attributes:
        key_range: where the walk is after the page.
        first_new: the index of the page's first new row; all from there on are new.
        erased: keys newly found to be erased at the source.
        short: whether the page was shorter than asked.
        at_end: whether enough answers in a row ended at the cursor's record (the ``tail`` proof).
    """

    key_range: KeyRange
    first_new: int
    erased: tuple[int, ...]
    short: bool
    at_end: bool


def checked_keys(page: Page) -> pa.Int64Array:
    """The keys of a page's records.

    Raises:
        OutOfOrder: a key is missing or not a positive 64-bit number, keys of a paged dataset do not ascend strictly, or
            a record belongs to another send than was asked for.
    """
    dataset, batch = page.query.dataset, page.batch
    keys = batch.column(dataset.key)
    assert isinstance(keys, pa.Int64Array)
    if keys.null_count:
        raise OutOfOrder(f"{page.query}: {keys.null_count} of {len(keys)} records lack a usable {dataset.key}")
    if len(keys) == 0:
        return keys
    least, most, ascending = _order(keys)
    if least < 1 or most >= KEY_END:
        raise OutOfOrder(f"{page.query}: the {dataset.key} of a record is not a positive number that fits")
    if dataset.paged and not ascending:
        raise OutOfOrder(f"{page.query}: the records do not come in ascending order of {dataset.key}")
    if page.query.id_send is not None and not _all_of_send(page, page.query.id_send):
        raise OutOfOrder(f"{page.query}: the answer holds records of another send")
    return keys


def _order(keys: pa.Int64Array) -> tuple[int, int, bool]:
    """The least and the most of some keys, and whether they ascend strictly."""
    if len(keys) <= _FEW_KEYS:
        few = cast("list[int]", keys.to_pylist())
        return min(few), max(few), all(one < next_one for one, next_one in pairwise(few))
    numbers = keys.to_numpy()  # no copy
    return int(numbers.min()), int(numbers.max()), bool((numbers[:-1] < numbers[1:]).all())


def _all_of_send(page: Page, id_send: int) -> bool:
    """Whether no record says that it is another send's.

    A value that is no id is in ``_extra``, and says so too. So is any value where the field is not documented.
    """
    named, extra = page.batch.column("id_send"), page.batch.column(EXTRA)
    if not (named.null_count or page.query.dataset.implied):
        return bool((named.to_numpy() == id_send).all())
    if pc.any(pc.not_equal(named, pa.scalar(id_send))).as_py():
        return False
    said = '"id_send":'
    if not page.query.dataset.implied:
        extra = extra.filter(pc.is_null(named))
        return not pc.any(pc.match_substring_regex(extra, pattern=said, ignore_case=True)).as_py()
    extra = extra.filter(pc.match_substring_regex(extra, pattern=said, ignore_case=True))
    same = pc.match_substring_regex(extra, pattern=f'{said}(null|"{id_send}")', ignore_case=True)
    return pc.all(same).as_py() is not False


def of_send(batch: pa.RecordBatch, id_send: int) -> pa.RecordBatch:
    """The batch with ``id_send`` filled in where a record does not say it: it is what was asked for."""
    named = batch.column("id_send")
    if not named.null_count:
        return batch
    place = batch.schema.get_field_index("id_send")
    filled = cast("pa.Int64Array", pc.fill_null(named, pa.scalar(id_send, pa.int64())))
    return batch.set_column(place, batch.schema.field(place), filled)


def step(
    key_range: KeyRange, asked_from: int | None, limit: int, keys: pa.Int64Array, ends_needed: int = ASKINGS
) -> Step:
    """Checks a page of a walk against the record that it was asked from.

    Args:
        key_range: where the walk is.
        asked_from: the known record that the answer has to hold: the cursor, or an anchor; None if none is known yet.
        limit: how many records were asked for.
        keys: the page's keys, ascending.
        ends_needed: how many answers in a row that end at the cursor's record prove the end.

    Raises:
        CursorAbsent: the answer does not hold that record.
        OutOfOrder: a full page that brings nothing new, which would go on for ever.
    """
    short = len(keys) < limit
    if asked_from is None:
        last = keys[-1].as_py()
        after = replace(key_range, cursor=last, held=last, anchors=anchors(keys, ()), short_answers=int(short))
        return Step(after, first_new=0, erased=(), short=short, at_end=False)

    check_holds(keys, asked_from)
    cursor, held = key_range.cursor, key_range.held
    assert cursor is not None
    assert held is not None
    last = keys[-1].as_py()
    if not short and last <= asked_from:
        raise OutOfOrder(f"a full page from the record {asked_from} brought nothing after it")

    suspects = set(key_range.missing)
    if asked_from != cursor:
        suspects |= {key for key in (cursor, *key_range.anchors) if key > asked_from}
    absent = {key for key in suspects if not _holds(keys, key)}
    erased = {key for key in absent if key < last}
    missing = absent - erased

    ends_here = short and last == cursor
    short_answers = key_range.short_answers + 1 if ends_here else int(short)
    at_end = short_answers >= ends_needed
    older = tuple(key for key in (cursor, *key_range.anchors) if key < last and key not in absent)
    after = replace(
        key_range,
        cursor=last,
        held=max(held, last),
        anchors=anchors(keys, older),
        short_answers=short_answers,
        missing=() if at_end else tuple(sorted(missing)),
    )
    found = tuple(sorted(erased | missing if at_end else erased))
    return Step(after, first_new=_count_up_to(keys, held), erased=found, short=short, at_end=at_end)


def check_holds(keys: pa.Int64Array, key: int | None) -> None:
    """Whether an answer holds a record that it has to. Raises CursorAbsent if it does not."""
    if key is not None and not _holds(keys, key):
        raise CursorAbsent(f"a query from the record {key} did not bring that record back")


def anchors(keys: pa.Int64Array, older: tuple[int, ...]) -> tuple[int, ...]:
    """Some known keys before the page's last, newest first: near ones of the page, then ``older`` ones before it."""
    found: list[int] = []
    distance = 1
    while distance < len(keys) and len(found) < MOST_ANCHORS:
        found.append(keys[len(keys) - 1 - distance].as_py())
        distance *= _ANCHOR_SPREAD
    first = keys[0].as_py()
    before = [key for key in older if key < first]
    return tuple((found + before)[:MOST_ANCHORS])


def _holds(keys: pa.Int64Array, key: int) -> bool:
    return pc.index(keys, pa.scalar(key, pa.int64())).as_py() >= 0


def _count_up_to(keys: pa.Int64Array, key: int) -> int:
    return pc.less_equal(keys, pa.scalar(key, pa.int64())).true_count


def check_fruitful(answers: int) -> None:
    """Whether a walk that took so many answers in a row without anything new can still come to a proof.

    Raises Unproven if the source just keeps ending in different places.
    """
    if answers > _MOST_FRUITLESS:
        raise Unproven(f"{answers} answers in a row brought nothing new, and yet do not agree on where the send ends")


def walk_proof(taken: Step, *, rows: int, expected: int | None) -> Proof | None:
    """Why a walk is complete after a page; None if it isn't.

    Args:
        taken: the page's step.
        rows: the rows of the slice, the page's new ones included.
        expected: ``SEND_COUNT``, where known.
    """
    if taken.short and expected is not None and rows == expected > 0:
        return Proof.COUNT
    return Proof.TAIL if taken.at_end else None


def digest(batch: pa.RecordBatch) -> str:
    """The SHA-256 of a batch's contents, equal for equal rows in equal order, in hexadecimal."""
    sink = pa.BufferOutputStream()
    csv.write_csv(batch, sink)  # tells null from empty, and does not depend on what lies in the slots of nulls
    return hashlib.sha256(sink.getvalue()).hexdigest()


def unpaged_proof(
    keys: pa.Int64Array, *, failed: pa.Int64Array | None, asking: str, earlier: str | None, believed: bool
) -> Proof | None:
    """Why an unpaged answer that has rows is complete; None if one asking is not enough.

    Args:
        keys: the answer's keys.
        failed: the keys of the send's failed messages, if the lake holds all of its messages.
        asking: the answer's digest.
        earlier: the digest of an earlier asking, apart in time, if there was one.
        believed: whether the source was not caught ending answers early. A list that lacks one of a message's two
            bounces still covers the message, so a source that was caught has to say the same twice.

    Raises:
        Unproven: the two askings differ.
    """
    covered = failed is not None and len(failed) > 0 and not lacks(keys, failed)
    if covered and believed:
        return Proof.COVERS
    if earlier is None:
        return None
    if asking != earlier:
        raise Unproven("two askings of the same list differ; it has to hold still")
    return Proof.COVERS if covered else Proof.AGREED


def lacks(keys: pa.Int64Array, failed: pa.Int64Array | None) -> bool:
    """Whether a list lacks a message that is known to have failed."""
    return failed is not None and bool(pc.any(pc.invert(pc.is_in(failed, value_set=keys))).as_py())


def check_not_shorter(rows: int, *, longest: int) -> None:
    """Whether a list is as long as the longest that another asking of it brought. Raises Unproven if it is not."""
    if rows < longest:
        raise Unproven(f"the answer holds {rows} records, though another asking brought {longest}")


def check_may_be_empty(*, rows: int, expected: int | None, failed: pa.Int64Array | None) -> None:
    """Whether an answer without records can be the truth.

    Args:
        rows: rows that the lake holds of the slice.
        expected: ``SEND_COUNT``, where known.
        failed: the keys of the send's failed messages, where that matters and is known.

    Raises:
        Unproven: it can't be.
    """
    if rows:
        raise Unproven(f"the answer is empty, though {rows} rows were harvested before")
    if expected:
        raise Unproven(f"the answer is empty, though the send is said to have {expected:,} messages")
    if failed is not None and len(failed):
        raise Unproven(f"the answer is empty, though {len(failed)} messages of the send failed")


__all__ = [
    "Step",
    "anchors",
    "check_fruitful",
    "check_holds",
    "check_may_be_empty",
    "check_not_shorter",
    "checked_keys",
    "digest",
    "lacks",
    "of_send",
    "step",
    "unpaged_proof",
    "walk_proof",
]
