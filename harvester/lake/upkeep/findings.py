"""Findings: what is wrong with a lake, where, and what to do about it."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from harvester.model import KEY_END


class Kind(StrEnum):
    """What is wrong."""

    MISSING = "missing"
    """A file that the ledger counts is not there."""
    DAMAGED = "damaged"
    """A file's bytes are not those that were written, or it can't be read."""
    SWAPPED = "swapped"
    """A file is another one of harvester's than the ledger says is there."""
    FOREIGN = "foreign"
    """A file is none of this lake's: of another account, or of something else than harvester."""
    DOUBLED = "doubled"
    """Rows are there twice, for whoever reads the folder: in a file that the ledger knows, and in one it does not."""
    STRAY = "stray"
    """Something is there that the ledger does not know."""
    ROWS = "rows"
    """Rows break a rule: their order, their send, the keys that their file covers."""
    RANGES = "ranges"
    """The files of a slice do not cover its keys from the first on, each key once."""
    COUNTS = "counts"
    """The ledger's counts do not fit each other, or the files."""
    PROOF = "proof"
    """A proof does not fit what the slice holds."""
    CURSOR = "cursor"
    """The place to go on from does not fit the rows that are there."""
    TABLE = "table"
    """A table does not hold the data files that the ledger says are there."""


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that is wrong.

    Attributes:
        kind: which kind of thing.
        dataset: whose file or slice it is; None if it is no dataset's.
        id_send: likewise.
        file: the file, from the lake's folder on; None if it is about a slice as a whole.
        what: what is wrong, in a sentence.
        remedy: what to do, in a sentence.
    """

    kind: Kind
    dataset: str | None
    id_send: int | None
    file: str | None
    what: str
    remedy: str


def keys_covered(start: int, stop: int) -> str:
    """How a covered range [start, stop) is told of."""
    if stop == KEY_END:
        return f"keys from {start} on" if start else "all keys"
    return f"keys from {start} to {stop - 1}" if start else f"keys up to {stop - 1}"


__all__ = ["Finding", "Kind", "keys_covered"]
