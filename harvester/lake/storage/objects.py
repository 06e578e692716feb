"""Files in an object store: uploaded whole under their names, read by parts or as a whole, never changed.

Invariant: a name denotes a whole file or nothing. A finished local file is uploaded in one request, or in parts that
become an object all at once. What cuts an upload off leaves no object, or the whole one; which of the two is asked
(``holds``), never assumed. There is no renaming: a copy is made, by the store, and then the first one goes.

Names are relative to the lake's URL. There are no folders: they are what names have in common.
"""

from __future__ import annotations

import hashlib
import io
import mmap
import re
import tempfile
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, nullcontext, suppress
from dataclasses import replace
from itertools import chain, repeat
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

import pyarrow as pa

from harvester.errors import LakeAway, LakeError
from harvester.lake import layout
from harvester.lake.storage.connecting import connect
from harvester.lake.storage.folder import translated
from harvester.lake.storage.refusals import NotThere, meaning

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from harvester.config import Tuning
    from harvester.lake.storage.connecting import Connected
    from harvester.places import ObjectLake

Item = TypeVar("Item")
Answer = TypeVar("Answer")

AT_ONCE = 16
"""So many requests for small things go side by side: each is little but waiting."""
_PART_BYTES = 8 * 2**20
_PARTS_AT_ONCE = 4
"""A large file goes up in parts of which so many are under way, and in memory, at once."""
_FIRST_PATIENCE_S = 30.0
_LARGE_AT_ONCE = 4
"""So many files of more than a part are fetched whole at once: they take room on the disk."""
_CHECKSUM = "sha256"
_PARQUET = (".parquet", ".whole")
_BROKEN_OFF = "response body error|kind: Body|IncompleteBody|error decoding response"
_NO_CONDITIONS = "status code: 501|NotImplemented|not supported"
_PAUSES_S = (0.1, 0.2, 0.5, 1.0, 2.0, 5.0)


class Fetched(NamedTuple):
    """A whole file, fetched: what to read it from, its bytes, and their SHA-256."""

    source: pa.NativeFile
    bytes: int
    checksum: str


