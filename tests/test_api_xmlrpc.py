"""The XML-RPC codec: the same tables as over JSON, whatever the records and the writing; errors that are ours."""

from __future__ import annotations

import random
from contextlib import suppress

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from harvester.api import xmlrpc
from harvester.api.json import JsonCodec
from harvester.api.records import RawTable, Words, to_batch
from harvester.api.xmlfast import Form, decode_block
from harvester.api.xmlrpc import XmlCodec
from harvester.datasets import BOUNCES
from harvester.errors import AttemptFailed
from tests import wires


def typed(decoded: RawTable | Words) -> pa.RecordBatch:
    assert isinstance(decoded, RawTable)
    for column in decoded.columns:
        column.values.validate(full=True)
    batch = to_batch(decoded, BOUNCES, id_send=7)
    batch.validate(full=True)
    return batch


@settings(max_examples=150)
@given(wires.records, st.integers(0, 2**32))
def test_the_same_records_are_the_same_over_both_wires_by_all_decoders_in_any_pieces(
    records: list[wires.Record], seed: int
) -> None:
    chance = random.Random(seed)
    as_json, as_xml = wires.json_body(records, chance), wires.xml_body(records, chance)
    truth = JsonCodec(BOUNCES).decode_exact(as_json)
    assert typed(JsonCodec(BOUNCES).decode_pieces(wires.pieces(as_json, chance))).equals(typed(truth))
    assert typed(XmlCodec(BOUNCES).decode_pieces([as_xml])).equals(typed(truth))
    exact = XmlCodec(BOUNCES).decode_exact(wires.pieces(as_xml, chance))
    assert typed(exact).equals(typed(truth))
    fast = XmlCodec(BOUNCES).decode_pieces(wires.pieces(as_xml, chance))
    assert isinstance(truth, RawTable)
    assert isinstance(exact, RawTable)
    assert isinstance(fast, RawTable)
    assert fast.met == exact.met == truth.met
