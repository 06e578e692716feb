"""Where a lake is: in a folder, or in an object store, with what is not data in a local folder (its *state*).

Nothing here touches a file or a network.
"""

from __future__ import annotations

import os
import re
import shlex
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import TypeAlias
from urllib.parse import urlsplit

from harvester.errors import UsageError

_SCHEMES = {"s3": "s3", "gs": "gs", "abfs": "abfs", "abfss": "abfs"}
_URL = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*)://")
_EXAMPLES = {
    "s3": "s3://bucket/prefix",
    "gs": "gs://bucket/prefix",
    "abfs": "abfs://container@account.dfs.core.windows.net/prefix, or abfs://container/prefix",
}
_LONGEST_NAME = 80


@dataclass(frozen=True, slots=True)
class ObjectLake:
    """A lake whose data files are in an object store.

    Attributes:
        url: the lake, without a slash at its end; its scheme is ``s3``, ``gs`` or ``abfs``.
        state: the local folder that holds its ledger, segments and lock, in ``_harvest/``.
    """

    url: str
    state: Path

    def __str__(self) -> str:
        return self.url

    @property
    def scheme(self) -> str:
        """Which kind of object store it is: ``s3``, ``gs`` or ``abfs``."""
        return self.url.partition("://")[0]

    @property
    def bucket(self) -> str:
        """The bucket; Azure calls it a container."""
        parts = urlsplit(self.url)
        return parts.username or parts.netloc

    @property
    def host(self) -> str | None:
        """Azure's host of the account, as the URL names it; None where it doesn't."""
        parts = urlsplit(self.url)
        return parts.hostname if parts.username else None

    @property
    def prefix(self) -> str:
        """What the names of all its objects begin with, without a slash at either end; empty for a whole bucket."""
        return urlsplit(self.url).path.strip("/")


Place: TypeAlias = Path | ObjectLake
"""Where a lake is."""


def place_of(lake: str, state: Path | None = None) -> Place:
    """Where a lake is that was named by a folder or a URL.

    Args:
        lake: a folder, or a URL such as ``s3://bucket/prefix``.
        state: of a lake in an object store, the local folder of its ledger; if None, one that follows from the URL.

    Raises:
        UsageError: it names no folder and no object store, or ``state`` does not go with it.
    """
    if not lake:
        raise UsageError("the lake: the path is empty")
    found = _URL.match(lake)
    if not found:
        if state is not None:
            raise UsageError("--state goes with a lake in an object store: a lake in a folder has all of it in there")
        return Path(lake).expanduser()
    scheme = _SCHEMES.get(found[1].lower())
    if scheme is None:
        schemes = ", ".join(f"{name}://" for name in _SCHEMES)
        raise UsageError(f"{lake}: a lake is in a folder, or in an object store named by one of {schemes}")
    url = f"{scheme}://{lake[found.end() :].rstrip('/')}"
    parts = urlsplit(url)
    named = bool(parts.hostname) and (bool(parts.username) == ("@" in parts.netloc))
    plain = not (parts.query or parts.fragment or parts.password) and (not parts.username or scheme == "abfs")
    if not named or not plain or "//" in parts.path or any(part in {".", ".."} for part in parts.path.split("/")):
        raise UsageError(f"{lake} does not name a place in an object store; write it like {_EXAMPLES[scheme]}")
    return ObjectLake(url, (state or default_state(url)).expanduser())


def default_state(url: str) -> Path:
    """The local folder of a lake in an object store: the same for the same URL and user."""
    told = os.environ.get("XDG_STATE_HOME", "")
    home = Path(told) if told.startswith("/") else Path("~/.local/state")
    name = re.sub(r"[^A-Za-z0-9._=-]+", "-", url)[:_LONGEST_NAME]
    return home / "harvester" / f"{name}-{sha256(url.encode()).hexdigest()[:8]}"


def as_arguments(place: Place) -> str:
    """How a command names this lake, ready for a shell."""
    if isinstance(place, Path):
        return shlex.quote(str(place))
    usual = place.state == default_state(place.url).expanduser()
    return shlex.quote(place.url) + ("" if usual else f" --state {shlex.quote(str(place.state))}")


def state_of(place: Place) -> Path:
    """The local folder that holds a lake's ``_harvest/``: the lake itself, if it is a folder."""
    return place if isinstance(place, Path) else place.state


__all__ = ["ObjectLake", "Place", "as_arguments", "default_state", "place_of", "state_of"]
