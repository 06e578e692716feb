"""A real PostgreSQL server for tests: started on a free port of this machine, with its data in a temporary folder.

It is found on the path or where Debian puts it. It refuses to run as root, so for root it runs as an unprivileged user.
"""

from __future__ import annotations

import os
import pwd
import secrets
import shutil
import socket
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

import psycopg
import pytest

_UNPRIVILEGED = ("postgres", "nobody")
_OPTIONS = ("fsync=off", "synchronous_commit=off", "full_page_writes=off", "max_connections=60", "shared_buffers=16MB")
PASSWORD = "a pass/word@of:tests"
USER = "harvester"


@dataclass
class Server:
    """A server that listens on this machine alone.

    Attributes:
        port: its port, which stays the same when it is started again.
        home: its data.
    """

    port: int
    home: Path
    _program: str
    _user: str | None
    _process: subprocess.Popen[bytes] | None = field(default=None, repr=False)

    def url(self, database: str, *, user: str = USER, password: str | None = "a%20pass%2Fword%40of%3Atests") -> str:
        """The URL of a database, as --ledger takes it."""
        secret = "" if password is None else f":{password}"
        return f"postgresql://{user}{secret}@127.0.0.1:{self.port}/{database}"

    def start(self) -> None:
        """Starts it, and waits until it lets somebody in."""
        settings = [word for option in (*_OPTIONS, f"port={self.port}") for word in ("-c", option)]
        settings += ["-c", "listen_addresses=127.0.0.1", "-c", f"unix_socket_directories={self.home}"]
        with (self.home / "log").open("ab") as log:
            self._process = subprocess.Popen(
                [self._program, "-D", str(self.home / "data"), *settings], stdout=log, stderr=log, **_as(self._user)
            )
        while True:
            with suppress(psycopg.OperationalError):
                self.admin("SELECT 1")
                return
            if self._process.poll() is not None:
                raise RuntimeError((self.home / "log").read_text())

    def stop(self) -> None:
        """Stops it at once; what was committed is kept."""
        if self._process is not None:
            self._process.terminate()  # smart: it would wait for its clients
            self._process.send_signal(2)  # fast: it ends their sessions
            self._process.wait()
            self._process = None

    def admin(self, statement: str, database: str = "postgres") -> list[tuple[object, ...]]:
        """Does something as the server's superuser."""
        address = f"host=127.0.0.1 port={self.port} user={USER} dbname={database} connect_timeout=10"
        with psycopg.connect(address, password=PASSWORD, autocommit=True) as connection:
            cursor = connection.execute(statement.encode())
            return cursor.fetchall() if cursor.description else []

    def database(self) -> str:
        """Makes a database of its own, and returns its name."""
        name = f"lake_{secrets.token_hex(6)}"
        self.admin(f"CREATE DATABASE {name} LOCALE_PROVIDER icu ICU_LOCALE 'cs-CZ' TEMPLATE template0")
        return name


@contextmanager
def server() -> Iterator[Server]:
    """A server while the block lasts; the test is skipped where there is none to be had."""
    programs = _programs()
    if programs is None:
        pytest.skip("there is no PostgreSQL server; on Debian and Ubuntu: apt-get install postgresql")
    user = _unprivileged() if os.geteuid() == 0 else None
    home = Path(tempfile.mkdtemp(prefix="pg-"))
    try:
        if user is not None:
            shutil.chown(home, user)
        made = Server(_free_port(), home, str(programs / "postgres"), user)
        (home / "password").write_text(PASSWORD)
        initdb = [str(programs / "initdb"), "-D", str(home / "data"), "-U", USER, "--auth=scram-sha-256"]
        initdb += [f"--pwfile={home / 'password'}", "--no-sync", "--encoding=UTF8", "--locale=C"]
        done = subprocess.run(initdb, capture_output=True, text=True, check=False, **_as(user))
        assert done.returncode == 0, done.stderr
        try:
            made.start()
            yield made
        finally:
            made.stop()
    finally:
        shutil.rmtree(home, ignore_errors=True)


def _programs() -> Path | None:
    """The folder of the server's programs, of the newest version."""
    on_path = shutil.which("postgres")
    candidates = [Path(on_path).resolve().parent] if on_path else []
    candidates += sorted(Path("/usr/lib/postgresql").glob("*/bin"), key=lambda path: path.parent.name, reverse=True)
    candidates += [Path("/usr/local/pgsql/bin"), Path("/opt/homebrew/bin")]
    return next((path for path in candidates if (path / "initdb").exists() and (path / "postgres").exists()), None)


def _unprivileged() -> str:
    names = {entry.pw_name for entry in pwd.getpwall()}
    return next(name for name in _UNPRIVILEGED if name in names)


def _as(user: str | None) -> dict[str, object]:
    """Arguments of a process that is another user's."""
    if user is None:
        return {}
    return {"user": user, "group": pwd.getpwnam(user).pw_gid, "extra_groups": [], "cwd": "/"}


def _free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


__all__ = ["PASSWORD", "USER", "Server", "server"]
