"""What the ledger says of one slice, held against itself: ranges, counts, proof, cursor. Pure; no file is looked at.

What is not wrong, though it looks odd: a complete slice whose last file does not reach the end yet (it is sealed to its
end by the next run), and an incomplete one whose last file does (it was complete, and has grown).
"""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING

from harvester.datasets import CATALOGUE
from harvester.lake.upkeep.findings import Kind
from harvester.lake.upkeep.sharechecks import of_stretches
from harvester.model import KEY_END, Proof

if TYPE_CHECKING:
    from collections.abc import Iterator

    from harvester.lake.entries import FileRecord
    from harvester.lake.partitioned.sharedfiles import Share
    from harvester.lake.upkeep.snapshots import SliceSnapshot


def contradictions(seen: SliceSnapshot) -> Iterator[tuple[Kind, str]]:
    """What does not fit in what the ledger says of a slice. The text completes "of this slice, …"."""
    if seen.key.dataset not in CATALOGUE:
        yield Kind.STRAY, "the dataset is none that this version knows"
        return
    yield from _of_ranges(seen)
    yield from _of_counts(seen)
    yield from _of_proof(seen)
    if CATALOGUE[seen.key.dataset].paged:
        yield from _of_cursor(seen)


def _of_ranges(seen: SliceSnapshot) -> Iterator[tuple[Kind, str]]:
    files = seen.files
    if files and files[0].start != 0:
        yield Kind.RANGES, f"the keys below {files[0].start} are in no file"
    for before, after in pairwise(files):
        if after.start > before.stop:
            yield Kind.RANGES, f"the keys from {before.stop} to {after.start - 1} are in no file"
        if after.start < before.stop:
            yield Kind.RANGES, f"the files {before.name} and {after.name} cover the same keys"
    for file in files:
        if not file.start <= file.first_key <= file.last_key < file.stop:
            yield Kind.RANGES, f"the rows of {file.name} lie outside of the keys that it covers"
    yield from of_stretches(seen.shares)
    if not CATALOGUE[seen.key.dataset].paged:
        return
    last = max(seen.shares, key=lambda share: share.last_key, default=None)
    if last is not None and any(part.first_key <= last.last_key for part in seen.staged):
        yield Kind.RANGES, "pages that are not in data files yet hold keys that are there already"
    parts = [*files[-1:], *seen.staged]
    if any(before.last_key >= after.first_key for before, after in pairwise(parts)):
        yield Kind.RANGES, "pages that are not in data files yet hold keys that are there already"


def _of_counts(seen: SliceSnapshot) -> Iterator[tuple[Kind, str]]:
    parts: tuple[FileRecord | Share, ...] = (*seen.files, *seen.shares, *seen.staged)
    for name, total in (
        ("rows", sum(part.rows for part in parts)),
        ("unsettled", sum(part.unsettled for part in parts)),
        ("overdue", sum(part.overdue for part in parts)),
    ):
        if getattr(seen, name) != total:
            yield Kind.COUNTS, f"{getattr(seen, name):,} rows count as {name}, and its files hold {total:,}"


def fits(proof: Proof, dataset: str, *, rows: int, expected: int | None, refreshed: bool) -> str | None:
    """Why a proof can't hold of a slice with so many rows; None if it can.

    Args:
        proof: the proof.
        dataset: the slice's dataset.
        rows: its rows.
        expected: ``SEND_COUNT``, where known.
        refreshed: whether it was refreshed since; rows may be dropped then that are gone at the source.
    """
    of = CATALOGUE[dataset]
    if (proof is Proof.EMPTY) != (rows == 0):
        return f"the proof is {proof}, and there are {rows:,} rows"
    if proof in {Proof.COUNT, Proof.TAIL} and not of.paged:
        return f"{proof} is no proof for {dataset}"
    if proof in {Proof.COVERS, Proof.AGREED} and of.paged:
        return f"{proof} is no proof for {dataset}"
    if proof is Proof.COUNT and not refreshed and (expected is None or rows < expected):
        return (
            f"the proof is count, and there are {rows:,} rows of {'?' if expected is None else format(expected, ',')}"
        )
    return None


def _of_proof(seen: SliceSnapshot) -> Iterator[tuple[Kind, str]]:
    if seen.proof is None:
        return
    if seen.proven is None:
        yield Kind.PROOF, f"{seen.proof!r} is no proof"
        return
    refreshed = any(file.generation for file in seen.files) or bool(seen.shares)
    fault = fits(seen.proven, seen.key.dataset, rows=seen.rows, expected=seen.expected, refreshed=refreshed)
    if fault:
        yield Kind.PROOF, fault


def _of_cursor(seen: SliceSnapshot) -> Iterator[tuple[Kind, str]]:
    parts: tuple[FileRecord | Share, ...] = (*seen.files, *seen.shares, *seen.staged)
    if not seen.ranges:
        if parts:
            end = max(part.last_key for part in parts)
            yield Kind.CURSOR, f"it would go on from the beginning, and there are rows up to {end}"
        return
    yield from _of_seams(seen)
    for key_range in seen.ranges:
        inside = [part for part in parts if key_range.start <= part.first_key < key_range.stop]
        last_key = max((part.last_key for part in inside), default=None)
        held = key_range.held
        if last_key is None and held is not None:
            yield Kind.CURSOR, f"it would go on from {held}, and there are no rows"
        if last_key is not None and (held is None or held < last_key):
            where = str(held or key_range.start or "the beginning")
            yield Kind.CURSOR, f"it would go on from {where}, and there are rows up to {last_key}"


def _of_seams(seen: SliceSnapshot) -> Iterator[tuple[Kind, str]]:
    """Key ranges are disjoint and cover everything; a complete slice has no seams left, and none are in data files."""
    ends = [(key_range.start, key_range.stop) for key_range in seen.ranges]
    if ends[0][0] != 0 or ends[-1][1] != KEY_END or any(left[1] != right[0] for left, right in pairwise(ends)):
        yield Kind.CURSOR, "the places to go on from do not share its keys among them"
    if seen.proof is not None and len(ends) > 1:
        yield Kind.CURSOR, "it is called complete, and there is more than one place to go on from"
    sealed: tuple[FileRecord | Share, ...] = (*seen.files[-1:], *seen.shares)
    if any(part.last_key >= ends[0][1] for part in sealed):
        yield Kind.CURSOR, "data files hold keys to the right of where it would go on from first"


__all__ = ["contradictions", "fits"]
