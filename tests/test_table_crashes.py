"""Processes that are killed around what they tell tables: see ``tests/table_crashing.py``."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.table_crashing import WORKS
from tests.tables import KINDS
from tests.thorough import STRIDE


@pytest.mark.timeout(1800)
def test_after_any_kill_tables_hold_the_truth_in_sealings_that_are_numbered_without_gaps(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "tests.table_crashing", str(tmp_path)]
    driver = subprocess.run(command, capture_output=True, text=True, check=False)
    assert driver.returncode == 0, driver.stderr
    places = [json.loads(line) for line in driver.stdout.splitlines()]
    for table, by in KINDS if STRIDE == 1 else KINDS[2:]:
        for work in WORKS:
            of_work = {"table": str(table), "by": by.value, "work": work}
            killed = [place["killed"] for place in places if of_work.items() <= place.items()]
            if STRIDE == 1:
                assert killed.pop() is None
                assert len(killed) >= (6 if work == "compact" else 8), "files that are merged are one sealing"
            assert killed
            assert None not in killed
