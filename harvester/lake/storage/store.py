"""The lake's files, and which of them are where: this module alone decides that.

Of a lake in a folder, all are in there. Of one in an object store, data files are objects; what is under ``_harvest/``
is in a local folder, the lake's *state*. Unless machines *share* the lake: then that is in the object store, too, so
that a machine that is lost takes nothing along. Files are still written in the state, where they may be lost at any
time, and are *brought in* as a whole before anything relies on them.

Names outside ``_harvest/`` are data, and nothing but ``publish`` gives them, to finished files.

Invariant: a name outside ``_harvest/`` never denotes half a file. ``folder`` and ``objects`` say how that is held.

Names are relative to the lake's root, with ``/`` between parts.
"""

from __future__ import annotations

from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple, TypeVar

import pyarrow as pa

from harvester.config import Tuning
from harvester.errors import LakeBroken
from harvester.lake import layout
from harvester.lake.storage.connecting import endpoint_of
from harvester.lake.storage.folder import Folder, translated
from harvester.lake.storage.objects import AT_ONCE, Objects
from harvester.places import ObjectLake, state_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence
    from contextlib import AbstractContextManager

    from harvester.places import Place

Item = TypeVar("Item")


class AtHand(NamedTuple):
    """A whole file that can be read at no cost: what pyarrow reads it from, its bytes, and what tells their SHA-256."""

    source: str | pa.NativeFile
    bytes: int
    checksum: Callable[[], str]


