"""Giving tables to a lake that has none yet, and having those that it has hold what the ledger says."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from harvester.config import Tuning
from harvester.errors import UsageError
from harvester.lake.formats.choosing import logs_of
from harvester.lake.lake import look_into, open_lake

if TYPE_CHECKING:
    from harvester.config import TableChoice
    from harvester.model import Secret
    from harvester.places import Place


@dataclass(frozen=True, slots=True)
class Tabled:
    """A lake's tables.

    Attributes:
        chosen: which they are.
        sealings: of each dataset that has a table, how many transactions it has.
        files: likewise, how many data files it holds.
    """

    chosen: TableChoice
    sealings: dict[str, int]
    files: dict[str, int]


def make_tables(
    root: Place, wanted: TableChoice | None, tuning: Tuning | None = None, ledger: Secret | None = None
) -> Tabled:
    """Gives a lake tables, or brings those that it has in step; nothing is asked of the API. Blocking.

    Args:
        root: the lake, which nobody else is using.
        wanted: which tables; None for those that it has.
        tuning: says how large sealings are.
        ledger: the URL of the database that the lake's ledger is in; None for beside its data.

    Raises:
        UsageError: it has other tables, or none and it isn't said which; or a package is missing.
        LakeError: there is no lake, it is in use, or it can't be written.
    """
    with look_into(root, ledger):  # which says so if there is none: opening would make one
        pass
    with open_lake(root, tuning or Tuning(), ledger=ledger, table=wanted) as lake:
        chosen = lake.runs.table()
        if chosen is None:
            raise UsageError(f"{root} has no tables yet: say which it is to have, with --format delta or iceberg")
        states = {name: log.look() for name, log in logs_of(lake.store, chosen, lake.runs.partition_by).items()}
    return Tabled(
        chosen,
        {name: state.sealing for name, state in states.items() if state.sealing},
        {name: len(state.files) for name, state in states.items() if state.sealing},
    )


__all__ = ["Tabled", "make_tables"]
