"""How accounts and behaviour are written on the command line. Raises UsageError, with how to write it right."""

from __future__ import annotations

import re
from datetime import datetime

from harvester.config import parse_duration
from harvester.errors import UsageError
from harvester.simulator.behaviour import Fault
from harvester.simulator.spec import Sends, equal, listed, skewed

_COUNT = r"(\d[\d_]*)"
_EQUAL = re.compile(rf"{_COUNT}\s*x\s*{_COUNT}", re.ASCII)
_SKEWED = re.compile(rf"skewed:{_COUNT}:{_COUNT}", re.ASCII)
_NO_FAULT = "ok"
_LISTED = re.compile(rf"{_COUNT}\s*=\s*{_COUNT}", re.ASCII)


def parse_sends(text: str) -> Sends:
    """Sends as one of three texts says.

    ``6x2000`` is six sends of 2000 messages, ``skewed:24:1000000`` 24 unequal ones of a million messages together, and
    ``601181=12,601182=30000`` names each ``ID_send``.
    """
    text = text.strip()
    if found := _EQUAL.fullmatch(text):
        return equal(int(found[1]), int(found[2]))
    if found := _SKEWED.fullmatch(text):
        return skewed(int(found[1]), int(found[2]))
    pairs = [_LISTED.fullmatch(part.strip()) for part in text.split(",")]
    rows = {int(pair[1]): int(pair[2]) for pair in pairs if pair}
    if len(rows) != len(pairs):
        raise UsageError(
            f"{text!r} does not say which sends; write 6x2000, skewed:24:1000000 or 601181=12,601182=30000, no id twice"
        )
    return listed(rows)


def parse_faults(text: str) -> dict[Fault, float]:
    """Probabilities of faults from ``500=0.05,reset=0.02``; none from an empty text."""
    faults: dict[Fault, float] = {}
    for part in filter(None, (part.strip() for part in text.split(","))):
        name, _, share = part.partition("=")
        try:
            faults[Fault(name.strip())] = float(share)
        except ValueError as error:
            kinds = ", ".join(Fault)
            raise UsageError(
                f"{part!r} is not a fault and its probability; write 500=0.05,reset=0.02. There are: {kinds}"
            ) from error
    return faults


def parse_script(text: str) -> tuple[Fault | None, ...]:
    """What each of the first requests meets, from ``500,ok,reset``; nothing from an empty text."""
    script: list[Fault | None] = []
    for name in filter(None, (part.strip() for part in text.split(","))):
        try:
            script.append(None if name == _NO_FAULT else Fault(name))
        except ValueError as error:
            kinds = ", ".join(Fault)
            raise UsageError(f"{name!r} is not a fault; write 500,{_NO_FAULT},reset. There are: {kinds}") from error
    return tuple(script)


def parse_date(text: str) -> datetime:
    """A date without a zone, from ``2026-11-01`` or ``2026-11-01 14:30:00``."""
    try:
        found = datetime.fromisoformat(text.strip())
    except ValueError as error:
        raise UsageError(f"{text!r} is not a date; write 2026-11-01 or 2026-11-01T14:30:00") from error
    if found.tzinfo is not None:
        raise UsageError(f"{text!r} has a time zone; the API's dates have none")
    return found.replace(microsecond=0)


def parse_latency(text: str) -> tuple[float, float]:
    """The least and the most latency, in seconds, from ``0.4``, ``250ms`` or ``0.2..0.8``."""
    low, between, high = text.partition("..")
    try:
        return parse_duration(low), parse_duration(high if between else low)
    except UsageError as error:
        raise UsageError(f"{text!r} is not a latency; write 0.4, 250ms or 0.2..0.8") from error


__all__ = ["parse_date", "parse_faults", "parse_latency", "parse_script", "parse_sends"]
