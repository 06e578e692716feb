"""Files in a local folder: whole files, written, synced and renamed, for the owner's eyes only.

Invariant: a name outside ``_harvest/`` never denotes half a file. What is written is synced before it gets its name,
and the folder is synced before anybody relies on the name.

Names are relative to the folder, with ``/`` between parts. ``store`` has this module do all that is local.
"""

from __future__ import annotations

import errno
import fcntl
import hashlib
import os
import time
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING

import pyarrow as pa

from harvester.errors import LakeError, LakeFull, LakeInUse

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence
    from pathlib import Path

_NO_SPACE = {
    errno.ENOSPC: "Free some space",
    errno.EDQUOT: "Free some space, or have the quota raised",
    errno.EFBIG: "Free some space, or raise the limit on the size of files (ulimit -f),",
}
_PERMITS = "Let the user who runs harvester read and write it"
_IN_PLACE = "Something else is in its place: move that away, or use another folder"
_REMEDIES = {
    errno.EACCES: _PERMITS,
    errno.EPERM: _PERMITS,
    errno.EROFS: "Have its file system mounted for writing, or use another folder",
    errno.EEXIST: _IN_PLACE,
    errno.EISDIR: _IN_PLACE,
    errno.ENOTDIR: _IN_PLACE,
    errno.ENOTEMPTY: _IN_PLACE,
    errno.EMFILE: "Raise the limit on open files (ulimit -n)",
}
_OTHER_REMEDY = "See to it and run the same command again"
_FOLDER_MODE = 0o700
_FILE_MODE = 0o600
_LOCK_TRIES = 10
_LOCK_AGAIN_S = 0.05
"""A look at the lock (``is_locked``) holds it for an instant; only a run holds it for longer than this takes."""


@contextmanager
def translated(doing: str) -> Iterator[None]:
    """Turns the operating system's errors into LakeFull or LakeError; ``doing`` completes "could not …"."""
    try:
        yield
    except OSError as error:
        reason = os.strerror(error.errno) if error.errno else str(error)
        if (free := _NO_SPACE.get(error.errno or 0)) is not None:
            message = f"could not {doing}: {reason}. {free} and run the same command again; nothing is lost"
            raise LakeFull(message) from error
        raise LakeError(f"could not {doing}: {reason}. {remedy(error) or _OTHER_REMEDY}") from error


def remedy(error: OSError) -> str | None:
    """What to do about an error of the file system, where that is known."""
    return _REMEDIES.get(error.errno or 0)


