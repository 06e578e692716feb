"""What ``harvester table`` prints of a lake's tables."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich.text import Text

from harvester.console.exits import Exit
from harvester.console.output import print_lines
from harvester.console.wording import count

if TYPE_CHECKING:
    from collections.abc import Iterator

    from harvester.config import TableChoice
    from harvester.harvest.upkeep import Tabled
    from harvester.model import Secret
    from harvester.places import Place


def table_lake(lake: Place, wanted: TableChoice | None, ledger: Secret | None = None) -> Exit:
    """Give a lake tables, or bring them in step, and say which there are. Raises UsageError, LakeError."""
    from harvester.harvest.upkeep import make_tables  # noqa: PLC0415  help comes without its dependencies

    print_lines(describe(lake, make_tables(lake, wanted, ledger=ledger)))
    return Exit.COMPLETE


def describe(lake: Place, tabled: Tabled) -> Iterator[Text]:
    """The tables, for people, line by line."""
    yield Text(f"{lake}: {tabled.chosen}", style="bold")
    for name, files in tabled.files.items():
        yield Text(f"  {name}: {count(files, 'data file')}, {count(tabled.sealings[name], 'sealing')}")
    if not tabled.files:
        yield Text("  There are no data files yet: each dataset becomes a table with its first one.")
        return
    yield Text("Read the tables from now on, not the folders: a folder also holds files that were replaced.")


__all__ = ["describe", "table_lake"]
