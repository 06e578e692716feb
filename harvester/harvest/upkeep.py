"""Upkeep of a lake, for the console: verifying it, and recovering it. Neither asks the API for anything."""

from harvester.lake.compacting import Compacted, compact
from harvester.lake.findings import Finding, Kind
from harvester.lake.rebuilding import Aside
from harvester.lake.recovering import Recovered, recover
from harvester.lake.verify import Verification, verifying

__all__ = ["Aside", "Compacted", "Finding", "Kind", "Recovered", "Verification", "compact", "recover", "verifying"]
