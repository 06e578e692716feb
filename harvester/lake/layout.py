"""Where things lie in a lake, and what a data file says of itself. DESIGN: others build on both.

::

    LAKE/messages/send=601181/part-723043606-723143605.parquet     first and last key in the name
    LAKE/messages/month=2024-05/part-0f3a….parquet                  if partitioned by anything else than sends
    LAKE/_harvest/ledger.sqlite, lock, segments/, writing/         nothing in here ends in .parquet
    LAKE/_harvest/ledger-elsewhere.json                            instead of ledger.sqlite and lock
"""

from __future__ import annotations

import json
import re
import secrets
from dataclasses import dataclass

from harvester.model import KEY_END, SliceKey

HOME = "_harvest"
LEDGER = f"{HOME}/ledger.sqlite"
ELSEWHERE = f"{HOME}/ledger-elsewhere.json"
"""What a lake has whose ledger is in a database that several machines share: says under which name it is there."""
LOCK = f"{HOME}/lock"
OF_SQLITE = ("", "-wal", "-shm", "-journal")
"""What the names of a database's own files end in, after the database's."""
CATALOG = f"{HOME}/catalog.sqlite"
"""Where Iceberg tables are, unless another catalog says it."""
OF_TABLES = ("_delta_log", "_iceberg")
"""In a dataset's folder: what a table format keeps there."""
SEGMENTS = f"{HOME}/segments"
WRITING = f"{HOME}/writing"
WHOSE = f"{HOME}/lake-url"
"""Says which lake in an object store this local ``_harvest/`` belongs to."""
REBUILT = f"{HOME}/rebuilt.sqlite"
"""A ledger that is being rebuilt; it takes the place of the lost one when it is whole."""
SET_ASIDE = f"{HOME}/set-aside"
"""What was found in the way when a ledger was rebuilt. Nobody but a person removes anything from here."""

_PREFIX = "harvester."
_EPOCH = "-epoch-"


def segment(slice_id: int, first_key: int, *, refresh: bool = False, epoch: int | None = None) -> str:
    """The name of a segment: an Arrow IPC file. Segments of a slice, or of its refresh, never share a first key.

    What is not data yet bears its writer's ``epoch``, where a lake's holders may be on several machines: one that was
    cut off, and does not know yet that another has taken over, then never touches what that one writes.
    """
    return f"{SEGMENTS}/{slice_id}-{first_key}{'-refreshed' if refresh else ''}{_of_epoch(epoch)}.arrow"


def whole_segment(slice_id: int, first_key: int, *, epoch: int | None = None) -> str:
    """The name of a segment that is all of a slice: Parquet already, like the data file that it is to become."""
    return f"{SEGMENTS}/{slice_id}-{first_key}{_of_epoch(epoch)}.whole"


def _of_epoch(epoch: int | None) -> str:
    return "" if epoch is None else f"{_EPOCH}{epoch}"


def without_epoch(name: str) -> str:
    """The name that a file would have that is not data yet, if it did not say its writer's epoch."""
    return re.sub(rf"{_EPOCH}\d+(?=\.\w+$|$)", "", name, flags=re.ASCII)


def epoch_of(name: str) -> int | None:
    """The epoch of whoever wrote a file that is not data yet; None if its name does not say."""
    found = re.search(rf"{_EPOCH}(\d+)(?:\.\w+)?$", name, re.ASCII)
    return int(found[1]) if found else None


def waiting_page(scope: int, first_key: int, *, epoch: int | None = None) -> str:
    """The name of a page of a walk over many sends that waits for a seam: an Arrow IPC file."""
    return f"{SEGMENTS}/scope-{scope}-{first_key}{_of_epoch(epoch)}.arrow"


def is_whole(segment_name: str) -> bool:
    """Whether a segment of this name is Parquet already."""
    return segment_name.endswith(".whole")


def data_file(key: SliceKey, first_key: int, last_key: int) -> str:
    """The name of a data file of a slice, by the first and the last key that it was made with."""
    return f"{slice_folder(key)}/part-{first_key}-{last_key}.parquet"


def being_written(data_file_name: str, *, epoch: int | None = None) -> str:
    """The name of a data file until it is whole; never one that a reader's pattern finds."""
    return f"{WRITING}/{data_file_name.removesuffix('.parquet').replace('/', '.')}{_of_epoch(epoch)}"


