"""A real PostgreSQL server for tests: started on a free port of this machine, with its data in a temporary folder.

It is found on the path or where Debian puts it. It refuses to run as root, so for root it runs as an unprivileged user.
"""

from __future__ import annotations

import os
import pwd
import secrets
import selectors
import shutil
import signal
import socket
import subprocess
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import quote

import psycopg
import pytest

from harvester.model import Secret

_UNPRIVILEGED = ("postgres", "nobody")
_OPTIONS = ("fsync=off", "synchronous_commit=off", "full_page_writes=off", "max_connections=60", "shared_buffers=16MB")
PASSWORD = "a pass/word@of:tests"
"""It takes every kind of escaping."""
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
    _process: subprocess.Popen[Any] | None = field(default=None, repr=False)

    def url(self, database: str, *, password: str | None = PASSWORD, port: int | None = None) -> Secret:
        """The URL of a database, as --ledger takes it."""
        secret = "" if password is None else f":{quote(password, safe='')}"
        return Secret(f"postgresql://{USER}{secret}@127.0.0.1:{port or self.port}/{database}")

    def start(self) -> None:
        """Starts it, and waits until it lets somebody in."""
        settings = [word for option in (*_OPTIONS, f"port={self.port}") for word in ("-c", option)]
        settings += ["-c", "listen_addresses=127.0.0.1", "-c", f"unix_socket_directories={self.home}"]
        with (self.home / "log").open("ab") as log:
            process = self._process = subprocess.Popen(
                [self._program, "-D", str(self.home / "data"), *settings], stdout=log, stderr=log, **_as(self._user)
            )
        while True:
            with suppress(psycopg.OperationalError):
                self.admin("SELECT 1")
                return
            if process.poll() is not None:
                raise RuntimeError((self.home / "log").read_text())

    def stop(self) -> None:
        """Stops it at once; what was committed is kept."""
        if self._process is not None:
            self._process.send_signal(signal.SIGQUIT)  # what it has not tidied up, it does when it starts
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


class Proxy:
    """Stands between a client and a server: counts round trips, and cuts connections off as a network would.

    Attributes:
        port: where it listens, on this machine.
        turns: how often a client began to speak after it had listened: so often did it wait for the server.
    """

    def __init__(self, server: Server) -> None:
        self._to = server.port
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = int(self._listener.getsockname()[1])
        self.turns = 0
        self._pairs: dict[int, tuple[socket.socket, socket.socket]] = {}
        self._open: list[socket.socket] = [self._listener]
        self._threads = [threading.Thread(target=self._accept, daemon=True)]
        self._threads[0].start()

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                try:
                    upstream = socket.create_connection(("127.0.0.1", self._to))
                except OSError:
                    client.close()
                    continue
                for one in (client, upstream):
                    one.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                self._pairs[upstream.getsockname()[1]] = client, upstream
                self._open += [client, upstream]
                self._threads.append(threading.Thread(target=self._carry, args=(client, upstream), daemon=True))
                self._threads[-1].start()

    def _carry(self, client: socket.socket, upstream: socket.socket) -> None:
        """Passes on what either says; one whose other end was cut off is not told."""
        listened = True
        with selectors.DefaultSelector() as both, suppress(OSError, ValueError):
            both.register(client, selectors.EVENT_READ, upstream)
            both.register(upstream, selectors.EVENT_READ, client)
            while True:
                for key, _ in both.select():
                    said = key.fileobj.recv(65536)  # type: ignore[union-attr]
                    if not said:
                        if key.data is upstream:
                            upstream.shutdown(socket.SHUT_RDWR)
                        return
                    self.turns += listened and key.data is upstream
                    listened = key.data is client
                    key.data.sendall(said)

    def cut(self, *ports: int) -> None:
        """Has the server lose its end of connections, by the ports that it sees (of all); clients notice nothing."""
        for port in ports or tuple(self._pairs):
            with suppress(OSError):
                self._pairs[port][1].shutdown(socket.SHUT_RDWR)

    def tell(self) -> None:
        """Has clients notice that their connections are gone."""
        for client, upstream in self._pairs.values():
            for one in (client, upstream):
                with suppress(OSError):
                    one.shutdown(socket.SHUT_RDWR)
        self._pairs.clear()

    def close(self) -> None:
        """Ends it."""
        self.tell()
        self._listener.shutdown(socket.SHUT_RDWR)
        for thread in self._threads:
            thread.join()
        for one in self._open:
            one.close()


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


def _as(user: str | None) -> dict[str, Any]:
    """Arguments of a process that is another user's."""
    if user is None:
        return {}
    return {"user": user, "group": pwd.getpwnam(user).pw_gid, "extra_groups": [], "cwd": "/"}


def _free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


__all__ = ["PASSWORD", "USER", "Proxy", "Server", "server"]
