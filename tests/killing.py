"""Runs into an object store that are killed, for real, in the midst of an upload; and where that upload then ends."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

from harvester.places import ObjectLake
from harvester.simulator.server import Server
from tests.object_stores import CUT, PASS, Stand

BEFORE, AFTER, LATE = "before", "after", "late"
"""When a run is killed: before the store has the file; when it has it, and the run doesn't know; while it has all of
it, and says so to nobody until the next run has uploaded something."""


class Killing:
    """One lake, and the runs that fill it."""

    def __init__(self, stand: Stand, lake: ObjectLake, server: Server) -> None:
        self.lake = lake
        self._stand = stand
        self._server = server
        self._late = threading.Event()

    def run(self, *more: str) -> None:
        """A run that comes to its end."""
        process = self._start(*more)
        out, err = process.communicate()
        assert process.returncode == 0, err
        assert json.loads(out)["complete"]

    def killed(self, number: int, when: str, *more: str) -> None:
        """A run that is killed at its ``number``-th upload."""
        begun, done = threading.Event(), threading.Event()
        turn = threading.Lock()
        uploads = 0
        process: subprocess.Popen[str]
        before = self._late
        self._late = threading.Event()
        fatal: list[str] = []

        def kill() -> None:
            process.kill()
            process.wait()
            done.set()

        def say(method: str, path: str) -> str:
            nonlocal uploads
            if method != "PUT":
                return PASS
            begun.wait()
            with turn:
                uploads += 1
                if uploads != number:
                    return PASS
                if when == AFTER:
                    fatal.append(path)
                    return PASS
                kill()
            if when == LATE:
                self._late.wait()
                return PASS
            return CUT

        def then(method: str, path: str) -> None:
            if path in fatal:
                kill()
            elif method == "PUT":
                before.set()

        late, self._stand.proxy.say, self._stand.proxy.then = self._late, say, then
        process = self._start(*more)
        begun.set()
        _, err = process.communicate()
        assert process.returncode == -signal.SIGKILL, (process.returncode, err)
        assert done.is_set()
        self._stand.proxy.say = lambda *_: PASS
        self._stand.proxy.then = lambda method, _path: late.set() if method == "PUT" else None

    def _start(self, *more: str) -> subprocess.Popen[str]:
        spec = self._server.account.spec
        command = [sys.executable, "-m", "harvester", "run", "--lake", self.lake.url, "--state", str(self.lake.state)]
        command += ["--endpoint", self._server.url, "--client-id", spec.client_id, "--json", "--log-format", "text"]
        command += ["--rate", "1000", "--burst", "100", "--limit", "100", "--dataset", "messages", *more, "--send"]
        command += map(str, spec.sends.ids)
        environment = os.environ | self._stand.environment | {"HARVESTER_CLIENT_MD5": spec.client_md5}
        environment["PYTHONPATH"] = os.pathsep.join([str(Path(__file__).parents[1]), environment.get("PYTHONPATH", "")])
        return subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
