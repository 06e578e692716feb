"""What the ledger holds of walks over many sends, as frozen data."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from harvester.lake.entries import SegmentRecord

if TYPE_CHECKING:
    from datetime import datetime

    from harvester.model import KeyRange


@dataclass(frozen=True, slots=True)
class ScopeRecord:
    """A scope, and where its walk is.

    Attributes:
        id: its number in the ledger.
        id_message: the campaign; None for the whole account.
        key_ranges: where its cursors are, in key order: one, or several that adjoin, from 0 to the end.
        ended: whether its walk has ended.
        walked: about how many records it has brought, wanted or not.
        expected: how many messages the sends of the scope have that are known; None if none of them says. There may be
            others, and numbers may be wrong: it serves for guessing.
    """

    id: int
    id_message: int | None
    key_ranges: tuple[KeyRange, ...]
    ended: bool = False
    walked: int = 0
    expected: int | None = None


@dataclass(frozen=True, slots=True)
class Member:
    """A slice that a scope feeds.

    Attributes:
        slice_id: its number in the ledger.
        rows: rows staged and sealed.
        expected: ``SEND_COUNT``, where known.
        complete: whether it is proven to be complete.
        held: the last key whose row is held; None if there is none.
        anchors: some earlier keys, newest first.
        since: when its send was sent or first seen.
    """

    slice_id: int
    rows: int = 0
    expected: int | None = None
    complete: bool = False
    held: int | None = None
    anchors: tuple[int, ...] = ()
    since: datetime | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class WaitingPage(SegmentRecord):
    """A page to the right of a seam that is not proven: a segment of the scope's, which waits until it is.

    It has the rows of members alone. ``page_end`` is the last key of the page that they were in.
    """

    page_end: int


@dataclass(frozen=True, slots=True)
class ScopeStep:
    """What a page changes for its scope.

    Attributes:
        id: the scope.
        key_ranges: where its cursors are, as in ``ScopeRecord``; none where that has not changed.
        ended: whether its walk has ended.
        records: how many records the page brought, wanted or not.
        left: slices, by number, that leave it.
        waits: the page, made durable, if it has to wait for a seam; None if it goes to its slices, or nothing is left.
        routed: the number of the page that has waited and goes to its slices now; None if none does.
    """

    id: int
    key_ranges: tuple[KeyRange, ...] = ()
    ended: bool = False
    records: int = 0
    left: tuple[int, ...] = ()
    waits: WaitingPage | None = None
    routed: int | None = None


@dataclass(frozen=True, slots=True)
class KnownSend:
    """A send of the account as far as the ledger knows it.

    Attributes:
        id_message: its campaign, where known.
        size: how many messages it has, where known.
        fresh: whether it is wanted, and nothing has been asked of it.
    """

    id_message: int | None
    size: int | None
    fresh: bool


__all__ = ["KnownSend", "Member", "ScopeRecord", "ScopeStep", "WaitingPage"]
