"""The code holds to the house: imports point one way (DESIGN)."""

import ast
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parent.parent / "harvester"
NOUNS = {"model", "datasets", "errors", "events", "config", "budget", "places", "redaction", "__init__"}
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

LAKE = PACKAGE / "lake"
WITHIN_LAKE = {"storage": {"storage", "layout"}, "ledgers": {"ledgers", "storage", "layout"}}
"""What the lower rooms of the lake's wing may import of it; of the others none but ``upkeep`` may import that."""


def names_imported(module: Path) -> list[list[str]]:
    """The parts of each name of ours that a module imports, type-checking imports included."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(module.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{module}: relative import"
            names |= {
                f"{node.module}.{alias.name}" if node.module in {"harvester", "harvester.lake"} else str(node.module)
                for alias in node.names
            }
    return [name.split(".") for name in names if name.split(".")[0] == "harvester"]


def imported(module: Path) -> set[str]:
    """The rooms of the house that a module imports from."""
    ours = names_imported(module)
    return {"__init__" if len(parts) == 1 or parts[1].startswith("__version") else parts[1] for parts in ours}


@pytest.mark.parametrize("module", sorted(PACKAGE.rglob("*.py")), ids=lambda path: str(path.relative_to(PACKAGE)))
def test_imports_point_one_way(module: Path) -> None:
    room = module.relative_to(PACKAGE).parts[0].removesuffix(".py")
    assert imported(module) <= MAY_IMPORT[room]


@pytest.mark.parametrize("module", sorted(LAKE.rglob("*.py")), ids=lambda path: str(path.relative_to(LAKE)))
def test_imports_point_one_way_in_the_lake_as_well(module: Path) -> None:
    room = module.relative_to(LAKE).parts[0].removesuffix(".py")
    others = {parts[2] for parts in names_imported(module) if parts[1] == "lake" and len(parts) > 2}
    assert others <= WITHIN_LAKE.get(room, others)
    assert room == "upkeep" or "upkeep" not in others
