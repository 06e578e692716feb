"""Lists of sends: what is read, and how an error names its place."""

from __future__ import annotations

import io
import os
import sys
import tracemalloc
from datetime import datetime
from typing import TYPE_CHECKING

import pytest

from harvester.console.sends import SendList, parse_id
from harvester.errors import UsageError
from harvester.model import Send

if TYPE_CHECKING:
    from pathlib import Path


def write(folder: Path, text: str | bytes) -> str:
    path = folder / "sends.txt"
    path.write_bytes(text.encode() if isinstance(text, str) else text)
    return str(path)


def read(folder: Path, text: str | bytes) -> list[Send]:
    with SendList(write(folder, text)) as sends:
        listed = list(sends)
        assert sends.total == len(listed)
        return listed


def test_plain_text_has_one_id_a_line(tmp_path: Path) -> None:
    text = "\ufeff# the newsletter\n601181\r\n\n  601182  # the second\n\t\n00601183"
    assert read(tmp_path, text) == [Send(601181), Send(601182), Send(601183)]


def test_csv_has_columns_in_any_order(tmp_path: Path) -> None:
    text = (
        "# export\nrows,ID_send,sent_at,id_message\n"
        '12,601181,2024-05-31 08:00:00,32443\n,"601182",,\n0,601183,2024-06-01,\n'
    )
    assert read(tmp_path, text) == [
        Send(601181, id_message=32443, sent_at=datetime.fromisoformat("2024-05-31T08:00:00"), expected=12),
        Send(601182),
        Send(601183, sent_at=datetime.fromisoformat("2024-06-01"), expected=0),
    ]


@pytest.mark.parametrize("separator", [";", "\t", ","])
def test_csv_may_be_separated_as_spreadsheets_do(tmp_path: Path, separator: str) -> None:
    assert read(tmp_path, f"id_send{separator}rows\n601181{separator}5\n") == [Send(601181, expected=5)]


def test_a_lone_header_makes_it_csv(tmp_path: Path) -> None:
    assert read(tmp_path, "id_send\n601181\n") == [Send(601181)]


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("601181\n\n12x\n", "line 3: '12x' is not an id"),
        ("601181, 601182\n", "line 1: '601181, 601182' is not an id"),
        ("-5\n", "line 1: '-5' is not an id"),
        ("0\n", "line 1: '0' is not an id"),
        ("1_000\n", "line 1: '1_000' is not an id"),
        ("٣\n", "line 1: '٣' is not an id"),
        ("9223372036854775807\n", "line 1: '9223372036854775807' is not an id"),
        ("id_send,row\n1,2\n", "line 1: there is no column 'row'"),
        ("id_send,rows,rows\n1,2,3\n", "line 1: the column 'rows' is there twice"),
        ("id_send,rows\n1,2\n3\n", "line 3: 1 cells where the header has 2"),
        ("id_send,rows\n1,many\n", "line 2: 'many' is not a number of rows"),
        ("id_send,rows\n1,-1\n", "line 2: '-1' is not a number of rows"),
        ("id_send,rows\n,1\n", "line 2: '' is not an id"),
        ("id_send,sent_at\n1,yesterday\n", "line 2: 'yesterday' is not a date"),
        ("id_send,sent_at\n1,2024-05-31T08:00:00Z\n", "line 2: '2024-05-31T08:00:00Z' names a zone"),
        ('id_send,rows\n"1,2\n', "line 2: this is not CSV"),
        (b"601181\n\xff\xfe\n", "line 2: this is not UTF-8"),
        (b"601181\n" + b"1" * 100_000, "line 2: this line is too long"),
        ("", "lists no sends"),
        ("# nothing\n\nid_send\n", "lists no sends"),
    ],
)
def test_an_error_names_file_and_line_before_anything_is_used(
    tmp_path: Path, text: str | bytes, complaint: str
) -> None:
    path = write(tmp_path, text)
    with pytest.raises(UsageError) as raised:
        SendList(path)
    assert str(raised.value).startswith(path)
    assert complaint in str(raised.value)


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"--sends-file .*absent.*No such file"):
        SendList(str(tmp_path / "absent"))
    with pytest.raises(UsageError, match="directory"):
        SendList(str(tmp_path))


def test_standard_input_is_read_once_and_used_often(monkeypatch: pytest.MonkeyPatch) -> None:
    stdin = io.TextIOWrapper(io.BytesIO(b"601181\n601182\n"))
    monkeypatch.setattr(sys, "stdin", stdin)
    with SendList("-") as sends:
        assert list(sends) == list(sends) == [Send(601181), Send(601182)]
    assert not stdin.buffer.closed


def test_an_error_in_standard_input_names_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b"x\n")))
    with pytest.raises(UsageError, match=r"^standard input, line 1: 'x'"):
        SendList("-")


def test_no_standard_input_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdin", None)
    with pytest.raises(UsageError, match="no standard input"):
        SendList("-")


def test_what_was_checked_is_what_is_used(tmp_path: Path) -> None:
    """A file that changes while it is in use doesn't smuggle in lines that nobody checked."""
    path = write(tmp_path, "601181\n")
    with SendList(path) as sends:
        write(tmp_path, "12x\n")
        assert list(sends) == [Send(601181)]


def test_a_pipe_can_be_a_file() -> None:
    reader, writer = os.pipe()
    os.write(writer, b"601181\n")
    os.close(writer)
    with SendList(f"/dev/fd/{reader}") as sends:
        assert list(sends) == [Send(601181)]
    os.close(reader)


def test_a_long_list_is_not_held(tmp_path: Path) -> None:
    path = write(tmp_path, "".join(f"{number}\n" for number in range(1, 20_001)))
    tracemalloc.start()
    try:
        with SendList(path) as sends:
            assert sum(send.id_send for send in sends) == 20_000 * 20_001 // 2
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 2**20, "the sends alone would take more than two"


def test_ids_are_decimal_numbers() -> None:
    assert parse_id(" 601181 ") == 601181
    with pytest.raises(ValueError, match=r"'6e5' is not an id; an id is a whole number such as 601181"):
        parse_id("6e5")