def _encoded(pairs: dict[str, str]) -> dict[str, str]:
    """As Parquet key-value metadata."""
    return {_PREFIX + name: value for name, value in pairs.items()}


def _given(**pairs: str | None) -> dict[str, str]:
    """Those of the pairs that say something."""
    return {name: value for name, value in pairs.items() if value is not None}


def _decoded(metadata: dict[bytes, bytes]) -> dict[str, str]:
    """What is ours of Parquet key-value metadata."""
    return {
        name.decode().removeprefix(_PREFIX): value.decode()
        for name, value in metadata.items()
        if name.startswith(_PREFIX.encode())
    }


@dataclass(frozen=True, slots=True)
class Footer:
    """What a data file says of itself, in its key-value metadata; enough to rebuild a lost ledger.

    Attributes:
        dataset: the dataset's name.
        id_send: the send.
        start: the first key that the file covers.
        stop: the first key after those that it covers; ``KEY_END`` in a slice's last file.
        generation: 0 when first harvested; one more with every refresh.
        harvested_at: when, in UTC, ISO 8601.
        version: of the harvester that wrote it.
        proof: in a slice's last file, why the slice is complete; None elsewhere.
        expected: in a slice's last file, the send's ``SEND_COUNT`` if known.
        account: the client id of the account that it was harvested from; None in files of early versions.
        redaction: the label of what was done to people's data; None where nothing was.
    """

    dataset: str
    id_send: int
    start: int
    stop: int
    generation: int
    harvested_at: str
    version: str
    proof: str | None = None
    expected: int | None = None
    account: str | None = None
    redaction: str | None = None

    def encode(self) -> dict[str, str]:
        """As Parquet key-value metadata. An open end is written as an empty string."""
        pairs = {
            "dataset": self.dataset,
            "id_send": str(self.id_send),
            "start": str(self.start),
            "stop": "" if self.stop == KEY_END else str(self.stop),
            "generation": str(self.generation),
            "harvested_at": self.harvested_at,
            "version": self.version,
        }
        count = None if self.expected is None else str(self.expected)
        told = _given(proof=self.proof, send_count=count, account=self.account, redaction=self.redaction)
        return _encoded(pairs | told)

    @classmethod
    def decode(cls, metadata: dict[bytes, bytes]) -> Footer:
        """From Parquet key-value metadata. Raises KeyError or ValueError if it isn't a footer of ours."""
        pairs = _decoded(metadata)
        return cls(
            dataset=pairs["dataset"],
            id_send=int(pairs["id_send"]),
            start=int(pairs["start"]),
            stop=int(pairs["stop"]) if pairs["stop"] else KEY_END,
            generation=int(pairs["generation"]),
            harvested_at=pairs["harvested_at"],
            version=pairs["version"],
            proof=pairs.get("proof"),
            expected=int(pairs["send_count"]) if "send_count" in pairs else None,
            account=pairs.get("account"),
            redaction=pairs.get("redaction"),
        )


@dataclass(frozen=True, slots=True)
class Told:
    """What a shared file says of the rows that it holds of one slice.

    Attributes:
        id_send: the send.
        start: the first key of the stretch that they are from.
        stop: the first key after it; ``KEY_END`` where the slice ends.
        total: rows of the slice within, in all files together.
        rows: those of them that are in this file.
        proof: of a slice's last stretch, why the slice is complete; None elsewhere.
        expected: of a slice's last stretch, the send's ``SEND_COUNT`` if known.
    """

    id_send: int
    start: int
    stop: int
    total: int
    rows: int
    proof: str | None = None
    expected: int | None = None


