"""What a lone object of an answer is where it may be no record: the API's words, or that there is nothing to say.

One rule for both wires, since an error looks alike in both.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec

from harvester.api.marks import shown
from harvester.api.records import RawTable, Words, nothing
from harvester.api.shown import LOOKED_AT, MASK

if TYPE_CHECKING:
    from harvester.api.exact import Record
    from harvester.datasets import Dataset

_ANY = msgspec.json.Decoder()


def holds_key(record: Record, dataset: Dataset) -> bool:
    """Whether it has the dataset's key, and so is a record."""
    return any(name.lower() == dataset.key for name in record)


def said(record: Record, dataset: Dataset, *, marked: bool) -> Words | RawTable | None:
    """The API's words if it is an error; no rows if it says that nothing went wrong; None if it is neither.

    ``marked`` says whether there may be marks in it, of what is no text.
    """
    if holds_key(record, dataset):
        return None
    fields = {name.lower(): value for name, value in record.items()}
    status, text = _value(fields.get("error_status")), _value(fields.get("error"))
    if str(status) != "0" and not (status is None and not text):
        if not text or not isinstance(text, str):
            return Words(f"error_status {status}")
        return Words(plain(text) if marked else text)
    if fields.keys() <= {"error_status", "error"} and str(status) == "0" and not text:
        return nothing(dataset)
    return None


def _value(sent: msgspec.Raw | None) -> Any:  # noqa: ANN401  decoded JSON
    """A field's value; a mark of cut where that is nested and long, since it would take many times its size."""
    if sent is None:
        return None
    return [MASK] if len(sent) > LOOKED_AT and memoryview(sent)[0] in b"[{" else _ANY.decode(sent)


def plain(text: str) -> str:
    """The API's words without marks of what is no text in them."""
    return shown(text)[0]


__all__ = ["holds_key", "plain", "said"]
