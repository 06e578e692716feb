"""What all tests share: asyncio alone under anyio, and property tests that try the same examples every time."""

from __future__ import annotations

import pytest
from hypothesis import HealthCheck, settings

settings.register_profile(
    "harvester",
    derandomize=True,
    deadline=None,
    database=None,
    suppress_health_check=[HealthCheck.too_slow],
)
settings.load_profile("harvester")


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"
