"""Object stores for tests: real servers on loopback, and a proxy in front of each that can fail on purpose.

``s3`` is moto's server. ``abfs`` is Azurite, where node and its package are (``make`` installs both). No emulator of
Google's own installs from PyPI, npm or Debian that speaks the XML API, which obstore uses: that API is S3's but for its
headers, so ``gs`` is moto's server, too, and the proxy in front translates these.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import http.client
import os
import shutil
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from email.utils import formatdate
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import obstore
import pytest

from harvester.config import Tuning
from harvester.lake.storage.connecting import connect
from harvester.places import ObjectLake
from tests.get_azurite import PROGRAM, node

ACCOUNT = "devstoreaccount1"
KEY = "Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw=="
"""Azurite's account and key, which everybody knows."""
BUCKET = "lakes"

PASS, BUSY, CUT, LOST = "pass", "busy", "cut", "lost"
HALF, MUTE, DENIED, ELSEWHERE = "half", "mute", "denied", "elsewhere"
"""What the proxy does with a request: hands it on; answers 503; hangs up; hands it on and then hangs up; sends half of
the answer; never answers; answers 403; answers 301, as S3 does for another region."""
STATUSES = {BUSY: 503, DENIED: 403, ELSEWHERE: 301}
Say = Callable[[str, str], str]
"""What is done with a request, by its method and path."""


@dataclass(slots=True)
class Proxy:
    """Between a run and its object store.

    Attributes:
        url: where it is.
        say: what is done with each request; it may be changed at any time.
        then: is called when a request has been handed on and answered, and nobody has the answer yet.
        seen: methods and paths of all requests, in order.
    """

    url: str
    say: Say
    then: Callable[[str, str], object] = lambda _method, _path: None
    seen: list[tuple[str, str]] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Stand:
    """An object store that is served, with a bucket in it, and a proxy in front.

    Attributes:
        scheme: of its URLs.
        environment: variables by which it is found, through the proxy.
        proxy: the proxy.
    """

    scheme: str
    environment: dict[str, str]
    proxy: Proxy

    def lake(self, folder: Path, prefix: str | None = None) -> ObjectLake:
        """A lake of its own, whose state is in a folder."""
        return ObjectLake(f"{self.scheme}://{BUCKET}/{prefix or folder.name}", folder / "state")


def mirror(lake: ObjectLake, folder: Path) -> Path:
    """Fetches every object of a lake into a folder, where a test reads it as any other lake."""
    store = connect(lake, Tuning())
    shutil.rmtree(folder, ignore_errors=True)
    for meta in (meta for batch in obstore.list(store) for meta in batch):
        path = folder / meta["path"]
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(bytes(obstore.get(store, meta["path"]).bytes()))
    return folder


