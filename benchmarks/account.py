"""A simulated account to measure with: started in a process of its own, and asked for pages."""

from __future__ import annotations

import json
import subprocess
import sys
import urllib.request
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from harvester.api.unpack import unpack
from harvester.datasets import MESSAGES, PAGE_CAP
from harvester.simulator.options import parse_sends

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from harvester.simulator import Sends

CAP_BYTES = 2**30
ROOT = Path(__file__).resolve().parent.parent
"""Where ``python -m benchmarks`` is to be found."""
_PIECE_BYTES = 2**16


@dataclass(frozen=True, slots=True)
class Served:
    """An account that is being served.

    Attributes:
        url: where.
        client_id: who may ask.
        client_md5: with which code.
        sends: what it holds.
    """

    url: str
    client_id: str
    client_md5: str
    sends: Sends

    @property
    def rows(self) -> int:
        return sum(self.sends.rows)

    def page(self, id_send: int, start: int | None = None, limit: int = PAGE_CAP) -> bytes:
        """A page of a send's messages, gzip, as it comes over the wire."""
        query = {"ID_send": str(id_send), "limit": str(limit)}
        if start is not None:
            query[MESSAGES.cursor or ""] = str(start)
        call = {"function": MESSAGES.function, "id": self.client_id, "md5": self.client_md5, "parameters": query}
        return self._asked("/json.fcgi", json.dumps(call).encode())

    def pages(self, id_send: int, ahead: int = -1) -> Iterator[bytes]:
        """All pages of a send, by the queries that a harvest asks: each starts so far ahead of the last key."""
        start: int | None = None
        while True:
            packed = self.page(id_send, start)
            yield packed
            records = msgspec.json.decode(unpacked(packed))
            if len(records) < PAGE_CAP:
                return
            start = int(records[-1]["ID_send_message"]) + ahead

    def make_pages(self, ahead: int = -1) -> None:
        """Has all pages made, if the account keeps them, so that it keeps up with whoever asks for them again."""
        for id_send in self.sends.ids:
            for _ in self.pages(id_send, ahead):
                pass

    def processor_s(self) -> float:
        """Processor time that serving has cost so far, in the account's own process."""
        return float(json.loads(self._asked("/stats"))["processor_s"])

    def _asked(self, path: str, payload: bytes | None = None) -> bytes:
        request = urllib.request.Request(
            f"{self.url}{path}", data=payload, headers={"Accept-Encoding": "gzip, deflate"}
        )
        with urllib.request.urlopen(request) as answer:
            return bytes(answer.read())


@contextmanager
def served(sends: str, *, shape: str = "plain", keep: bool = True) -> Iterator[Served]:
    """Serves an account while the context lasts.

    Args:
        sends: as ``harvester simulate --sends`` has it, such as ``8x75000``.
        shape: how it looks: see ``serving.SHAPES``.
        keep: whether pages are made once and kept, which takes memory (not ours).
    """
    command = [sys.executable, "-m", "benchmarks.serving", "--sends", sends, "--shape", shape]
    if keep:
        command.append("--keep")
    with subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        try:
            told: Mapping[str, Any] = json.loads(process.stdout.readline())
            yield Served(sends=parse_sends(sends), **told)
        finally:
            process.terminate()


def pieces(packed: bytes) -> tuple[bytes, ...]:
    """A packed body in pieces, as they come over the wire."""
    return tuple(packed[start : start + _PIECE_BYTES] for start in range(0, len(packed), _PIECE_BYTES))


def unpacked(packed: bytes) -> bytes:
    """The body itself."""
    return bytes(unpack([packed], "gzip", CAP_BYTES))


__all__ = ["CAP_BYTES", "ROOT", "Served", "pieces", "served", "unpacked"]