@dataclass(frozen=True, slots=True)
class SharedFooter:
    """What a data file says of itself that holds rows of many slices; enough to rebuild a lost ledger.

    Attributes: ``shares`` are in the order of the file's rows; ``partition`` is the value in its folder's name,
        of ``partition_by``; the others are those of ``Footer``.
    """

    dataset: str
    partition_by: str
    partition: str
    generation: int
    harvested_at: str
    version: str
    shares: tuple[Told, ...]
    account: str | None = None
    redaction: str | None = None

    def encode(self) -> dict[str, str]:
        """As Parquet key-value metadata; shares as JSON, an open end as null."""
        told: list[list[int | str | None]] = []
        for one in self.shares:
            at_end = one.stop == KEY_END
            stop = None if at_end else one.stop
            told.append([one.id_send, one.start, stop, one.total, one.rows])
            if at_end:
                told[-1] += [one.proof, one.expected]
        pairs = {
            "dataset": self.dataset,
            "partition_by": self.partition_by,
            "partition": self.partition,
            "generation": str(self.generation),
            "harvested_at": self.harvested_at,
            "version": self.version,
            "shares": json.dumps(told, separators=(",", ":")),
        }
        return _encoded(pairs | _given(account=self.account, redaction=self.redaction))

    @classmethod
    def decode(cls, metadata: dict[bytes, bytes]) -> SharedFooter:
        """From Parquet key-value metadata. Raises KeyError or ValueError if it isn't a footer of ours."""
        pairs = _decoded(metadata)
        try:
            told = tuple(
                Told(id_send, start, KEY_END if stop is None else stop, total, rows, *rest)
                for id_send, start, stop, total, rows, *rest in json.loads(pairs["shares"])
            )
        except TypeError as error:
            raise ValueError(str(error)) from error
        return cls(
            dataset=pairs["dataset"],
            partition_by=pairs["partition_by"],
            partition=pairs["partition"],
            generation=int(pairs["generation"]),
            harvested_at=pairs["harvested_at"],
            version=pairs["version"],
            shares=told,
            account=pairs.get("account"),
            redaction=pairs.get("redaction"),
        )


def partition_folder(dataset: str, by: str, value: str) -> str:
    """The folder of a partition's data files."""
    return f"{dataset}/{by}={value}"


def partition_of_folder(folder: str) -> tuple[str, str] | None:
    """By what a dataset's folder of that name is a partition, and which; None if it is none, or a send's."""
    found = re.fullmatch(r"(campaign|month|day)=([0-9A-Za-z_-]+)", folder, re.ASCII)
    return (found[1], found[2]) if found else None


def shared_file(dataset: str, by: str, value: str) -> str:
    """A name for a new data file of a partition, which no other has or will have."""
    return f"{partition_folder(dataset, by, value)}/part-{secrets.token_hex(8)}.parquet"


def slice_folder(key: SliceKey) -> str:
    """The folder of a slice's data files."""
    return f"{key.dataset}/send={key.id_send}"


def slice_of_folder(dataset: str, folder: str) -> SliceKey | None:
    """The slice whose data files are in a dataset's folder of that name; None if it is no slice's."""
    found = re.fullmatch(r"send=([1-9]\d{0,18})", folder, re.ASCII)
    return SliceKey(dataset, int(found[1])) if found else None


def first_key_in_name(data_file_name: str) -> int | None:
    """The first key that a data file was made with, by its name; None if that is no name of a data file."""
    found = re.fullmatch(r"(?:.*/)?part-(\d+)-\d+(?:-\d+)?\.parquet", data_file_name, re.ASCII)
    return int(found[1]) if found else None


def next_name(data_file_name: str) -> str:
    """The name of a data file beside another one: ``part-1-9.parquet``, ``part-1-9-1.parquet``, and so on."""
    stem = data_file_name.removesuffix(".parquet")
    found = re.fullmatch(r"(.*part-\d+-\d+)-(\d+)", stem, re.ASCII)
    return f"{found[1]}-{int(found[2]) + 1}.parquet" if found else f"{stem}-1.parquet"


def set_aside(name: str, folder: str) -> str:
    """Where a file goes that is set aside in a folder; never by a name that a reader's pattern finds."""
    return f"{folder}/{name.removeprefix(f'{HOME}/')}.aside"


__all__ = [
    "CATALOG",
    "ELSEWHERE",
    "HOME",
    "LEDGER",
    "LOCK",
    "OF_SQLITE",
    "OF_TABLES",
    "REBUILT",
    "SEGMENTS",
    "SET_ASIDE",
    "WHOSE",
    "WRITING",
    "Footer",
    "SharedFooter",
    "Told",
    "being_written",
    "data_file",
    "epoch_of",
    "first_key_in_name",
    "is_whole",
    "next_name",
    "partition_folder",
    "partition_of_folder",
    "segment",
    "set_aside",
    "shared_file",
    "slice_folder",
    "slice_of_folder",
    "waiting_page",
    "whole_segment",
    "without_epoch",
]
