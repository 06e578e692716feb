"""Undoing compression: the same bytes out in any packing and pieces, or an error; never half, never past a cap."""

from __future__ import annotations

import gzip
import random
import tracemalloc
import zlib
from contextlib import suppress
from typing import TYPE_CHECKING

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from harvester.api.unpack import STEP_BYTES, unpack, unpacked
from harvester.errors import AttemptFailed, Cut, NotData, OverCap
from tests.thorough import examples

if TYPE_CHECKING:
    from collections.abc import Callable

CAP = 10 * STEP_BYTES


def bare(body: bytes) -> bytes:
    packer = zlib.compressobj(wbits=-15)
    return packer.compress(body) + packer.flush()


PACKERS: dict[str, Callable[[bytes], bytes]] = {
    "gzip": gzip.compress,
    "x-gzip": gzip.compress,
    "deflate": zlib.compress,
    "DEFLATE ": bare,
    "": bytes,
    "identity": bytes,
}


def pieces(data: bytes, size: int) -> list[bytes]:
    return [data[start : start + size] for start in range(0, len(data), size)]


@settings(max_examples=examples(60))
@given(st.binary(max_size=300), st.sampled_from(sorted(PACKERS)), st.integers(1, 50))
def test_any_packing_in_any_pieces_comes_out_whole(body: bytes, encoding: str, size: int) -> None:
    body = b"[" + body
    assert unpack(pieces(PACKERS[encoding](body), size), encoding, CAP) == body


@pytest.mark.parametrize("encoding", ["gzip", "deflate", "DEFLATE "])
def test_large_bodies_come_out_whole(encoding: str) -> None:
    body = random.Random(0).randbytes(STEP_BYTES) * 3
    assert unpack(pieces(PACKERS[encoding](body), 2**17), encoding, CAP) == body


@settings(max_examples=examples(60))
@given(st.lists(st.binary(max_size=100), min_size=1, max_size=4), st.integers(1, 50), st.sampled_from([b"", b"\0" * 9]))
def test_gzip_may_come_in_several_members_and_padded(bodies: list[bytes], size: int, padding: bytes) -> None:
    packed = b"".join(gzip.compress(body) for body in bodies) + padding
    assert unpack(pieces(packed, size), "gzip", CAP) == b"".join(bodies)


@settings(max_examples=examples(60))
@given(st.data(), st.sampled_from(["gzip", "deflate", "DEFLATE "]))
def test_a_packed_body_that_ends_early_is_cut(data: st.DataObject, encoding: str) -> None:
    packed = PACKERS[encoding](b'[{"a": "b"}]' * 20)
    end = data.draw(st.integers(2, len(packed) - 1))
    with pytest.raises(Cut):
        unpack(pieces(packed[:end], 7), encoding, CAP)


@settings(max_examples=examples(60))
@given(st.data(), st.sampled_from(["gzip", "deflate"]))
def test_a_damaged_body_never_comes_out_as_something_else(data: st.DataObject, encoding: str) -> None:
    body = b'[{"a": "b"}]' * 20
    packed = bytearray(PACKERS[encoding](body))
    place = data.draw(st.integers(10, len(packed) - 1))
    packed[place] ^= data.draw(st.integers(1, 255))
    with suppress(AttemptFailed):
        assert unpack([bytes(packed)], encoding, CAP) == body


@settings(max_examples=examples(30))
@given(st.data(), st.sampled_from(sorted(PACKERS)), st.integers(1, 50))
def test_pieces_are_the_body(data: st.DataObject, encoding: str, size: int) -> None:
    body = b"[" + data.draw(st.binary(max_size=300)) * data.draw(st.sampled_from([1, 10_000]))
    found = list(unpacked(pieces(PACKERS[encoding](body), max(size, len(body) // 50)), encoding, CAP))
    assert b"".join(found) == body
    assert all(found)
    assert all(len(piece) <= STEP_BYTES for piece in found) or encoding in ("", "identity")


def test_what_is_broken_at_its_end_says_so_after_the_pieces_before_it() -> None:
    packed = gzip.compress(random.Random(0).randbytes(3 * STEP_BYTES))
    taken: list[bytes] = []
    with pytest.raises(Cut, match="ends early"):
        taken.extend(unpacked(pieces(packed[:-9], 2**16), "gzip", CAP))
    with pytest.raises(OverCap):
        taken.extend(unpacked(pieces(packed, 2**16), "gzip", 2 * STEP_BYTES))


def test_more_after_the_end_is_refused() -> None:
    for encoding in ("gzip", "deflate"):
        with pytest.raises(Cut):
            unpack([PACKERS[encoding](b"[]"), b"more"], encoding, CAP)


@pytest.mark.parametrize("encoding", ["gzip", "deflate", "DEFLATE ", ""])
def test_the_cap_is_exact(encoding: str) -> None:
    body = b"[" + b"x" * 999
    packed = [PACKERS[encoding](body)]
    assert unpack(packed, encoding, 1000) == body
    with pytest.raises(OverCap):
        unpack(packed, encoding, 999)


def test_a_bomb_costs_no_more_memory_than_the_cap() -> None:
    bomb = gzip.compress(bytes(200 * 2**20), compresslevel=1)
    tracemalloc.start()
    try:
        with pytest.raises(OverCap):
            unpack(pieces(bomb, 2**16), "gzip", 4 * STEP_BYTES)
        assert tracemalloc.get_traced_memory()[1] < 8 * STEP_BYTES
    finally:
        tracemalloc.stop()


def test_a_body_that_is_not_packed_as_its_header_says_is_taken_as_it_is() -> None:
    assert unpack([b"[]"], "gzip", CAP) == b"[]"
    assert unpack([gzip.compress(b"[]")], "", CAP) == b"[]"


def test_no_body_is_no_body() -> None:
    for encoding in PACKERS:
        assert unpack([], encoding, CAP) == b""


def test_an_encoding_that_was_not_asked_for_is_refused() -> None:
    for encoding in ("br", "zstd", "gzip, gzip"):
        with pytest.raises(NotData, match="not asked for"):
            unpack([b"[]"], encoding, CAP)
