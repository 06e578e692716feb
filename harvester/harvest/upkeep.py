"""Upkeep of a lake, for the console: verifying, recovering, and tables. None of it asks the API for anything."""

from harvester.lake.formats.tabling import Tabled, make_tables
from harvester.lake.upkeep.compacting import Compacted, compact
from harvester.lake.upkeep.findings import Finding, Kind
from harvester.lake.upkeep.rebuilding import Aside
from harvester.lake.upkeep.recovering import Recovered, recover
from harvester.lake.upkeep.verify import Verification, verifying

__all__ = [
    "Aside",
    "Compacted",
    "Finding",
    "Kind",
    "Recovered",
    "Tabled",
    "Verification",
    "compact",
    "make_tables",
    "recover",
    "verifying",
]
