"""Turns: who works on the files of a slice has them alone, and different slices are worked on side by side."""

from __future__ import annotations

import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator


class Turns:
    """One turn at a time for each slice; kept for as long as somebody has it, or waits for it."""

    def __init__(self) -> None:
        self._changing = threading.Lock()
        self._turns: dict[int, tuple[threading.Lock, int]] = {}

    @contextmanager
    def of(self, slice_id: int) -> Iterator[None]:
        """Waits for the slice's turn, and has it. Not to be nested. Blocking."""
        with self._changing:
            turn, wanted = self._turns.get(slice_id, (threading.Lock(), 0))
            self._turns[slice_id] = (turn, wanted + 1)
        try:
            with turn:
                yield
        finally:
            with self._changing:
                wanted = self._turns[slice_id][1] - 1
                self._turns[slice_id] = (turn, wanted)
                if not wanted:
                    del self._turns[slice_id]


__all__ = ["Turns"]