@contextmanager
def between(upstream: str) -> Iterator[Proxy]:  # noqa: C901  a handler is a class
    """A proxy in front of a server."""
    host = urlsplit(upstream).netloc
    over = threading.Event()
    proxy = Proxy("", lambda _method, _path: PASS)

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def handle_one(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            proxy.seen.append((self.command, self.path))
            fate = proxy.say(self.command, self.path)
            if fate == MUTE:
                over.wait()
            if fate in {CUT, MUTE}:
                self.close_connection = True
                return
            if fate in STATUSES:
                self.answer(STATUSES[fate], {}, b"")
                return
            connection = http.client.HTTPConnection(host)
            connection.request(self.command, self.path, body, _for_s3(dict(self.headers)))
            answer = connection.getresponse()
            content = answer.read()
            headers = {name: value for name, value in answer.getheaders() if name.lower() not in HOP_BY_HOP}
            headers |= {_GS + name[len(_S3) :]: value for name, value in headers.items() if name.startswith(_S3)}
            length = answer.getheader("Content-Length", str(len(content)))
            connection.close()
            proxy.then(self.command, self.path)
            if fate == LOST:
                self.close_connection = True
            elif fate == HALF:
                self.answer(answer.status, headers, content[: len(content) // 2], length)
                self.close_connection = True
            else:
                self.answer(answer.status, headers, content, length)

        def answer(self, status: int, headers: dict[str, str], content: bytes, length: str | None = None) -> None:
            with suppress(OSError):
                self.send_response_only(status)
                for name, value in headers.items():
                    self.send_header(name, value)
                self.send_header("Content-Length", length or str(len(content)))
                self.end_headers()
                self.wfile.write(content)

        def log_message(self, format: str, *args: Any) -> None:  # noqa: A002  the name is the library's
            pass

        do_GET = do_PUT = do_HEAD = do_DELETE = do_POST = handle_one  # noqa: N815  the names are the library's

    class Server(ThreadingHTTPServer):
        daemon_threads = True
        request_queue_size = 64

        def handle_error(self, request: Any, client_address: Any) -> None:
            pass  # clients that are killed hang up

    with Server(("127.0.0.1", 0), Handler) as server:
        proxy.url = f"http://127.0.0.1:{server.server_address[1]}"
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
        thread.start()
        try:
            yield proxy
        finally:
            over.set()
            server.shutdown()
            thread.join()


_GS, _S3 = "x-goog-", "x-amz-"


def _for_s3(headers: dict[str, str]) -> dict[str, str]:
    """Headers of a request to Google Cloud Storage, as S3 calls them; others as they are."""
    found = {_S3 + name[len(_GS) :] if name.lower().startswith(_GS) else name: each for name, each in headers.items()}
    if found.pop(f"{_S3}if-generation-match", None) == "0":
        found["If-None-Match"] = "*"
    return found


HOP_BY_HOP = {"connection", "content-length", "keep-alive", "transfer-encoding"}
_MOTO = """
import sys, threading
from moto.server import ThreadedMotoServer
server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
server.start()
print("http://%s:%s" % server.get_host_and_port(), flush=True)
sys.stdin.read()
"""


@contextmanager
def moto() -> Iterator[str]:
    """moto's S3 server, in a process of its own, with a bucket; its URL."""
    command = [sys.executable, "-c", _MOTO]
    environment = os.environ | {"AWS_ACCESS_KEY_ID": "moto", "AWS_SECRET_ACCESS_KEY": "moto"}
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, env=environment
    ) as process:
        try:
            assert process.stdout is not None
            url = process.stdout.readline().strip()
            _ask(url, "PUT", f"/{BUCKET}", {"Host": "s3.amazonaws.com"})
            yield url
        finally:
            process.kill()


@contextmanager
def azurite() -> Iterator[str]:
    """Azurite's server of blobs, with a container; its URL, of the account. Skips the test where it can't be had."""
    program = node()
    if program is None or not PROGRAM.exists():
        pytest.skip("Azurite is not there: python -m tests.get_azurite installs it, where npm can be had")
    command = [program, str(PROGRAM), "--blobPort", "0", "--inMemoryPersistence", "--skipApiVersionCheck"]
    command += ["--disableTelemetry", "--silent"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as process:
        try:
            assert process.stdout is not None
            said = next(line for line in process.stdout if "successfully listens" in line)
            url = said.split()[-1]
            path = f"/{ACCOUNT}/{BUCKET}"
            _ask(url, "PUT", f"{path}?restype=container", _signed(path))
            yield url
        finally:
            process.kill()


def _ask(url: str, method: str, path: str, headers: dict[str, str]) -> None:
    connection = http.client.HTTPConnection(urlsplit(url).netloc)
    connection.request(method, path, headers={"Content-Length": "0", **headers})
    answer = connection.getresponse()
    told = answer.read()
    connection.close()
    assert answer.status in {200, 201}, (answer.status, told)


def _signed(path: str) -> dict[str, str]:
    """Headers by which Azure lets a container be made."""
    date, version = formatdate(usegmt=True), "2021-08-06"
    empty = "\n" * 12
    text = f"PUT{empty}x-ms-date:{date}\nx-ms-version:{version}\n/{ACCOUNT}{path}\nrestype:container"
    digest = hmac.new(base64.b64decode(KEY), text.encode(), hashlib.sha256).digest()
    signature = base64.b64encode(digest).decode()
    return {
        "x-ms-date": date,
        "x-ms-version": version,
        "Authorization": f"SharedKey {ACCOUNT}:{signature}",
    }


def environment_of(scheme: str, url: str) -> dict[str, str]:
    """The variables by which a server is found."""
    if scheme == "s3":
        return {"AWS_ENDPOINT_URL": url, "AWS_ACCESS_KEY_ID": "moto", "AWS_SECRET_ACCESS_KEY": "moto"}
    if scheme == "gs":
        return {"STORAGE_EMULATOR_HOST": url}
    pairs = {"AccountName": ACCOUNT, "AccountKey": KEY, "BlobEndpoint": f"{url}/{ACCOUNT}"}
    return {"AZURE_STORAGE_CONNECTION_STRING": ";".join(f"{name}={value}" for name, value in pairs.items())}


__all__ = [
    "BUCKET",
    "BUSY",
    "CUT",
    "DENIED",
    "ELSEWHERE",
    "HALF",
    "LOST",
    "MUTE",
    "PASS",
    "Proxy",
    "Stand",
    "azurite",
    "between",
    "environment_of",
    "mirror",
    "moto",
]
