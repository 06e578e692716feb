"""Events of a harvest: to structlog where the program has set it up, as the command line does.

Else to the standard library's logging, under the name ``harvester``, as is expected of a library: structlog that nobody
has set up would print them on standard output.
"""

from __future__ import annotations

import logging

import structlog

_NAME = "harvester"


class Events:
    """Says what happens, with facts by name."""

    def info(self, event: str, **facts: object) -> None:
        """What is in the ordinary course."""
        _say(logging.INFO, event, facts)

    def warning(self, event: str, **facts: object) -> None:
        """What somebody may want to do something about."""
        _say(logging.WARNING, event, facts)


def _say(level: int, event: str, facts: dict[str, object]) -> None:
    if structlog.is_configured():
        structlog.get_logger(_NAME).log(level, event, **facts)
    elif facts:
        told = ", ".join(f"{name}: {value}" for name, value in facts.items())
        logging.getLogger(_NAME).log(level, "%s (%s)", event, told)
    else:
        logging.getLogger(_NAME).log(level, event)


log = Events()

__all__ = ["Events", "log"]
