"""What all tests share: asyncio alone under anyio, and property tests that try the same examples every time."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

from harvester.model import Secret
from tests import postgres
from tests.lake_places import Place
from tests.object_stores import Stand, azurite, between, environment_of, moto
from tests.thorough import examples

settings.register_profile(
    "harvester",
    max_examples=examples(100),
    derandomize=True,
    deadline=None,
    database=None,
    suppress_health_check=[HealthCheck.too_slow],
)
settings.load_profile("harvester")


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_auto_num_workers() -> int:
    """One process more than there are cores: many tests wait, for servers, processes and back-offs that are real."""
    return 1 + (os.cpu_count() or 1)


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[postgres.Server]:
    """A PostgreSQL server, the same for all tests of a process."""
    with postgres.server() as server:
        yield server


@pytest.fixture(scope="session")
def shared_ledger(postgres_server: postgres.Server) -> Secret:
    """The URL of a database that many lakes have their ledgers in."""
    return postgres_server.url(postgres_server.database())


@pytest.fixture(params=["sqlite", "postgresql"])
def ledger(request: pytest.FixtureRequest) -> Secret | None:
    """Where a lake's ledger is: beside its data, and in a database."""
    if request.param == "sqlite":
        return None
    url: Secret = request.getfixturevalue("shared_ledger")
    return url


@pytest.fixture(scope="session")
def at_moto() -> Iterator[str]:
    """moto's server, the same for all tests of a process."""
    with moto() as url:
        yield url


@pytest.fixture(scope="session")
def at_azurite() -> Iterator[str]:
    """Azurite, likewise."""
    with azurite() as url:
        yield url


@pytest.fixture(params=["s3", "gs", "abfs"])
def stand(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[Stand]:
    """Every kind of object store, one after the other."""
    scheme = request.param
    upstream = request.getfixturevalue("at_azurite" if scheme == "abfs" else "at_moto")
    account = upstream.partition("/devstoreaccount1")[0]
    with between(account) as proxy:
        environment = environment_of(scheme, proxy.url)
        for name in [name for name in os.environ if name.startswith(("AWS_", "AZURE_", "GOOGLE_"))]:
            monkeypatch.delenv(name)
        for name, value in environment.items():
            monkeypatch.setenv(name, value)
        yield Stand(scheme, environment, proxy)


@pytest.fixture
def place(tmp_path: Path, ledger: Secret | None) -> Place:
    """A lake that is not there yet, for every kind of ledger."""
    return Place(tmp_path / "lake", ledger)
