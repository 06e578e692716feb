"""How much is tried: a part of it in CI, and all with ``TEST_STRIDE=1``, as ``make test-all`` and ``make soak`` say."""

from __future__ import annotations

import os
from collections.abc import Iterable
from typing import Any

import pytest

STRIDE = int(os.environ.get("TEST_STRIDE", "17"))
"""Of durable steps one after the other, every so manieth is tried."""
THOROUGH = STRIDE == 1

thorough = pytest.mark.skipif(not THOROUGH, reason="make test-all runs it; another test sees most of the same")


def some(values: Iterable[Any], kept: int) -> list[Any]:
    """Parameters: so many of them always, and the others where everything is tried; each tries most of the same."""
    listed = [value if isinstance(value, tuple) else (value,) for value in values]
    assert 0 < kept < len(listed)
    return [pytest.param(*each, marks=[thorough] if place >= kept else []) for place, each in enumerate(listed)]


def examples(most: int) -> int:
    """How many examples a property is tried on, of so many."""
    return most if THOROUGH else max(10, most // 6)


__all__ = ["STRIDE", "THOROUGH", "examples", "some", "thorough"]
