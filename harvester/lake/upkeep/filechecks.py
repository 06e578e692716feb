"""Files held against the ledger: one data file, one segment, and what lies beside a slice's data files.

Everything here is blocking, and says what it sees at this instant: while a run is at work, files change.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import pyarrow as pa

from harvester.datasets import CATALOGUE
from harvester.errors import LakeAway, LakeError
from harvester.lake import layout
from harvester.lake.segments import is_sound, read_segment
from harvester.lake.upkeep.contents import Unreadable, read_contents, read_cover
from harvester.lake.upkeep.findings import Finding, Kind, keys_covered
from harvester.places import as_arguments
from harvester.redaction import in_words

if TYPE_CHECKING:
    from collections.abc import Sequence

    from harvester.lake.entries import DataFileRecord, SegmentRecord
    from harvester.lake.storage.store import Store
    from harvester.lake.upkeep.contents import Contents, Cover
    from harvester.lake.upkeep.snapshots import SliceSnapshot
    from harvester.lake.wide import WaitingPage
    from harvester.model import SliceKey


@dataclass(frozen=True, slots=True)
class Checks:
    """Checks files of a lake.

    Attributes:
        store: the lake's files.
        quick: whether data pages stay unread.
        account: whose lake it is; None if that is not known.
        redaction: what is done to people's data, by its label; empty where nothing is.
        option: how commands have to be told where its ledger is, if that is not beside its data.
    """

    store: Store
    quick: bool
    account: str | None
    redaction: str = ""
    option: str = ""

    @property
    def recover(self) -> str:
        """The command that sets right what can be set right."""
        return f"harvester recover {as_arguments(self.store.root)}{self.option}"

    @property
    def again(self) -> str:
        """The remedy for a file that can't be used."""
        return (
            f"Put it back from a backup, or run: {self.recover} (it moves the file to {layout.SET_ASIDE}, if it is "
            "there, and the next run asks for its rows again)"
        )

    @property
    def shared_again(self) -> str:
        """The remedy for a file of many sends that can't be used."""
        return (
            f"Put it back from a backup, or run: {self.recover} (it makes the ledger anew from the files that are "
            f"sound, and moves others to {layout.SET_ASIDE}; the next run asks again for the rows of this one, and for "
            "what follows them in their sends)"
        )

    def data_file(self, key: SliceKey, records: Sequence[DataFileRecord]) -> list[Finding]:
        """Holds a data file against what may be under its name: one record, or two while it is being replaced."""
        name, wrong = records[0].name, self._wrong_with(key, records)
        return [Finding(kind, key.dataset, key.id_send, name, what, self.again) for kind, what in wrong]

    def _wrong_with(self, key: SliceKey, records: Sequence[DataFileRecord]) -> list[tuple[Kind, str]]:
        try:
            size = self.store.size(records[0].name)
            if size is None:
                return [(Kind.MISSING, f"The file is not there; it held {records[0].rows:,} rows.")]
            same = [record for record in records if record.bytes == size]
            if not same:
                return [self._what_it_is(key, records[0], size)]
            return self._wrong_inside(key, same)
        except LakeAway:
            raise
        except LakeError as error:
            return [(Kind.DAMAGED, f"The file can't be read: {error}.")]

    def _wrong_inside(self, key: SliceKey, records: Sequence[DataFileRecord]) -> list[tuple[Kind, str]]:
        """Likewise, of a file that is as long as these records say."""
        name, dataset = records[0].name, CATALOGUE[key.dataset]
        same, contents = records, None
        try:
            if self.quick:
                with self.store.opened(name) as source:
                    cover = read_cover(source, dataset)
            else:
                with self.store.at_hand(name) as copy:
                    checksum = copy.checksum()
                    same = [record for record in records if record.checksum == checksum]
                    if not same:
                        return [self._what_it_is(key, records[0], copy.bytes)]
                    cover, contents = read_contents(copy.source, dataset, now=_now(), whole=False)
        except Unreadable as error:
            return [(Kind.DAMAGED, f"The file {error}.")]
        found = [_against(key, record, cover, contents) for record in same]
        return next((wrong for wrong in found if not wrong), found[0])

    def _what_it_is(self, key: SliceKey, record: DataFileRecord, size: int) -> tuple[Kind, str]:
        """What a file is that is not what the ledger says."""
        try:
            with self.store.opened(record.name) as source:
                cover = read_cover(source, CATALOGUE[key.dataset])
        except Unreadable as error:
            wrong = f" and it has {size:,} bytes instead of {record.bytes:,}" if size != record.bytes else ""
            return Kind.DAMAGED, f"The file {error}{wrong}."
        footer = cover.footer
        if (what := self._of_another(footer)) is not None:
            return Kind.FOREIGN, f"The file is {what}."
        if (footer.dataset, footer.id_send) != (key.dataset, key.id_send):
            return Kind.SWAPPED, f"The file is one of {footer.dataset} of send {footer.id_send}."
        if (footer.start, footer.stop) != (record.start, record.stop):
            return Kind.SWAPPED, (
                f"The file covers {keys_covered(footer.start, footer.stop)}, "
                f"not {keys_covered(record.start, record.stop)}."
            )
        if footer.generation != record.generation or cover.rows != record.rows:
            return Kind.SWAPPED, (
                f"The file is another version: {cover.rows:,} rows, refreshed {footer.generation} times, instead of "
                f"{record.rows:,} rows, refreshed {record.generation} times."
            )
        changed = f"{size:,} bytes instead of {record.bytes:,}" if size != record.bytes else "bytes that have changed"
        return Kind.DAMAGED, f"The file has {changed}."

    def segment(self, key: SliceKey, record: SegmentRecord, intended: Sequence[DataFileRecord]) -> list[Finding]:
        """Holds a segment against the ledger; it may be one of the data files that were to get their names already."""
        try:
            size = self.store.size(record.name)
            wrong = None if size is None else _wrong_segment(self.store, key, record, size)
        except LakeAway:
            raise
        except (LakeError, OSError, pa.ArrowException, ValueError) as error:
            size, wrong = 0, f"it can't be read ({' '.join(str(error).split())[:160]})"
        if size is None and layout.is_whole(record.name):
            renamed = [file for file in intended if file.first_key == record.first_key and self.store.size(file.name)]
            if renamed:
                return self.data_file(key, renamed)
        if size is None:
            what = f"A page of {record.rows:,} rows that was not in a data file yet is not there."
            remedy = "Nothing but the next run, which asks for it again."
            return [Finding(Kind.MISSING, key.dataset, key.id_send, record.name, what, remedy)]
        if wrong is None:
            return []
        what = f"A page of {record.rows:,} rows that was not in a data file yet is damaged: {wrong}."
        remedy = f"Run: {self.recover} (the next run then asks for the page again)"
        return [Finding(Kind.DAMAGED, key.dataset, key.id_send, record.name, what, remedy)]

    def waiting(self, page: WaitingPage) -> Finding | None:
        """Holds a page of a walk over many sends that waits against the ledger."""
        what = None
        try:
            if self.store.size(page.name) is None:
                what = "is not there"
            elif not is_sound(self.store, page):
                what = "is damaged"
        except LakeAway:
            raise
        except (LakeError, OSError, pa.ArrowException) as error:
            what = f"can't be read ({' '.join(str(error).split())[:160]})"
        if what is None:
            return None
        kind = Kind.MISSING if what == "is not there" else Kind.DAMAGED
        told = f"A page of {page.rows:,} rows of many sends that was not in data files yet {what}."
        remedy = "Nothing but the next run, which asks for it again."
        return Finding(kind, None, None, page.name, told, remedy)

    def beside(self, seen: SliceSnapshot) -> list[Finding]:
        """What lies in a slice's folder and is none of its data files."""
        folder = layout.slice_folder(seen.key)
        known = {file.name for file in (*seen.files, *seen.intended)} | seen.superseded
        return [
            self._stray(seen, f"{folder}/{name}", is_folder=is_folder)
            for name, is_folder in self.store.entries(folder)
            if f"{folder}/{name}" not in known and not is_hidden(name)
        ]

    def _stray(self, seen: SliceSnapshot, name: str, *, is_folder: bool) -> Finding:
        kind, remedy = Kind.STRAY, _MOVE
        if is_folder:
            what = "A folder that the ledger does not know."
        elif not name.endswith(".parquet"):
            what = "A file that the ledger does not know, and no data file."
        else:
            remedy = self.out_of_the_way
            try:
                with self.store.opened(name) as source:
                    footer = read_cover(source, CATALOGUE[seen.key.dataset]).footer
            except Unreadable as error:
                kind, what = Kind.FOREIGN, f"A file that the ledger does not know; it {error}."
            else:
                kind, what = self._stray_data(seen, footer)
        return Finding(kind, seen.key.dataset, seen.key.id_send, name, what, remedy)

    def _stray_data(self, seen: SliceSnapshot, footer: layout.Footer) -> tuple[Kind, str]:
        if (footer.dataset, footer.id_send) != (seen.key.dataset, seen.key.id_send):
            return Kind.FOREIGN, f"A file of {footer.dataset} of send {footer.id_send}, in the wrong folder."
        if (what := self._of_another(footer)) is not None:
            return Kind.FOREIGN, f"A file {what}."
        for file in seen.files:
            if file.start < footer.stop and footer.start < file.stop:
                if self.store.size(file.name) is not None:
                    return Kind.DOUBLED, f"Readers find rows twice: it covers keys that {file.name} covers."
                return Kind.STRAY, f"It covers keys that {file.name} covers, which is missing: it may be its copy."
        return Kind.STRAY, "A data file of this slice that the ledger does not know."

    def _of_another(self, footer: layout.Footer) -> str | None:
        """Whose a file says that it is, or how redacted, if that is not so of the lake."""
        if None not in {footer.account, self.account} and footer.account != self.account:
            return f"of the account {footer.account}, not of {self.account}"
        if (footer.redaction or "") != self.redaction:
            return f"harvested {in_words(footer.redaction)}, and the lake {in_words(self.redaction)}"
        return None

    @property
    def out_of_the_way(self) -> str:
        """The remedy for a file that readers should not find."""
        return f"Move it out of the lake, or run: {self.recover} (it moves it to {layout.SET_ASIDE})"