class Store:
    """A lake's files. Every method is blocking: call it from a worker thread.

    Attributes:
        root: where the lake is.
        state: the local folder.
        objects: what is in an object store; None where the lake is in the folder.
        shares: whether what is not data is an object, too.
    """

    def __init__(self, root: Place, tuning: Tuning | None = None, *, shared: bool = False) -> None:
        """With ``shared``, several machines use the lake, since its ledger is where all of them reach it."""
        self.root = root
        self.state = Folder(state_of(root), str(root))
        self.objects = Objects(root, tuning or Tuning()) if isinstance(root, ObjectLake) else None
        self.shares = shared and self.objects is not None

    def _of(self, name: str) -> Folder | Objects:
        """Who has the file or folder of this name."""
        if self.objects is None:
            return self.state
        at_home = name == layout.HOME or name.startswith(_AT_HOME)
        if not at_home or name == layout.ELSEWHERE:
            return self.objects
        return self.objects if self.shares and not name.startswith(_LOCAL) else self.state

    # --- files that are written

    def local(self, name: str) -> str:
        """The path of a file under ``_harvest/`` on this machine: of one that is still to be brought in, if need be."""
        return self.state.path(self._written(name))

    def _written(self, name: str) -> str:
        """Where a file is written."""
        if isinstance(self._of(name), Folder):
            return name
        return f"{layout.WRITING}/{name.removeprefix(_AT_HOME).replace('/', '.')}"

    def create(self, name: str) -> AbstractContextManager[pa.NativeFile]:
        """A new file under ``_harvest/`` to write to: see ``Folder.create``. It may have to be brought in."""
        return self.state.create(self._written(name), synced=self._written(name) == name)

    def write(self, name: str, content: pa.Buffer) -> None:
        """A new file of this content: see ``create``."""
        self.state.write(self._written(name), content, synced=self._written(name) == name)

    def measured(self, name: str) -> tuple[int, str]:
        """How many bytes a file has that was just written, and their SHA-256 in hexadecimal."""
        return self.state.size(self._written(name)) or 0, self.state.checksum(self._written(name))

    def bring_in(self, names: Iterable[str]) -> None:
        """Has written files where whoever uses the lake next finds them, side by side.

        In a folder they are there, and it is left to sync that.
        """
        here = {name: self._written(name) for name in names if self._of(name) is self.objects}
        if self.objects is not None and here:
            try:
                self.objects.upload_all([(self.state.path(written), name) for name, written in here.items()])
            finally:
                self.state.remove_all(here.values())

    def clear(self, epoch: int) -> None:
        """Removes what earlier holders of the lake were writing on this machine, and never brought in."""
        if self.shares:
            names = [name for name in self.state.names(layout.WRITING) if (layout.epoch_of(name) or 0) < epoch]
            self.state.remove_all(names)

    def touch(self, name: str) -> None:
        """Makes an empty local file, unless there is one of that name already."""
        self.state.touch(name)

    def write_first(self, name: str, content: bytes, beforehand: str) -> None:
        """A new small file, unless there is one: see ``Folder.write_first`` and ``Objects.write_first``."""
        if isinstance(place := self._of(name), Objects):
            place.write_first(name, content)
        else:
            place.write_first(name, content, beforehand)

    def content(self, name: str) -> bytes | None:
        """What is in a small file; None if there is no such file."""
        return self._of(name).content(name)

    def locked(self, name: str) -> AbstractContextManager[None]:
        """Holds a lock on a local file: see ``Folder.locked``. Runs of other machines don't see it."""
        return self.state.locked(name)

    def is_locked(self, name: str) -> bool:
        """Whether some process of this machine holds the lock."""
        return self.state.is_locked(name)

    # --- folders

    def make_home(self) -> None:
        """Makes the local folders of what is not data."""
        for folder in ("", layout.HOME, *(() if self.shares else (layout.SEGMENTS,)), layout.WRITING):
            self.state.make_folder(folder)

    def claim(self) -> None:
        """Has the state say whose it is, once it is locked. Raises LakeBroken if it is another lake's."""
        if isinstance(self.root, ObjectLake):
            endpoint = endpoint_of(self.root)
            whose = self.root.url + (f" at {endpoint}" if endpoint else "")
            if not self.state.size(layout.WHOSE):
                self.state.write(layout.WHOSE, pa.py_buffer(f"{whose}\n".encode()))
                self.state.sync_folder(layout.HOME)
            self._refuse_another(whose, self._whose())

    def refuse_another(self) -> None:
        """Raises LakeBroken if the state says that it is another lake's, wherever that is."""
        if isinstance(self.root, ObjectLake) and self.state.size(layout.WHOSE):
            self._refuse_another(self.root.url, self._whose().partition(" ")[0])

    def _whose(self) -> str:
        note = Path(self.state.path(layout.WHOSE))
        with translated(f"read {note}"):
            return note.read_text(encoding="utf-8", errors="replace").strip()

    def _refuse_another(self, whose: str, found: str) -> None:
        if whose != found:
            raise LakeBroken(
                f"{self.state.root} belongs to the lake {found}, not to {whose}: name another folder with --state; "
                f"or, if they are the same, correct {self.state.path(layout.WHOSE)}"
            )

    def make_folder(self, name: str) -> None:
        """Makes a folder and those above it; object stores have none."""
        self.make_folders([name])

    def make_folders(self, names: Iterable[str]) -> None:
        """Likewise for several: see ``Folder.make_folders``."""
        self.state.make_folders(name for name in names if self._of(name) is self.state)

    def sync_folder(self, name: str) -> None:
        """Makes the names in a folder durable; in object stores they are."""
        if self._of(name) is self.state:
            self.state.sync_folder(name)

    def remove_empty(self, folder: str) -> None:
        """Removes a folder, if it is there and empty."""
        if self._of(folder) is self.state:
            self.state.remove_empty(folder)

    # --- names

    def publish(self, names: Sequence[tuple[str, str]]) -> None:
        """Gives whole files their final names, in place of any that have them.

        Of each, its name until now and its final one. Local files are synced by now; to an object store they are
        uploaded, and then go. What is there already is copied there, and then goes: if it is there no more, since
        another machine has taken over, nothing happens but that LakeError is raised.
        """
        renamed = [pair for pair in names if self._of(pair[1]) is self.state]
        if renamed:
            self.state.publish(renamed)
        if self.objects is not None and len(renamed) < len(names):
            final = [pair for pair in names if self._of(pair[1]) is self.objects]
            uploads = [pair for pair in final if self._of(pair[0]) is self.state]
            self.objects.upload_all([(self.state.path(written), name) for written, name in uploads])
            self.state.remove_all(written for written, _ in uploads)
            self.objects.rename_all(pair for pair in final if pair not in uploads)

    def move(self, name: str, to: str) -> None:
        """Gives a file another name, which nothing has. Its new folder is made.

        Within an object store, or out of it, there are two for an instant.
        """
        source, target = self._of(name), self._of(to)
        if isinstance(source, Folder) and isinstance(target, Folder):
            self.state.move(name, to)
            return
        if isinstance(source, Objects):
            if isinstance(target, Objects):
                source.move(name, to)
                return
            folder = to.rpartition("/")[0]
            target.make_folder(folder)
            with target.create(to) as sink:
                for part in source.parts(name):
                    sink.write(part)
            target.sync_folder(folder)
            source.remove(name)
        else:
            self.publish([(name, to)])

    def remove(self, name: str) -> None:
        """Removes a file, if it is there; or what was written of it, if it was not brought in yet."""
        if self.shares and name.startswith(_AT_HOME) and self.state.size(written := self._written(name)) is not None:
            self.state.remove(written)
        else:
            self._of(name).remove(name)

    def remove_all(self, names: Iterable[str]) -> None:
        """Removes files, if they are there."""
        local: list[str] = []
        others: list[str] = []
        for name in names:
            (local if self._of(name) is self.state else others).append(name)
        self.state.remove_all(local)
        self.each(self.remove, others)

    # --- looking and reading

    def check(self) -> None:
        """Raises LakeAway if data files can't be got at."""
        if self.objects is not None:
            self.objects.check()

    def size(self, name: str) -> int | None:
        """The file's size in bytes; None if there is no such file."""
        return self._of(name).size(name)

    def checksum(self, name: str) -> str:
        """The SHA-256 of a file's bytes, which are all read, in hexadecimal."""
        return self._of(name).checksum(name)

    def holds(self, name: str, size: int, checksum: str) -> bool:
        """Whether there is a file of this name, size and SHA-256; of an uploaded one its own word for it is taken."""
        place = self._of(name)
        if isinstance(place, Objects):
            return place.holds(name, size, checksum)
        return place.size(name) == size and place.checksum(name) == checksum

    def names(self, folder: str) -> Iterator[str]:
        """The names of the files right in a folder, as this store names them; none if there is no such folder."""
        return self._of(folder).names(folder)

    def entries(self, folder: str) -> list[tuple[str, bool]]:
        """What is right in a folder, by its bare name and in the names' order; with it, whether it is a folder itself.

        Nothing if there is no such folder. ``""`` is the lake itself.
        """
        found = self._of(folder).entries(folder)
        if self.objects is not None and not folder and not self.shares:
            found = sorted({*found, *self.state.entries(folder)})
        return found

    def holds_anything(self, folder: str) -> bool:
        """Whether there is a folder of that name with anything in it."""
        return self._of(folder).holds_anything(folder)

    def shown(self, name: str) -> str:
        """Where a file or folder is, for a person."""
        place = self._of(name)
        return place.url(name) if isinstance(place, Objects) else place.path(name)

    def mapped(self, name: str, size: int) -> pa.Buffer:
        """All bytes of a file that is so long; those of a large one are read when they are needed.

        Raises OSError or LakeError if it is not there.
        """
        place = self._of(name)
        return place.mapped(name, size) if isinstance(place, Objects) else place.mapped(name)

    @contextmanager
    def opened(self, name: str) -> Iterator[str | pa.NativeFile]:
        """What pyarrow reads some of a file from."""
        place = self._of(name)
        if isinstance(place, Objects):
            with place.opened(name) as source:
                yield source
        else:
            yield place.path(name)

    @contextmanager
    def at_hand(self, name: str) -> Iterator[AtHand]:
        """A file that is read as a whole, or more than once: from an object store it is fetched first."""
        place = self._of(name)
        if isinstance(place, Objects):
            with place.fetched(name) as file:
                yield AtHand(file.source, file.bytes, lambda: file.checksum)
        else:
            yield AtHand(place.path(name), place.size(name) or 0, lambda: place.checksum(name))

    # --- many files

    @property
    def at_once(self) -> int | None:
        """How many files are best looked at side by side; None for as many as there are processors."""
        return None if self.objects is None else AT_ONCE

    def each(self, do: Callable[[Item], object], items: Iterable[Item]) -> None:
        """Calls ``do`` for each, side by side where that is mostly waiting; raises what the first of them raises."""
        if self.objects is not None:
            self.objects.side_by_side(do, items)
        else:
            for item in items:
                do(item)


_AT_HOME = f"{layout.HOME}/"
_LOCAL = (layout.CATALOG, layout.LEDGER, layout.LOCK, layout.REBUILT, layout.WHOSE)
"""What names of files begin with that are of use on this machine alone."""

__all__ = ["AtHand", "Store"]