class Objects:
    """The files of a lake in an object store. Every method is blocking: call it from a worker thread.

    Each raises LakeAway if the store can't be reached or refuses, after trying again for a while what may pass.
    Connects when it is first needed: whoever looks at the ledger alone needs neither the packages nor credentials.
    """

    def __init__(self, place: ObjectLake, tuning: Tuning) -> None:
        self.place = place
        self._tuning = tuning
        self._turn = threading.Lock()
        self._large = threading.BoundedSemaphore(_LARGE_AT_ONCE)
        self._connected: Connected | None = None

    def url(self, name: str) -> str:
        """The URL under which a reader finds the file."""
        return f"{self.place.url}/{name}" if name else self.place.url

    @property
    def _store(self) -> Connected:
        with self._turn:
            if self._connected is None:
                self._connected = connect(self.place, self._tuning)
            return self._connected

    def check(self) -> None:
        """Raises LakeAway if the store can't be asked what is there, UsageError if it can't even be tried.

        It is tried for a shorter while than later, when there is something to lose.
        """
        tuning = replace(self._tuning, store_patience_s=min(self._tuning.store_patience_s, _FIRST_PATIENCE_S))
        Objects(self.place, tuning).holds_anything("")

    def upload(self, local: str, name: str) -> None:
        """Puts a finished local file up under its final name, whole or not at all, in place of what has that name."""
        import obstore  # noqa: PLC0415  an extra

        with translated(f"read {local}"), Path(local).open("rb") as file:
            checksum = hashlib.file_digest(file, "sha256").hexdigest()
            size = file.tell()
        kind = "application/vnd.apache.parquet" if name.endswith(_PARQUET) else "application/octet-stream"
        with self._large if size > _PART_BYTES else nullcontext():
            self._ask(
                f"upload {self.url(name)}",
                lambda: obstore.put(
                    self._store,
                    name,
                    Path(local),
                    attributes={"Content-Type": kind, _CHECKSUM: checksum},
                    chunk_size=_PART_BYTES,
                    max_concurrency=_PARTS_AT_ONCE,
                ),
            )

    def upload_all(self, files: Iterable[tuple[str, str]]) -> None:
        """Likewise for several files, of each its local path and its name; some of them side by side."""
        self.side_by_side(lambda file: self.upload(*file), files)

    def write_first(self, name: str, content: bytes) -> None:
        """A new small object, unless there is one of that name: of several that try, anywhere, the first one wins.

        In a store that knows no such condition, the last one wins of several that try at the same instant.
        """
        import obstore  # noqa: PLC0415  an extra
        from obstore.exceptions import AlreadyExistsError, BaseError  # noqa: PLC0415

        def put() -> None:
            try:
                obstore.put(self._store, name, content, mode="create")
            except AlreadyExistsError:
                pass
            except BaseError as error:
                if not re.search(_NO_CONDITIONS, str(error)):
                    raise
                obstore.put(self._store, name, content)

        if self.size(name) is None:
            self._ask(f"write {self.url(name)}", put)

    def content(self, name: str) -> bytes | None:
        """What is in a small object; None if there is no such object."""
        import obstore  # noqa: PLC0415  an extra

        try:
            return self._ask(f"read {self.url(name)}", lambda: bytes(obstore.get(self._store, name).bytes()))
        except NotThere:
            return None

    def side_by_side(self, do: Callable[[Item], object], items: Iterable[Item]) -> None:
        """Calls ``do`` for each, some at a time; waits for all, and raises what the first of them raises."""
        todo = list(items)
        if len(todo) <= 1:
            for item in todo:
                do(item)
            return
        with ThreadPoolExecutor(min(AT_ONCE, len(todo)), "objects") as pool:
            done = [pool.submit(do, item) for item in todo]
        for one in done:
            one.result()

    def holds(self, name: str, size: int, checksum: str) -> bool:
        """Whether the object is there, and is a file of this size and SHA-256."""
        import obstore  # noqa: PLC0415  an extra

        try:
            found = self._ask(
                f"look at {self.url(name)}", lambda: obstore.get(self._store, name, options={"head": True})
            )
        except NotThere:
            return False
        if found.meta["size"] != size:
            return False
        told = {key.lower(): value for key, value in found.attributes.items()}.get(_CHECKSUM)
        return told == checksum if told is not None else self.checksum(name) == checksum

    def size(self, name: str) -> int | None:
        """The object's size in bytes; None if there is none."""
        import obstore  # noqa: PLC0415  an extra

        try:
            return int(self._ask(f"look at {self.url(name)}", lambda: obstore.head(self._store, name))["size"])
        except NotThere:
            return None

    def _size(self, name: str) -> int:
        size = self.size(name)
        if size is None:
            raise LakeError(f"could not read {self.url(name)}: it is not there")
        return size

    def checksum(self, name: str) -> str:
        """The SHA-256 of the object's bytes, which are all read, in hexadecimal."""
        digest = hashlib.sha256()
        for part in self.parts(name):
            digest.update(part)
        return digest.hexdigest()

    @contextmanager
    def opened(self, name: str) -> Iterator[pa.NativeFile]:
        """The object, to read some of: each reading is a request."""
        with pa.PythonFile(_Ranges(self, name, self._size(name)), "r") as source:
            yield source

    @contextmanager
    def fetched(self, name: str) -> Iterator[Fetched]:
        """The whole object, fetched: a large one into a file that has no name, and so never outlives the process."""
        size = self._size(name)
        if size <= _PART_BYTES:
            content = self.read(name, 0, size) if size else b""
            with pa.BufferReader(content) as source:
                yield Fetched(source, len(content), hashlib.sha256(content).hexdigest())
            return
        with self._large, self._nameless() as file:
            size, checksum = self._fetch(name, file)
            file.seek(0)
            with pa.PythonFile(file, "r") as source:
                yield Fetched(source, size, checksum)

    def mapped(self, name: str, size: int) -> pa.Buffer:
        """All of an object that is so long, fetched: a large one into a file that has no name, read when needed."""
        if size <= _PART_BYTES:
            return pa.py_buffer(self.read(name, 0, size) if size else b"")
        with self._large, self._nameless() as file:
            self._fetch(name, file)
            return pa.py_buffer(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ))

    def _nameless(self) -> Any:  # noqa: ANN401  files without buffers have no common type
        """A temporary file beside those that are being written, or, where nothing may be written, wherever else."""
        with suppress(OSError):
            return tempfile.TemporaryFile(dir=self.place.state / layout.WRITING, buffering=0)
        return tempfile.TemporaryFile(buffering=0)

    def _fetch(self, name: str, file: Any) -> tuple[int, str]:  # noqa: ANN401  files without buffers have no common type
        """Writes all of an object to an unbuffered file; returns how many bytes, and their SHA-256."""
        digest = hashlib.sha256()
        size = 0
        for part in self.parts(name):
            digest.update(part)
            size += len(part)
            rest = memoryview(part)
            with translated(f"write a copy of {self.url(name)}"):
                while rest:
                    rest = rest[file.write(rest) :]
        return size, digest.hexdigest()

    def parts(self, name: str) -> Iterator[bytes]:
        """An object's bytes, part by part: each can be asked for again by itself."""
        size = self._size(name)
        for start in range(0, size, _PART_BYTES):
            yield self.read(name, start, min(size, start + _PART_BYTES))

    def read(self, name: str, start: int, end: int) -> bytes:
        """An object's bytes from ``start`` up to, but not with, ``end``."""
        import obstore  # noqa: PLC0415  an extra

        return self._ask(
            f"read {self.url(name)}", lambda: bytes(obstore.get_range(self._store, name, start=start, end=end))
        )

    def rename_all(self, names: Iterable[tuple[str, str]]) -> None:
        """Gives objects other names, in place of any that have them; some side by side. There are two for an instant.

        Raises LakeError if one is not there.
        """
        pairs = list(names)
        self.side_by_side(lambda pair: self._copy(*pair), pairs)
        self.remove_all(name for name, _ in pairs)

    def move(self, name: str, to: str) -> None:
        """Gives an object another name, which nothing has."""
        if self.size(to) is not None:
            raise LakeError(f"could not move {self.url(name)}: there is a {self.url(to)} already")
        self.rename_all([(name, to)])

    def _copy(self, name: str, to: str) -> None:
        import obstore  # noqa: PLC0415  an extra

        self._ask(f"copy {self.url(name)}", lambda: obstore.copy(self._store, name, to))
        if self.place.scheme == "abfs":  # which may answer before it has copied all
            self._await_copy(name, to)

    def _await_copy(self, name: str, to: str) -> None:
        until = time.monotonic() + self._tuning.store_patience_s
        while (size := self.size(name)) is not None and self.size(to) != size:
            if time.monotonic() > until:
                raise LakeAway(
                    f"could not copy {self.url(name)} to {self.url(to)}: the store has not done so in "
                    f"{self._tuning.store_patience_s:g} s. Run the same command again; nothing is lost"
                )
            time.sleep(_PAUSES_S[0])

    def remove(self, name: str) -> None:
        """Removes an object, if it is there."""
        import obstore  # noqa: PLC0415  an extra

        with suppress(NotThere):
            self._ask(f"remove {self.url(name)}", lambda: obstore.delete(self._store, name))

    def remove_all(self, names: Iterable[str]) -> None:
        """Removes objects, if they are there; some side by side."""
        self.side_by_side(self.remove, names)

    def entries(self, folder: str) -> list[tuple[str, bool]]:
        """What is right in a folder, by its bare name and in the names' order; with it, whether it is one itself."""
        import obstore  # noqa: PLC0415  an extra

        what = f"list {self.url(folder)}"
        found = self._ask(what, lambda: obstore.list_with_delimiter(self._store, folder or None))
        files = ((meta["path"].rpartition("/")[2], False) for meta in found["objects"])
        return sorted(chain(files, ((path.rpartition("/")[2], True) for path in found["common_prefixes"])))

    def names(self, folder: str) -> Iterator[str]:
        """The names of the objects right in a folder, as this lake names them."""
        return (f"{folder}/{name}" for name, is_folder in self.entries(folder) if not is_folder)

    def holds_anything(self, folder: str) -> bool:
        """Whether there is an object in a folder, or in one below it; ``""`` is the whole lake."""
        import obstore  # noqa: PLC0415  an extra

        def first() -> object:
            return next(iter(obstore.list(self._store, folder or None, chunk_size=1)), None)

        return bool(self._ask(f"list {self.url(folder)}", first))

    def _ask(self, what: str, do: Callable[[], Answer]) -> Answer:
        """What the store answers. Turns its errors into LakeAway; ``what`` completes "could not …".

        obstore asks again by itself what may pass, but for an answer that breaks off: that is done here. Everything
        that is asked may be asked twice. Raises NotThere if there is no such object.
        """
        assert self._store  # or this says that the packages are missing
        from obstore.exceptions import BaseError  # noqa: PLC0415  an extra

        until = time.monotonic() + self._tuning.store_patience_s
        for pause_s in chain(_PAUSES_S, repeat(_PAUSES_S[-1])):
            try:
                return do()
            except (BaseError, OSError, ValueError) as error:
                passes = isinstance(error, BaseError) and re.search(_BROKEN_OFF, str(error))
                if not passes or time.monotonic() + pause_s > until:
                    raise meaning(what, error, self.place.bucket) from error
            time.sleep(pause_s)
        raise AssertionError


class _Ranges(io.RawIOBase):
    """An object as a file that is read by ranges."""

    def __init__(self, objects: Objects, name: str, size: int) -> None:
        super().__init__()
        self._objects = objects
        self._name = name
        self._size = size
        self._at = 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._at

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        self._at = max(0, offset + {io.SEEK_SET: 0, io.SEEK_CUR: self._at, io.SEEK_END: self._size}[whence])
        return self._at

    def read(self, size: int | None = -1) -> bytes:
        end = self._size if size is None or size < 0 else min(self._size, self._at + size)
        if end <= self._at:
            return b""
        found = self._objects.read(self._name, self._at, end)
        self._at += len(found)
        return found


__all__ = ["AT_ONCE", "Fetched", "Objects"]