_MOVE = "Move it out of the lake."


def is_hidden(name: str) -> bool:
    """Whether an entry is nobody's business: readers pass it over, and file managers make some."""
    return name.startswith(".") and not name.endswith(".parquet")


def _against(key: SliceKey, record: DataFileRecord, cover: Cover, contents: Contents | None) -> list[tuple[Kind, str]]:
    """What does not fit between a file whose bytes are right and the ledger."""
    if contents is not None and contents.fault is not None:
        return [(Kind.ROWS, f"The file {contents.fault}.")]
    footer = cover.footer
    ends = (cover.first_key, cover.last_key) if contents is None else (contents.first_key, contents.last_key)
    waiting = None if contents is None else contents.unsettled + contents.overdue
    said = f"{footer.dataset} of send {footer.id_send}, {keys_covered(footer.start, footer.stop)}"
    noted = f"{key}, {keys_covered(record.start, record.stop)}"
    pairs: list[tuple[Kind, str, object, object]] = [
        (Kind.RANGES, "The file says that it covers", said, noted),
        (Kind.RANGES, "The file says that it was refreshed so often:", footer.generation, record.generation),
        (Kind.COUNTS, "Rows in the file:", cover.rows, record.rows),
        (Kind.ROWS, "First and last key in the file:", ends, (record.first_key, record.last_key)),
        (Kind.COUNTS, "Messages in the file that wait:", waiting, record.unsettled + record.overdue),
    ]
    return [
        (kind, f"{what} {file}; the ledger says {ledger}.")
        for kind, what, file, ledger in pairs
        if file not in (ledger, None, (None, None))
    ]


def _wrong_segment(store: Store, key: SliceKey, record: SegmentRecord, size: int) -> str | None:
    if size != record.bytes:
        return f"it has {size:,} bytes instead of {record.bytes:,}"
    dataset = CATALOGUE[key.dataset]
    batch = read_segment(store, record)
    if not batch.schema.equals(dataset.schema):
        return "it is not what a page should be"
    batch.validate(full=True)
    keys = batch.column(dataset.key)
    if (keys[0].as_py(), keys[-1].as_py()) != (record.first_key, record.last_key):
        return "it holds other keys"
    return None


def _now() -> datetime:
    return datetime.now(UTC).replace(tzinfo=None)


__all__ = ["Checks", "is_hidden"]