class Folder:
    """A lake's files on a local file system. Every method is blocking: call it from a worker thread.

    Attributes:
        root: the folder.
        lake: how the lake is spoken of.
    """

    def __init__(self, root: Path, lake: str) -> None:
        self.root = root
        self.lake = lake

    def make_folder(self, name: str) -> None:
        """Makes the folder and those above it, each synced into its parent. ``""`` is the lake itself."""
        self.make_folders([name])

    def make_folders(self, names: Iterable[str]) -> None:
        """Makes folders and those above them, each synced into its parent once all are there."""
        parents: dict[str, None] = {}
        for name in names:
            folder = self.path(name)
            with translated(f"make the folder {folder}"):
                missing = []
                while not os.path.isdir(folder):
                    missing.append(folder)
                    folder = _above(folder)
                for new in reversed(missing):
                    with suppress(FileExistsError):
                        os.mkdir(new, _FOLDER_MODE)
                    parents[_above(new)] = None
        for parent in parents:
            with translated(f"sync {parent}"):
                _sync(parent)

    def path(self, name: str) -> str:
        """The path under which a reader finds the file."""
        return f"{self.root}/{name}" if name else str(self.root)

    @contextmanager
    def create(self, name: str, *, synced: bool = True) -> Iterator[pa.NativeFile]:
        """A new file to write to; synced when the block ends, removed when it raises. Its folder is not synced.

        What a crash may take, since it counts nowhere, need not be ``synced``.
        """
        path = self.path(name)
        with translated(f"write {path}"):
            os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, _FILE_MODE))
            try:
                with pa.OSFile(path, "wb") as sink:
                    yield sink
                if synced:
                    _sync(path)
            except BaseException:
                with suppress(FileNotFoundError):
                    os.unlink(path)
                raise

    def write(self, name: str, content: pa.Buffer, *, synced: bool = True) -> None:
        """A new file of this content: see ``create``."""
        path = self.path(name)
        with translated(f"write {path}"):
            try:
                with open(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, _FILE_MODE), "wb", 0) as file:
                    rest = memoryview(content)
                    while rest:
                        rest = rest[file.write(rest) :]
                    if synced:
                        os.fsync(file.fileno())
            except BaseException:
                with suppress(FileNotFoundError):
                    os.unlink(path)
                raise

    def write_first(self, name: str, content: bytes, beforehand: str) -> None:
        """A new small file, unless there is one of that name: of several that try, anywhere, the first one wins.

        Until it is whole, it has the name ``beforehand``, which nobody else uses.
        """
        path, mine = self.path(name), self.path(beforehand)
        with translated(f"write {path}"):
            try:
                with open(os.open(mine, os.O_WRONLY | os.O_CREAT | os.O_EXCL, _FILE_MODE), "wb", 0) as file:
                    file.write(content)
                    os.fsync(file.fileno())
                with suppress(FileExistsError):
                    os.link(mine, path)
            finally:
                with suppress(FileNotFoundError):
                    os.unlink(mine)
            _sync(_above(path))

    def mapped(self, name: str) -> pa.Buffer:
        """A file's bytes, read when they are needed. Raises OSError if there is no such file."""
        with pa.memory_map(self.path(name)) as source:
            return source.read_buffer()

    def content(self, name: str) -> bytes | None:
        """What is in a small file; None if there is no such file."""
        with translated(f"read {self.path(name)}"):
            try:
                with open(self.path(name), "rb") as file:
                    return file.read()
            except FileNotFoundError:
                return None

    def touch(self, name: str) -> None:
        """Makes an empty file, unless there is one of that name already."""
        with translated(f"write {self.path(name)}"):
            os.close(os.open(self.path(name), os.O_WRONLY | os.O_CREAT, _FILE_MODE))

    def sync_folder(self, name: str) -> None:
        """Makes the names in a folder durable."""
        with translated(f"sync {self.path(name)}"):
            _sync(self.path(name))

    def publish(self, names: Sequence[tuple[str, str]]) -> None:
        """Gives written and synced files their final names, in place of any that have them, and syncs the folders.

        Of each, its name until now and its final one.
        """
        folders = dict.fromkeys(final.rpartition("/")[0] for _, final in names)
        self.make_folders(folders)
        for written, final in names:
            with translated(f"publish {self.path(final)}"):
                os.replace(self.path(written), self.path(final))
        for folder in folders:
            self.sync_folder(folder)

    def move(self, name: str, to: str) -> None:
        """Gives a file another name, which nothing has, and syncs the folders of both. Its new folder is made."""
        folder = to.rpartition("/")[0]
        self.make_folder(folder)
        with translated(f"move {self.path(name)} to {self.path(to)}"):
            if os.path.lexists(self.path(to)):
                raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST))
            os.rename(self.path(name), self.path(to))
            _sync(self.path(folder))
            _sync(self.path(name.rpartition("/")[0]))

    def remove(self, name: str) -> None:
        """Removes a file, if it is there."""
        with translated(f"remove {self.path(name)}"), suppress(FileNotFoundError):
            os.unlink(self.path(name))

    def remove_all(self, names: Iterable[str]) -> None:
        """Removes files, if they are there."""
        for name in names:
            self.remove(name)

    def remove_empty(self, folder: str) -> None:
        """Removes a folder, if it is there and empty."""
        with translated(f"remove {self.path(folder)}"):
            try:
                os.rmdir(self.path(folder))
            except OSError as error:
                if error.errno not in {errno.ENOENT, errno.ENOTEMPTY, errno.EEXIST}:
                    raise

    def size(self, name: str) -> int | None:
        """The file's size in bytes; None if there is no such file."""
        with translated(f"look at {self.path(name)}"):
            try:
                return os.stat(self.path(name)).st_size
            except FileNotFoundError:
                return None

    def checksum(self, name: str) -> str:
        """The SHA-256 of a file's bytes, in hexadecimal."""
        with translated(f"read {self.path(name)}"), open(self.path(name), "rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()

    def names(self, folder: str) -> Iterator[str]:
        """The names of the files right in a folder, as this store names them; none if there is no such folder."""
        with translated(f"list {self.path(folder)}"):
            try:
                entries = os.scandir(self.path(folder))
            except FileNotFoundError:
                return
            with entries:
                for entry in entries:
                    if entry.is_file(follow_symlinks=False):
                        yield f"{folder}/{entry.name}"

    def entries(self, folder: str) -> list[tuple[str, bool]]:
        """What is right in a folder, by its bare name and in the names' order; with it, whether it is a folder itself.

        Nothing if there is no such folder. ``""`` is the lake itself.
        """
        path = self.path(folder)
        with translated(f"list {path}"):
            try:
                found = os.scandir(path)
            except FileNotFoundError:
                return []
            with found:
                return sorted((entry.name, entry.is_dir()) for entry in found)

    def holds_anything(self, folder: str) -> bool:
        """Whether there is a folder of that name with anything in it."""
        with (
            translated(f"list {self.path(folder)}"),
            suppress(FileNotFoundError),
            os.scandir(self.path(folder)) as found,
        ):
            return next(found, None) is not None
        return False

    @contextmanager
    def locked(self, name: str) -> Iterator[None]:
        """Holds an advisory lock on a file, which ends with the process however it ends. Raises LakeInUse."""
        path = self.path(name)
        with translated(f"open {path}"):
            descriptor = os.open(path, os.O_RDWR | os.O_CREAT, _FILE_MODE)
        try:
            with translated(f"lock {path}"):
                self._take(descriptor)
            with suppress(OSError):  # who it is is told for convenience alone
                os.truncate(descriptor, 0)
                os.pwrite(descriptor, str(os.getpid()).encode(), 0)
            yield
        finally:
            os.close(descriptor)

    def _take(self, descriptor: int) -> None:
        for again in reversed(range(_LOCK_TRIES)):
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError as error:
                if again:
                    time.sleep(_LOCK_AGAIN_S)
                    continue
                holder = os.pread(descriptor, 100, 0).decode(errors="replace").strip() or "unknown"
                message = f"another run is using the lake {self.lake} (process {holder}); wait for it, or stop it"
                raise LakeInUse(message) from error
            return

    def is_locked(self, name: str) -> bool:
        """Whether some process holds the lock, also where the file can only be read."""
        try:
            descriptor = os.open(self.path(name), os.O_RDONLY)
        except OSError:
            return False
        try:
            fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except OSError:
            return True
        else:
            return False
        finally:
            os.close(descriptor)


def _above(path: str) -> str:
    return os.path.dirname(path) or "."


def _sync(path: str | Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


__all__ = ["Folder", "remedy", "translated"]
