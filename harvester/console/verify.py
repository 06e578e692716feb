"""What ``harvester verify`` prints of a lake."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from rich.text import Text

from harvester.console.exits import Exit, complain, status_of
from harvester.console.findings import Examples
from harvester.console.output import print_lines, print_object
from harvester.console.upkeep import Step, shown
from harvester.console.wording import count, size, span
from harvester.errors import HarvesterError
from harvester.places import as_arguments

if TYPE_CHECKING:
    from collections.abc import Iterator

    from rich.console import RenderableType

    from harvester.harvest.upkeep import Finding, Verification
    from harvester.model import Secret
    from harvester.places import Place

_MOST_SHOWN = 20
_MOST_LISTED = 10_000


@dataclass(frozen=True, slots=True)
class Verified:
    """What came of a verification: what was seen, what is wrong, and how long it took."""

    seen: Verification
    found: Examples[Finding]
    seconds: float

    @property
    def sound(self) -> bool:
        """Whether nothing is wrong."""
        return not self.found.total


def show_verified(lake: Place, ledger: Secret | None = None, *, quick: bool, json: bool) -> Exit:
    """Verify a lake, print what was found; the exit status says whether it is sound and complete. Raises LakeError."""
    verified = _verified(lake, ledger, quick=quick, most=_MOST_LISTED if json else _MOST_SHOWN)
    try:
        if json:
            print_object(_fields(verified), verified.found.shown, name="findings")
        else:
            print_lines(describe(verified, lake))
    except HarvesterError as error:
        complain(error)
        return status_of(error)
    return Exit.COMPLETE if verified.sound and verified.seen.complete else Exit.INCOMPLETE


def _verified(lake: Place, ledger: Secret | None, *, quick: bool, most: int) -> Verified:
    from harvester.harvest.upkeep import verifying  # noqa: PLC0415  help comes without its dependencies

    began = time.monotonic()
    found: Examples[Finding] = Examples(most)
    with verifying(lake, quick=quick, ledger=ledger) as seen:

        def step() -> Step:
            return Step("verifying", seen.files, seen.bytes, seen.all_bytes, seen.rows, found.total)

        with shown(step) as tick:
            for finding in seen.findings(tick):
                found.add(finding)
    return Verified(seen, found, time.monotonic() - began)


def describe(verified: Verified, lake: Place) -> Iterator[RenderableType]:
    """The verification for people, piece by piece."""
    seen, found = verified.seen, verified.found
    yield Text(str(lake), style="bold")
    for finding in found.shown:
        yield Text(f"{finding.kind}: {finding.file}" if finding.file else finding.kind, style="bold red")
        yield Text(f"  {finding.what}")
        yield Text(f"  {finding.remedy}", style="dim")
    if found.more:
        yield Text(f"… and {found.more:,} more (--json lists up to {_MOST_LISTED:,})")
    how = "without reading their data pages" if seen.quick else "every byte"
    yield Text(
        f"Looked at {count(seen.files, 'data file')} ({size(seen.bytes)}, {how}), {count(seen.rows, 'row')} of "
        f"{count(seen.slices, 'slice')}, in {span(verified.seconds)}."
    )
    yield from _remarks(seen)
    if not verified.sound:
        yield Text(f"Found {count(found.total, 'thing')} wrong.", style="bold red")
    elif seen.complete:
        yield Text("Nothing is wrong, and every slice is complete.", style="bold green")
    else:
        what = f"{count(seen.incomplete, 'slice is', 'slices are')} not complete" if seen.slices else "there is nothing"
        yield Text(
            f"Nothing is wrong, but {what} (harvester status {as_arguments(lake)} says more).", style="bold yellow"
        )


def _remarks(seen: Verification) -> Iterator[RenderableType]:
    """What is not wrong, and yet worth a line."""
    if seen.segments:
        yield Text(f"{count(seen.segments, 'page')} not in data files yet: the next run puts them there.")
    if seen.leftovers:
        yield Text(f"{count(seen.leftovers, 'file')} left over from a run that was cut off: the next run removes them.")
    if seen.set_aside:
        yield Text(f"{count(seen.set_aside, 'file')} set aside by recover, in _harvest/set-aside.")
    if seen.in_use:
        moved = f"; {count(seen.moving, 'slice')} changed too fast to be looked at" if seen.moving else ""
        yield Text(f"A run is at work on it{moved}.")


def _fields(verified: Verified) -> dict[str, Any]:
    seen = verified.seen
    return {
        "sound": verified.sound,
        "complete": seen.complete,
        "quick": seen.quick,
        "in_use": seen.in_use,
        "slices": seen.slices,
        "incomplete": seen.incomplete,
        "moving": seen.moving,
        "files": seen.files,
        "bytes": seen.bytes,
        "rows": seen.rows,
        "segments": seen.segments,
        "leftovers": seen.leftovers,
        "set_aside": seen.set_aside,
        "found": verified.found.total,
        "seconds": round(verified.seconds, 3),
    }


__all__ = ["Verified", "describe", "show_verified"]
