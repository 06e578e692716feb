"""Processes that are killed around what they commit to tables: see ``tests/table_crashing.py``."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.table_crashing import STRIDE


@pytest.mark.timeout(600)
def test_after_any_kill_tables_hold_the_truth_in_sealings_that_are_numbered_without_gaps(tmp_path: Path) -> None:
    drivers = {}
    for table in ("delta", "iceberg"):
        (tmp_path / table).mkdir()
        command = [sys.executable, "-m", "tests.table_crashing", str(tmp_path / table), table]
        drivers[table] = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    told = {table: driver.communicate() for table, driver in drivers.items()}
    for table, (out, err) in told.items():
        assert drivers[table].returncode == 0, err
        places = [json.loads(line) for line in out.splitlines()]
        for settled in (False, True):
            *killed, undisturbed = [place["where"] for place in places if place["settled"] == settled]
            assert undisturbed is None
            assert None not in killed
            assert len(killed) >= 12 // STRIDE
