"""Where a lake's Iceberg tables are, and how those of a lake that was moved or copied are told and read.

Iceberg names every file by where it is, so tables of the lake's own are of no use in another place. What they held can
still be read there, since a lake is moved as a whole; and as the ledger knows every data file, they can be made anew.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

from harvester.config import TableFormat
from harvester.datasets import CATALOGUE
from harvester.errors import LakeBroken, UsageError
from harvester.lake import layout
from harvester.lake.storage.connecting import s3_options
from harvester.places import as_arguments

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from pyiceberg.io import FileIO
    from pyiceberg.manifest import DataFile
    from pyiceberg.table.snapshots import Snapshot

    from harvester.config import TableChoice
    from harvester.lake.storage.store import Store
    from harvester.places import Place

FOLDER = "_iceberg"
_METADATA = ".metadata.json"


class TablesMoved(LakeBroken):
    """The lake's own Iceberg tables were made in another place."""

    def __init__(self, store: Store, there: str, here: str, option: str) -> None:
        super().__init__(
            "this lake has been moved or copied since its Iceberg tables were made: they name their files by where "
            f"they were, in {there}, not {here}. Put the lake back there; or have its tables made anew, from what the "
            f"ledger says: harvester recover {as_arguments(store.root)}{option}"
        )


def url_of(root: Place) -> str:
    """How Iceberg names a lake."""
    return f"file://{root.absolute()}" if isinstance(root, Path) else root.url


def io_properties(root: Place) -> dict[str, str]:
    """What pyiceberg has to be told to reach a lake's files. Raises UsageError."""
    if isinstance(root, Path):
        return {}
    if root.scheme != "s3":
        raise UsageError(f"Iceberg tables are made of lakes in folders and in s3://, not in {root.scheme}://")
    names = {
        "aws_endpoint": "s3.endpoint",
        "aws_region": "s3.region",
        "aws_access_key_id": "s3.access-key-id",
        "aws_secret_access_key": "s3.secret-access-key",
        "aws_session_token": "s3.session-token",
        "aws_skip_signature": "s3.anonymous",
    }
    return {"py-io-impl": "pyiceberg.io.pyarrow.PyArrowFileIO"} | {
        names[name]: value for name, value in s3_options(root).items()
    }


def data_files(snapshot: Snapshot | None, io: FileIO) -> Iterator[DataFile]:
    """The data files of a table's snapshot; none where there is no snapshot yet."""
    for manifest in snapshot.manifests(io) if snapshot is not None else ():
        for entry in manifest.fetch_manifest_entry(io, discard_deleted=True):
            yield entry.data_file


def newest_metadata(store: Store, dataset: str) -> str | None:
    """The file of a table's newest metadata; None if there is none."""
    folder = f"{dataset}/{FOLDER}"
    found = [name for name, is_folder in store.entries(folder) if name.endswith(_METADATA) and not is_folder]
    return f"{folder}/{max(found)}" if found else None


def made_elsewhere(store: Store, dataset: str) -> str | None:
    """Where a dataset's table was made, as its newest metadata say, if that is not where it is; else None."""
    newest = newest_metadata(store, dataset)
    if newest is None:
        return None
    try:
        location = json.loads(store.content(newest) or b"")["location"].rstrip("/")
    except (ValueError, KeyError, TypeError, AttributeError):
        return None  # damaged, or something else's: that is found, and told, when it is read as a table
    return None if location == f"{url_of(store.root)}/{dataset}" else str(location)


def files_before(store: Store, dataset: str) -> frozenset[str]:
    """The data files that a table held that was made elsewhere, by their names in the lake. Blocking.

    Raises:
        LakeBroken: its metadata can't be read.
    """
    from pyiceberg.io.pyarrow import PyArrowFileIO  # noqa: PLC0415  an extra: only lakes with tables need it
    from pyiceberg.table.metadata import TableMetadataUtil  # noqa: PLC0415

    newest, there = newest_metadata(store, dataset), made_elsewhere(store, dataset)
    if newest is None or there is None:
        return frozenset()
    here = f"{url_of(store.root)}/{dataset}"

    class Moved(PyArrowFileIO):
        """Finds what was there here."""

        def new_input(self, location: str):  # type: ignore[no-untyped-def]  # noqa: ANN202
            return super().new_input(here + location.removeprefix(str(there)))

    try:
        metadata = TableMetadataUtil.parse_raw((store.content(newest) or b"").decode())
        files = data_files(metadata.current_snapshot(), Moved(io_properties(store.root)))
        return frozenset(dataset + file.file_path.removeprefix(there) for file in files)
    except Exception as error:
        raise LakeBroken(f"the Iceberg table in {dataset} can't be read: {' '.join(str(error).split())}") from error


def set_aside_if_moved(store: Store, chosen: TableChoice | None, take: Callable[[str], object]) -> bool:
    """Sets all aside that the lake's own Iceberg tables are, where they were made in another place; whether that is so.

    The catalog goes first: as long as metadata are there, whoever begins again finds that they are of another place.
    ``take`` moves a file, which may not be there, out of the way. Raises LakeError. Blocking.
    """
    if chosen is None or chosen.format is not TableFormat.ICEBERG or chosen.catalog is not None:
        return False
    if not any(made_elsewhere(store, dataset) for dataset in CATALOGUE):
        return False
    for end in layout.OF_SQLITE:
        take(layout.CATALOG + end)
    for dataset in CATALOGUE:
        for name in list(store.names(f"{dataset}/{FOLDER}")):
            take(name)
    return True


__all__ = [
    "FOLDER",
    "TablesMoved",
    "data_files",
    "files_before",
    "io_properties",
    "made_elsewhere",
    "newest_metadata",
    "set_aside_if_moved",
    "url_of",
]
