"""The nouns that flow between the wings. Frozen data, no behaviour beyond what follows from the data itself."""

from __future__ import annotations

import re
from base64 import b64encode
from dataclasses import dataclass
from enum import StrEnum
from functools import lru_cache
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import date, datetime

    import pyarrow as pa

    from harvester.datasets import Dataset

KEY_END = 2**63 - 1
"""The stop of a key range that has no end: no key reaches it, since keys are positive 64-bit numbers below it."""
MOST_ANCHORS = 16
"""So many keys of a range are kept beside its cursor at most."""


class Proof(StrEnum):
    """Why a slice is known to be complete."""

    COUNT = "count"
    """The rows equal ``SEND_COUNT``, and the page that reached it was shorter than asked."""
    TAIL = "tail"
    """Two answers in a row, each shorter than asked, held the cursor's record and ended there."""
    COVERS = "covers"
    """The keys cover every failed message that the lake holds of the send."""
    AGREED = "agreed"
    """Two askings of an unpaged dataset, apart in time, agreed."""
    EMPTY = "empty"
    """Two askings, apart in time, brought nothing, while a witness query between them brought rows."""


@dataclass(frozen=True, slots=True)
class Send:
    """One campaign delivery.

    Attributes:
        id_send: the API's ``ID_send``.
        id_message: its campaign, where known.
        sent_at: when it was sent, without a zone, where known.
        expected: its number of messages (``SEND_COUNT``), where known.
        proven: whether ``expected`` comes from a list of the API's that is itself proven.
    """

    id_send: int
    id_message: int | None = None
    sent_at: datetime | None = None
    expected: int | None = None
    proven: bool = False


@dataclass(frozen=True, slots=True)
class Borne:
    """What the server was found to bear, where that is less than a run may use.

    Attributes:
        rate: queries per second; None where nothing less than ``--rate`` is known.
        concurrency: queries at once; None likewise.
    """

    rate: float | None = None
    concurrency: int | None = None


@dataclass(frozen=True, slots=True, order=True)
class SliceKey:
    """Names a slice: the unit of resuming, of completeness and of failing alone."""

    dataset: str
    id_send: int

    def __str__(self) -> str:
        return f"{self.dataset} of send {self.id_send}"


@dataclass(frozen=True, slots=True)
class KeyRange:
    """A half-open part [start, stop) of a walk's keys, with a cursor of its own.

    Attributes:
        start: the first key that may belong to the range.
        stop: the first key that may not.
        cursor: the key that the next answer must hold; None before the first row.
        held: the last key whose row is taken; rows up to it are dropped when they come again. It equals the cursor
            except while the walk goes over old ground because the cursor's record was erased at the source.
        anchors: some earlier keys, newest first, kept in case the cursor's record is erased.
        limit: the number of records to ask for.
        short_answers: answers in a row that were shorter than asked, held the cursor's record and ended there.
        missing: keys whose rows are held and that the source no longer served when it should have.
        first_keys: the first keys of a range that was split off, in order, by which its left neighbour knows it when it
            comes there; empty for a slice's first range, and before the first row.
        rows: rows taken of a range that was split off; 0 for a slice's first range.
    """

    start: int = 0
    stop: int = KEY_END
    cursor: int | None = None
    held: int | None = None
    anchors: tuple[int, ...] = ()
    limit: int = 25_000
    short_answers: int = 0
    missing: tuple[int, ...] = ()
    first_keys: tuple[int, ...] = ()
    rows: int = 0

    def again_after(self, known: Sequence[int]) -> KeyRange:
        """The same keys, walked again after the first of some known ones (newest first), or from the start if none."""
        cursor = known[0] if known else None
        return KeyRange(
            start=self.start,
            stop=self.stop,
            cursor=cursor,
            held=cursor,
            anchors=tuple(known[1 : 1 + MOST_ANCHORS]),
            limit=self.limit,
        )


@dataclass(frozen=True, slots=True)
class Query:
    """One question to the API: ``dataset`` of ``id_send``, of a campaign, or of the whole account.

    Attributes:
        dataset: which report function.
        id_send: of which send; None for all of the campaign or the account.
        start: the record to start from; None to begin at the first, and for an unpaged dataset.
        limit: the number of records to ask for; None for an unpaged dataset.
        id_message: of which campaign; None if that is not to be said.
        since: the first day of a list's range; None if that is not to be said.
        until: the last day of a list's range; likewise.
    """

    dataset: Dataset
    id_send: int | None = None
    start: int | None = None
    limit: int | None = None
    id_message: int | None = None
    since: date | None = None
    until: date | None = None

    @property
    def arguments(self) -> dict[str, str | int | None]:
        """The function's parameters in their order, with the values that are said; None for the others."""
        values: dict[str | None, str | int | None] = {
            "ID_message": self.id_message,
            "ID_send": self.id_send,
            "limit": self.limit,
            "range_from": None if self.since is None else self.since.isoformat(),
            "range_to": None if self.until is None else self.until.isoformat(),
            self.dataset.cursor: self.start,
        }
        return {name: values.get(name) for name in self.dataset.parameters}

    def __str__(self) -> str:
        campaign = "the account" if self.id_message is None else f"campaign {self.id_message}"
        scope = campaign if self.id_send is None else f"send {self.id_send}"
        start = "" if self.start is None else f" from {self.start}"
        limit = "" if self.limit is None else f" limit {self.limit}"
        days = "" if self.since is None else f" from {self.since} to {self.until}"
        return f"{self.dataset.name} of {scope}{start}{limit}{days}"


@dataclass(frozen=True, slots=True)
class Page:
    """The answer to one query, decoded.

    Attributes:
        query: what was asked.
        batch: the records, in the order served, in the dataset's schema. No rows for an empty answer.
        body_bytes: the size of the answer's body, unpacked, as far as that is known beforehand.
        met: names of fields that the catalogue does not know, as sent.
        wire_bytes: the size of its body as it came, packed.
        seconds: how long it took, from the query until all of it was here, packed.
    """

    query: Query
    batch: pa.RecordBatch
    body_bytes: int
    met: frozenset[str] = frozenset()
    wire_bytes: int = 0
    seconds: float = 0.0


class Secret(str):
    """A string whose ``repr`` is stars; ``str()`` of it is the secret, so format with care."""

    __slots__ = ()

    def __repr__(self) -> str:
        return "Secret('***')"

    def hidden_in(self, text: str) -> str:
        """The text with stars wherever this secret stands in it, in either letter case or base64. Before it is cut."""
        return _pattern(str(self)).sub("***", text) if self else text


@lru_cache(maxsize=8)
def _pattern(secret: str) -> re.Pattern[str]:
    """What a secret looks like: in either letter case, or within something that is in base64."""
    forms = {secret}
    for spelling in (secret, secret.lower(), secret.upper()):
        for before in range(3):  # bytes before it shift it: what stands for bytes of its own alone is looked for
            sent = bytes(before) + spelling.encode("utf-8", "surrogateescape")
            forms.add(b64encode(sent).decode()[(4 * before + 2) // 3 : 4 * len(sent) // 3])
    return re.compile("|".join(map(re.escape, sorted(forms, key=len, reverse=True))), re.IGNORECASE)


__all__ = ["KEY_END", "Borne", "KeyRange", "Page", "Proof", "Query", "Secret", "Send", "SliceKey"]
