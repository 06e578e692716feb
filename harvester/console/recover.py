"""What ``harvester recover`` prints of what it did."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich.text import Text

from harvester.console.exits import Exit, complain, status_of
from harvester.console.output import print_lines
from harvester.console.upkeep import Step, shown
from harvester.console.wording import count
from harvester.errors import HarvesterError
from harvester.redaction import in_words

if TYPE_CHECKING:
    from collections.abc import Iterator

    from rich.console import RenderableType

    from harvester.harvest.upkeep import Recovered
    from harvester.model import Secret
    from harvester.places import Place

_MOST = 20


def recover_lake(lake: Place, ledger: Secret | None = None) -> Exit:
    """Recover a lake and say what was done. Raises LakeError."""
    from harvester.harvest.upkeep import Recovered, recover  # noqa: PLC0415  help comes without its dependencies

    done = Recovered()

    def step() -> Step:
        return Step("recovering", done.files, done.bytes, None, done.rows, len(done.aside))

    with shown(step) as tick:
        recover(lake, done, tick, ledger=ledger)
    try:
        print_lines(describe(done, lake))
    except HarvesterError as error:
        complain(error)
        return status_of(error)
    return Exit.COMPLETE


def describe(done: Recovered, lake: Place) -> Iterator[RenderableType]:
    """What was done, for people, piece by piece."""
    yield Text(str(lake), style="bold")
    if done.why is not None:
        yield Text(f"The old ledger could not be used: {done.why}")
    yield _done(done)
    if done.moved:
        yield Text(
            "The lake has been moved or copied: its Iceberg tables were made anew where it is now, without their "
            "earlier states. What they were is set aside."
        )
    yield from _set_aside(done)
    for finding in done.left[:_MOST]:
        yield Text(f"left as it is: {finding.file or finding.kind}: {finding.what} {finding.remedy}", style="yellow")
    if done.rebuilt or done.slices:
        open_slices = done.slices - done.complete
        missing = f" of {count(open_slices, 'slice')}" if open_slices else ""
        rowless = ", and for sends without rows, since no file tells of them" if done.rebuilt else ""
        yield Text(
            f"Next: run the same command as before (harvester run …). It asks for what is missing{missing}{rowless}."
        )


def _done(done: Recovered) -> Text:
    held = (
        f"{count(done.files, 'data file')} with {count(done.rows, 'row')}; "
        f"{done.complete:,} of {count(done.slices, 'slice')} complete"
    )
    if done.rebuilt:
        whose = f" of the account {done.account}" if done.account else ""
        how = f", harvested {in_words(done.redaction)}," if done.redaction else ""
        return Text(f"Made a new ledger{whose}{how} from {held}.")
    if done.slices:
        return Text(f"The ledger is sound. Mended what it says of {count(done.slices, 'slice')}: {held}.")
    if done.aside:
        return Text("The ledger is sound, and was not changed.")
    return Text("The ledger is sound, and the data files are what it says: nothing was changed.", style="bold green")


def _set_aside(done: Recovered) -> Iterator[RenderableType]:
    for file in done.aside[:_MOST]:
        yield Text(f"set aside: {file.name}", style="bold")
        yield Text(f"  {file.why}")
    if len(done.aside) > _MOST:
        yield Text(f"… and {len(done.aside) - _MOST:,} more")
    if done.segments:
        yield Text(f"Set aside {count(done.segments, 'page')} that were in no data file yet; they are asked for again.")
    if done.kept is not None:
        yield Text(f"The old ledger is kept as {done.kept}.")
    if done.shown is not None:
        yield Text(f"What was set aside is in {done.shown}. Nothing was deleted.")


__all__ = ["describe", "recover_lake"]
