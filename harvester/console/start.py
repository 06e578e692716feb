"""Where the program begins: quiet while the rest is loaded, which takes a moment.

Invariant: a signal at any instant ends in an exit status and at most a sentence. This module imports next to nothing,
so that the instants before its handlers are in place are few.
"""

from __future__ import annotations

import os
import signal
import sys
from typing import NoReturn

_INTERRUPTED = 130
_SIGNALS = (signal.SIGINT, signal.SIGTERM)


def main() -> NoReturn:
    """Start here."""
    before = [signal.signal(number, _stop_at_once) for number in _SIGNALS]
    _never_without_streams()
    from harvester.console.settling import loading, settle  # noqa: PLC0415  before anything else

    settle()
    with loading():
        from harvester.console.cli import command_line  # noqa: PLC0415  this is the moment that it takes

    for number, handler in zip(_SIGNALS, before, strict=True):
        signal.signal(number, handler)
    sys.exit(command_line(sys.argv[1:]))


def _stop_at_once(_number: int, _frame: object) -> None:
    """Nothing has begun yet, so there is nothing to finish."""
    os.write(2, b"harvester: interrupted\n")
    os._exit(_INTERRUPTED)


def _never_without_streams() -> None:
    """A process may be started with its standard streams closed: what is written there then goes nowhere."""
    if sys.stdout is None:
        sys.stdout = open(os.devnull, "w", encoding="utf-8")  # noqa: SIM115, PTH123  for as long as the process lives
    if sys.stderr is None:
        sys.stderr = open(os.devnull, "w", encoding="utf-8")  # noqa: SIM115, PTH123  likewise


__all__ = ["main"]
