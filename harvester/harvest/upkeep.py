"""Upkeep of a lake, for the console: verifying, recovering, and tables. None of it asks the API for anything."""

from harvester.lake.compacting import Compacted, compact
from harvester.lake.findings import Finding, Kind
from harvester.lake.rebuilding import Aside
from harvester.lake.recovering import Recovered, recover
from harvester.lake.tabling import Tabled, make_tables
from harvester.lake.verify import Verification, verifying

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
