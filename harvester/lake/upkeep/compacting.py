"""Compacting: small data files of a slice, or of a partition, become one.

Files that are less than half of the target size are merged, neighbours with each other, up to the target size. Of a
partition it is one change: the new file gets its name, one transaction says that it takes the place of the others,
and they are removed. Of a send likewise: its ledger keeps them as they were until the new one has its name.

Blocking; nobody else uses the lake meanwhile.
"""

from __future__ import annotations

import heapq
from dataclasses import dataclass
from itertools import groupby
from typing import TYPE_CHECKING, TypeVar

import sqlalchemy as sa

from harvester.lake import layout
from harvester.lake.lake import look_into, open_lake
from harvester.lake.ledgers.tables import data_files
from harvester.lake.partitioned.sharedfiles import Change, SharedFile, remove_leaving
from harvester.lake.partitioned.sharing import Piece, ShareReader

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from harvester.config import Tuning
    from harvester.lake.entries import DataFileRecord
    from harvester.lake.lake import Lake
    from harvester.model import Secret
    from harvester.places import Place

File = TypeVar("File", "SharedFile", "DataFileRecord")

_SMALL_PART = 2
"""A file is small that is less than this part of the target size."""


@dataclass(slots=True)
class Compacted:
    """What compacting did, so far: data files and their bytes, before and now, and how many files went into others."""

    files_before: int = 0
    bytes_before: int = 0
    files: int = 0
    bytes: int = 0
    merged: int = 0
    rows: int = 0


def compact(
    root: Place,
    tuning: Tuning,
    done: Compacted,
    tick: Callable[[], object] = lambda: None,
    ledger: Secret | None = None,
) -> None:
    """Merges small files of a lake that nobody else is using.

    Args:
        root: the lake.
        tuning: says which size files aim at.
        done: tells how far it is, and what was done.
        tick: is called now and then.
        ledger: the URL of the database that the lake's ledger is in; None for beside its data.

    Raises:
        LakeError: there is no lake, it is in use, or it can't be written. What is done by then stays done.
    """
    with look_into(root, ledger):  # which says so if there is none: opening would make one
        pass
    with open_lake(root, tuning, ledger=ledger) as lake:
        _compact(lake, done, tick)


def _compact(lake: Lake, done: Compacted, tick: Callable[[], object]) -> None:
    done.files_before, done.bytes_before = lake.inventory.sealed_bytes()
    if lake.gatherer.shares:
        with lake.gatherer.turn:
            lake.renewer.put_in_place()  # or what it is to replace would not be known any more
            for _, files in groupby(lake.gatherer.files.files(), key=lambda file: (file.dataset, file.partition)):
                for group in _groups(list(files), lake.sealer.target_bytes):
                    _merge_shared(lake, [file.id for file in group])
                    _note(done, group)
                    tick()
    else:
        merged = _with_many(lake)
        for slice_id in merged:
            for some in _groups(lake.inventory.files(slice_id), lake.sealer.target_bytes):
                if lake.ledger.progress(slice_id) is not None:  # a refresh is under way, file by file
                    continue
                lake.sealer.merge(lake.ledger.record(slice_id), some)
                remove_leaving(lake.store, lake.gatherer.files)
                _note(done, some)
                tick()
        lake.sealer.tables.settled(merged)  # all at once, so that a table has it in one transaction
    lake.seal_tables()
    done.files, done.bytes = lake.inventory.sealed_bytes()


def _note(done: Compacted, group: Sequence[SharedFile] | Sequence[DataFileRecord]) -> None:
    done.merged += len(group)
    done.rows += sum(file.rows for file in group)


def _with_many(lake: Lake) -> list[int]:
    """Slices that have more than one data file."""
    query = sa.select(data_files.c.slice_id).group_by(data_files.c.slice_id).having(sa.func.count() > 1)
    with lake.ledger.database.reading() as connection:
        return sorted(connection.scalars(query))


def _groups(files: Sequence[File], target_bytes: int) -> Iterator[list[File]]:
    """Small neighbours that together make a file of the target size, or less; none alone."""
    group: list[File] = []
    for file in files:
        small = file.bytes * _SMALL_PART < target_bytes
        if group and (not small or sum(one.bytes for one in group) + file.bytes > target_bytes):
            if len(group) > 1:
                yield group
            group = []
        if small:
            group.append(file)
    if len(group) > 1:
        yield group


def _merge_shared(lake: Lake, ids: Sequence[int]) -> None:
    gatherer = lake.gatherer
    files = gatherer.files.with_shares(ids)
    first = files[0]
    reader = ShareReader(lake.store, lake.sealer.row_group_bytes)
    about = gatherer.about([share.slice_id for file in files for share in file.shares])

    def of(file: SharedFile) -> Iterator[tuple[tuple[int, int, int], int, Piece]]:
        start = 0
        for share in file.shares:
            rows = reader.rows(file.name, start, share.rows)
            yield (share.id_send, share.start, share.first_key), file.id, Piece(share, rows, counted=True)
            start += share.rows

    merged = SharedFile(
        dataset=first.dataset,
        partition=first.partition,
        name=layout.shared_file(first.dataset, gatherer.by.value, first.partition),
        rows=0,
        bytes=0,
        generation=1 + max(file.generation for file in files),
        checksum="",
    )
    pieces = (piece for *_, piece in heapq.merge(*map(of, files), key=lambda one: one[:2]))
    written = gatherer.sharing.write(merged, pieces, about)
    assert written is not None
    gatherer.sharing.commit(Change(dataset=first.dataset, added=[written], removed=files))


__all__ = ["Compacted", "compact"]
