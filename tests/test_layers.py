"""The code holds to the house: imports point one way (DESIGN)."""

import ast
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parent.parent / "harvester"
NOUNS = {"model", "datasets", "errors", "config", "budget", "places", "redaction", "__init__"}
MAY_IMPORT = {
    "console": {"console", "harvest", "simulator"} | NOUNS,
    "streaming": {"streaming", "harvest", "api", "lake"} | NOUNS,
    "harvest": {"harvest", "api", "lake"} | NOUNS,
    "api": {"api"} | NOUNS,
    "lake": {"lake"} | NOUNS,
    "simulator": {"simulator"} | NOUNS,
    "__main__": {"console"},
} | dict.fromkeys(NOUNS, NOUNS)
MAY_IMPORT["__init__"] = NOUNS | {"streaming"}  # what programs call, by the package's own name


def imported(module: Path) -> set[str]:
    """The rooms of the house that a module imports from, type-checking imports included."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(module.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{module}: relative import"
            names |= {
                f"{node.module}.{alias.name}" if node.module == "harvester" else str(node.module)
                for alias in node.names
            }
    ours = [name.split(".") for name in names if name.split(".")[0] == "harvester"]
    return {"__init__" if len(parts) == 1 or parts[1].startswith("__version") else parts[1] for parts in ours}


@pytest.mark.parametrize("module", sorted(PACKAGE.rglob("*.py")), ids=lambda path: str(path.relative_to(PACKAGE)))
def test_imports_point_one_way(module: Path) -> None:
    room = module.relative_to(PACKAGE).parts[0].removesuffix(".py")
    assert imported(module) <= MAY_IMPORT[room]
