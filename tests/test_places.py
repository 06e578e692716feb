"""Where a lake is: what names a place, what does not, and where the state of one in an object store is."""

from __future__ import annotations

from pathlib import Path

import pytest

from harvester.errors import UsageError
from harvester.places import ObjectLake, as_arguments, default_state, place_of, state_of


@pytest.mark.parametrize(
    ("named", "url", "bucket", "host", "prefix"),
    [
        ("s3://bucket", "s3://bucket", "bucket", None, ""),
        ("S3://bucket/a/b/", "s3://bucket/a/b", "bucket", None, "a/b"),
        ("gs://bucket/a", "gs://bucket/a", "bucket", None, "a"),
        ("abfs://box/a", "abfs://box/a", "box", None, "a"),
        (
            "abfss://box@some.dfs.core.windows.net/a",
            "abfs://box@some.dfs.core.windows.net/a",
            "box",
            "some.dfs.core.windows.net",
            "a",
        ),
    ],
)
def test_a_url_names_a_place_in_an_object_store(
    named: str, url: str, bucket: str, host: str | None, prefix: str
) -> None:
    place = place_of(named)
    assert isinstance(place, ObjectLake)
    assert (str(place), place.bucket, place.host, place.prefix) == (url, bucket, host, prefix)
    assert place == place_of(f"{named}/")


def test_anything_else_is_a_folder(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home/somebody")
    assert place_of("~/lake") == Path("/home/somebody/lake")
    assert place_of("s3:/bucket") == Path("s3:/bucket")
    assert state_of(Path("lake")) == Path("lake")
    assert as_arguments(Path("a lake")) == "'a lake'"


@pytest.mark.parametrize(
    "named",
    [
        "",
        "ftp://host/a",
        "file:///a",
        "s3://",
        "s3:///a",
        "s3://user@bucket/a",
        "s3://bucket/a?b=c",
        "gs://bucket/a#b",
        "s3://bucket/a//b",
        "s3://bucket/../a",
        "abfs://box:secret@host/a",
        "abfs://@host/a",
    ],
)
def test_what_names_no_place_is_refused(named: str) -> None:
    with pytest.raises(UsageError):
        place_of(named)


def test_the_state_is_found_again_by_the_same_url_and_is_another_one_for_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("XDG_STATE_HOME", raising=False)
    place = place_of("s3://bucket/a-b")
    assert place == place_of("s3://bucket/a-b/")
    assert state_of(place).parent == tmp_path / ".local" / "state" / "harvester"
    assert state_of(place) != state_of(place_of("s3://bucket/a/b"))
    assert as_arguments(place) == "s3://bucket/a-b"
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "elsewhere"))
    assert state_of(place_of("s3://bucket/a-b")).parent == tmp_path / "elsewhere" / "harvester"
    told = place_of("s3://bucket/a-b", Path("~/some where"))
    assert state_of(told) == tmp_path / "some where"
    assert as_arguments(told) == f"s3://bucket/a-b --state '{tmp_path / 'some where'}'"
    assert len(default_state(f"s3://bucket/{'x' * 500}").name) < 100


def test_a_folder_has_its_state_in_it() -> None:
    with pytest.raises(UsageError, match="--state goes with a lake in an object store"):
        place_of("lake", Path("state"))
