"""Upkeep of a lake, for the console: verifying it, and recovering it. Neither asks the API for anything."""

from harvester.lake.findings import Finding, Kind
from harvester.lake.verify import Verification, verifying

__all__ = ["Finding", "Kind", "Verification", "verifying"]
