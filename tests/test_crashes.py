"""Processes that end at every durable step of a harvest and of a refresh, one by one: see ``tests/crashing.py``."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.crashing import HARVEST, REFRESH, WIDE
from tests.thorough import STRIDE

KINDS = {
    HARVEST: {"mkdir", "fsync", "replace", "unlink", "commit"},
    REFRESH: {"fsync", "replace", "unlink", "commit"},
    WIDE: {"mkdir", "fsync", "replace", "unlink", "commit"},
}


@pytest.mark.timeout(400)
def test_a_process_that_ends_at_any_durable_step_loses_and_doubles_nothing(tmp_path: Path) -> None:
    drivers = {}
    for what in KINDS:
        (tmp_path / what).mkdir()
        command = [sys.executable, "-m", "tests.crashing", str(tmp_path / what), what]
        drivers[what] = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    told = {what: driver.communicate() for what, driver in drivers.items()}
    for what, (out, err) in told.items():
        assert drivers[what].returncode == 0, err
        *stopped, undisturbed = map(json.loads, out.splitlines())
        assert undisturbed["step"] is None
        assert len(stopped) > 30 / STRIDE
        kinds = {run["step"] for run in stopped}
        assert kinds == KINDS[what] if STRIDE == 1 else kinds <= KINDS[what]
        # One query at a time, and one answer more may be on its way into the lake.
        assert max(run["asked"] for run in stopped) <= undisturbed["asked"] + 2
