"""Slices that come whole in one small page: sealed as they are staged, and safe at every durable step of that."""

from dataclasses import replace
from datetime import datetime
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from harvester.config import Tuning
from harvester.datasets import MESSAGES
from harvester.errors import LakeBroken
from harvester.harvest.upkeep import verifying
from harvester.lake import layout
from harvester.lake.lake import Lake, look_into, open_lake
from harvester.lake.layout import Footer
from harvester.lake.reading import failed_keys
from harvester.lake.staging import Taken, Whole
from harvester.lake.storage.store import Store
from harvester.lake.upkeep.contents import read_contents
from harvester.model import KEY_END, Proof, Send, SliceKey
from tests.lake_rows import message_rows, page
from tests.test_lake import Crash, crash_at
from tests.thorough import STRIDE

NOW = datetime(2026, 11, 1)  # noqa: DTZ001  the lake's times have no zone
TUNING = Tuning(target_bytes=1 << 20)
SENDS = (7, 8, 9)


def whole(lake: Lake, id_send: int, *keys: int, status: str = "sent") -> Taken:
    """A page that is all of the messages of a send."""
    key = SliceKey(MESSAGES.name, id_send)
    record = lake.ledger.find(key)
    assert record is not None
    accepted = page(record.id, *keys, proof=Proof.COUNT, id_send=id_send, status=status)
    return replace(accepted, whole=Whole(key, len(keys)))


def begin(lake: Lake) -> None:
    lake.runs.select(lake.runs.begin("12345"), [Send(id_send, expected=2) for id_send in SENDS], ["messages"], NOW)


def files(root: Path) -> dict[str, list[int | None]]:
    """What readers find: the keys of each file."""
    return {
        str(path.relative_to(root)): pq.ParquetFile(path).read([MESSAGES.key]).column(0).to_pylist()
        for path in sorted(root.rglob("*.parquet"))
    }


def test_slices_that_come_whole_are_sealed_when_they_are_staged(tmp_path: Path) -> None:
    with open_lake(tmp_path, TUNING) as lake:
        begin(lake)
        pages = [whole(lake, 7, 10, 11), whole(lake, 8, 20, 21)]
        assert lake.stage(pages) == [0, 0]
        assert all(accepted.leaves_nothing_to_seal for accepted in pages)
        assert lake.inventory.unsealed_slices() == []
        assert list(Store(tmp_path).names(layout.SEGMENTS)) == []
        assert [lake.ledger.record(accepted.slice_id).proof for accepted in pages] == [Proof.COUNT, Proof.COUNT]
    assert files(tmp_path) == {
        "messages/send=7/part-10-11.parquet": [10, 11],
        "messages/send=8/part-20-21.parquet": [20, 21],
    }
    says = Footer.decode(pq.read_metadata(tmp_path / "messages/send=7/part-10-11.parquet").metadata or {})
    assert (says.dataset, says.id_send, says.start, says.stop, says.generation) == ("messages", 7, 0, KEY_END, 0)
    assert (says.proof, says.expected, says.account) == ("count", 2, "12345")
    read_contents(str(tmp_path / "messages/send=7/part-10-11.parquet"), MESSAGES, now=NOW)
    with verifying(tmp_path, quick=False) as seen:
        assert list(seen.findings()) == []


def test_a_large_page_that_is_all_of_a_slice_is_left_to_the_sealer(tmp_path: Path) -> None:
    with open_lake(tmp_path, TUNING) as lake:
        begin(lake)
        large = whole(lake, 7, *range(1, 5_000))
        assert lake.stage([large])[0] > 0
        assert not large.leaves_nothing_to_seal
        assert lake.inventory.unsealed_slices() == [large.slice_id]
        assert files(tmp_path) == {}


def test_a_file_that_the_ledger_does_not_know_is_not_joined_by_another(tmp_path: Path) -> None:
    with open_lake(tmp_path, TUNING) as lake:
        begin(lake)
        lake.store.make_folder("messages/send=7")
        lake.store.touch("messages/send=7/part-1-2.parquet")
        with pytest.raises(LakeBroken, match="a newer ledger was lost"):
            lake.stage([whole(lake, 7, 10, 11)])
        assert lake.ledger.record(whole(lake, 7, 10).slice_id).rows == 0


def test_what_failed_is_remembered_as_it_is_read_back(tmp_path: Path) -> None:
    with open_lake(tmp_path, TUNING) as lake:
        begin(lake)
        failed = whole(lake, 7, 10, 11)
        both = pa.Table.from_batches([message_rows(10, status="failed"), message_rows(11)])
        rows = both.combine_chunks().to_batches()[0]
        lake.stage([replace(failed, rows=rows), whole(lake, 8, 20)])
        for id_send, expected in ((7, [10]), (8, [])):
            slice_id = whole(lake, id_send, 1).slice_id
            remembered = lake.failed_keys(id_send)
            read_back = failed_keys(lake.store, lake.inventory, slice_id)
            assert remembered is not None
            assert remembered.to_pylist() == read_back.to_pylist() == expected


def harvest(root: Path) -> None:
    """A small run: stages what the ledger doesn't have yet, and seals what a run before it left."""
    with open_lake(root, TUNING) as lake:
        begin(lake)
        for slice_id in lake.inventory.unsealed_slices():
            lake.seal(slice_id)
        pages = [whole(lake, 7, 10, 11), whole(lake, 8, 20, 21), whole(lake, 9, 30, 31)]
        due = [accepted for accepted in pages if lake.ledger.record(accepted.slice_id).proof is None]
        for group in (due[:2], due[2:]):
            if group:
                lake.stage(group)


def test_a_stop_after_each_durable_step_loses_and_doubles_nothing(tmp_path: Path) -> None:
    crashed, step = True, 1 - STRIDE
    while crashed:
        step += STRIDE
        root = tmp_path / str(step)
        with pytest.MonkeyPatch.context() as patch:
            crash_at(step, patch)
            try:
                harvest(root)
            except Crash:
                pass
            else:
                crashed = False
        if (root / layout.LEDGER).exists() and step > 12:  # once there is a ledger that can be read
            with verifying(root, quick=False) as seen:
                assert list(seen.findings()) == [], f"after step {step}"
        harvest(root)
        assert list(files(root).values()) == [[10, 11], [20, 21], [30, 31]], f"after step {step}"
        assert list(Store(root).names(layout.SEGMENTS)) == list(Store(root).names(layout.WRITING)) == []
        with look_into(root) as glance:
            found = [(row["rows"], row["proof"]) for row in glance.ledger.walked(None)]
            assert found == [(2, "count")] * 3, f"after step {step}"
            assert glance.inventory.sealed_bytes()[0] == 3
    assert step > 25
