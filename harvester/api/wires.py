"""The wires: where each protocol is asked, how a query is put, and what reads the answers.

A new protocol is a new class, here or beside (see ``xmlwire``). Nothing else in the house asks which wire it is.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING

import msgspec

from harvester.api.json import JsonCodec
from harvester.api.records import to_batch
from harvester.api.redacting import HASH_DIGITS, Redactor
from harvester.api.unpack import Unpacking
from harvester.config import Wire
from harvester.datasets import CATALOGUE

if TYPE_CHECKING:
    import pyarrow as pa

    from harvester.api.records import RawTable, Words
    from harvester.api.transport import Answer
    from harvester.config import Settings
    from harvester.datasets import Dataset
    from harvester.model import Query


_LEAST_RECORD_BYTES = 1000
"""A message takes no less in an answer, even if all its fields are empty."""


class Speaker(ABC):
    """Speaks one wire. Threads may share it.

    Attributes:
        path: where the API listens, below the endpoint (the vendor's pages).
        content_type: what a call is sent as.
        record_bytes: what a record is taken to need, unpacked, before one has come.
        needs: how many bytes reading takes, at most, for each one of the unpacked body; its packed pieces aside.
        redacts: the columns that are taken out of what is read, or changed.
    """

    path: str
    content_type: str
    record_bytes: int
    needs: float

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._hide = settings.client_md5.hidden_in
        redaction = settings.redaction
        self.needs += len(redaction.hashes) * HASH_DIGITS / _LEAST_RECORD_BYTES
        self.redacts = frozenset(redaction.ways)
        self._redactors = {name: Redactor(redaction, dataset) for name, dataset in CATALOGUE.items() if redaction}

    @property
    def cap_bytes(self) -> int:
        """The largest body that is read, unpacked: what reading it takes fits into the memory."""
        return self._settings.answer_cap_bytes

    @abstractmethod
    def call(self, query: Query) -> bytes:
        """The body of a call."""

    @abstractmethod
    def read(self, dataset: Dataset, answer: Answer, cap: int) -> RawTable | Words:
        """Unpack and decode an answer whose body is no larger than the cap, unpacked. Raises AttemptFailed."""

    def typed(self, decoded: RawTable, query: Query) -> pa.RecordBatch:
        """The records of an answer to a query, in its dataset's schema, in the order served, redacted."""
        redactor = self._redactors.get(query.dataset.name)
        if redactor is None:
            return to_batch(decoded, query.dataset, id_send=query.id_send)
        return to_batch(redactor.redacted(decoded), query.dataset, id_send=query.id_send, keeps=redactor.keeps)


class JsonSpeaker(Speaker):
    """Speaks JSON. A list of records is decoded while it is unpacked; what is something else is put together."""

    path = "/json.fcgi"
    content_type = "application/json"
    record_bytes = 1500
    needs = 3  # it was never seen to take more than 2.7; where the body has to be put together, 4

    def __init__(self, settings: Settings) -> None:
        super().__init__(settings)
        self._codecs: dict[str, JsonCodec] = {}

    def call(self, query: Query) -> bytes:
        """As ``Speaker.call``; values are strings, and what is not said is left out."""
        return msgspec.json.encode(
            {
                "function": query.dataset.function,
                "id": self._settings.client_id,
                "md5": str(self._settings.client_md5),
                "parameters": {name: str(value) for name, value in query.arguments.items() if value is not None},
            }
        )

    def read(self, dataset: Dataset, answer: Answer, cap: int) -> RawTable | Words:
        """As ``Speaker.read``."""
        pieces = Unpacking(answer.chunks, answer.content_encoding, cap)
        codec = self._codecs.setdefault(dataset.name, JsonCodec(dataset, self._hide))
        return codec.decode_pieces(pieces)


def speaker(settings: Settings) -> Speaker:
    """Who speaks the wire that is wanted."""
    if settings.wire is Wire.XML:
        from harvester.api.xmlwire import XmlSpeaker  # noqa: PLC0415  with lxml, which whoever speaks JSON does without

        return XmlSpeaker(settings)
    return JsonSpeaker(settings)


__all__ = ["JsonSpeaker", "Speaker", "speaker"]
