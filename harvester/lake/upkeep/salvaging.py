"""What rebuilding a ledger and mending one share: reading the data files that are there, and telling what was done."""

from __future__ import annotations

from collections import Counter
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from itertools import islice
from typing import TYPE_CHECKING

from harvester.datasets import CATALOGUE
from harvester.lake import layout
from harvester.lake.upkeep.contents import Unreadable, read_cover
from harvester.lake.upkeep.parallel import looked_at
from harvester.lake.upkeep.rebuilding import Aside, Part, read_part

if TYPE_CHECKING:
    from collections.abc import Callable, Container, Iterable, Iterator
    from datetime import datetime

    from harvester.lake.storage.store import Store
    from harvester.lake.upkeep.findings import Finding
    from harvester.lake.upkeep.rebuilding import Rebuilt
    from harvester.model import SliceKey

    Tick = Callable[[], object]

_SAMPLE = 100
NO_SENDS = "it is in no send's folder"
"""Why a file is set aside that is none of a slice's folder."""


@dataclass(slots=True)
class Recovered:
    """What a recovery did, so far.

    Attributes:
        rebuilt: whether the ledger was rebuilt; else a sound one was mended.
        why: what was wrong with a ledger that could not be used; None if there was none, or it was sound.
        account: whose lake it is, by client id; None if no file says.
        redaction: the label of what is done to people's data, empty where nothing is; None if there is no file.
        slices: slices that were rebuilt.
        complete: those of them that are proven to be complete.
        files: data files that they keep.
        bytes: the bytes of the files read.
        rows: rows of the files that they keep.
        aside: files that were set aside because of what they are, and why.
        segments: pages that were in no data file yet, and were set aside.
        moved: whether the lake's own Iceberg tables were those of where it was before, and were made anew.
        folder: where files were set aside, as the lake names it; None if none were.
        shown: the same, as a person finds it.
        kept: where the old ledger is kept, if that is not among these files; None if it is, or there was none.
        left: what is wrong, and was left as it is.
    """

    rebuilt: bool = True
    why: str | None = None
    account: str | None = None
    redaction: str | None = None
    slices: int = 0
    complete: int = 0
    files: int = 0
    bytes: int = 0
    rows: int = 0
    aside: list[Aside] = field(default_factory=list)
    segments: int = 0
    moved: bool = False
    folder: str | None = None
    shown: str | None = None
    kept: str | None = None
    left: list[Finding] = field(default_factory=list)

    def note(self, found: Rebuilt) -> None:
        """Counts a slice."""
        self.slices += 1
        self.complete += found.proof is not None
        self.files += len(found.parts)
        self.rows += sum(part.rows for part in found.parts)
        self.aside += found.aside


def data_files(store: Store, key: SliceKey) -> list[str]:
    """Everything in a slice's folder that a reader takes for data."""
    folder = layout.slice_folder(key)
    return [
        f"{folder}/{name}" for name, is_folder in store.entries(folder) if name.endswith(".parquet") and not is_folder
    ]


def folders(store: Store) -> Iterator[tuple[SliceKey | None, str]]:
    """What is right in the datasets' folders: a slice's folder with its slice, or something else, with None."""
    for dataset in CATALOGUE:
        for name, is_folder in store.entries(dataset):
            yield layout.slice_of_folder(dataset, name) if is_folder else None, f"{dataset}/{name}"


def likely_origin(store: Store) -> tuple[str | None, str | None]:
    """Whose lake it is, and how it is redacted, by what most of the first files say; None where none of them says."""
    accounts, labels = Counter[str](), Counter[str]()
    for key, _ in islice(folders(store), _SAMPLE):
        for name in [] if key is None else data_files(store, key)[:1]:
            with suppress(Unreadable), store.opened(name) as source:
                footer = read_cover(source, CATALOGUE[name.partition("/")[0]]).footer
                labels[footer.redaction or ""] += 1
                if footer.account:
                    accounts[footer.account] += 1
    return _most_common(accounts), _most_common(labels)


def _most_common(told: Counter[str]) -> str | None:
    return told.most_common(1)[0][0] if told else None


class Reader:
    """Reads slices' files on threads."""

    def __init__(
        self, store: Store, done: Recovered, tick: Tick, now: datetime, kept: Container[str] = frozenset()
    ) -> None:
        """``kept`` are files that are no data files any more, and stay where they are."""
        self._kept = kept
        self._store = store
        self._done = done
        self._tick = tick
        self._now = now

    def read(self, keys: Iterable[SliceKey]) -> Iterator[tuple[SliceKey, list[Part | Aside]]]:
        """Each slice with what its files are, in order."""
        for key, found in looked_at(((key, self._looks(key)) for key in keys), self._store.at_once):
            self._done.bytes += sum(one.bytes for one in found if isinstance(one, Part))
            self._tick()
            yield key, found

    def _looks(self, key: SliceKey) -> list[Callable[[], Part | Aside]]:
        names = [name for name in data_files(self._store, key) if name not in self._kept]
        done = self._done
        read = partial(read_part, account=done.account, now=self._now, redaction=done.redaction)
        return [partial(read, self._store, key, name) for name in names]


__all__ = ["NO_SENDS", "Reader", "Recovered", "data_files", "folders", "likely_origin"]
