"""The wire of XML-RPC: see ``wires``."""

from __future__ import annotations

from typing import TYPE_CHECKING

from harvester.api.unpack import unpacked
from harvester.api.wires import Speaker
from harvester.api.xmlrpc import XmlCodec, encode_call

if TYPE_CHECKING:
    from harvester.api.records import RawTable, Words
    from harvester.api.transport import Answer
    from harvester.config import Settings
    from harvester.datasets import Dataset
    from harvester.model import Query


class XmlSpeaker(Speaker):
    """Speaks XML-RPC. A body is decoded while it is unpacked, since it is several times larger than what it says."""

    path = "/rpc.fcgi"
    content_type = "text/xml"
    record_bytes = 5000
    needs = 1  # seen: 0.6 to 0.8

    @property
    def cap_bytes(self) -> int:
        """As ``Speaker.cap_bytes``; the body is never held whole."""
        return min(self._settings.tuning.body_cap_bytes, self._settings.memory // 3)

    def __init__(self, settings: Settings) -> None:
        super().__init__(settings)
        self._codecs: dict[str, XmlCodec] = {}

    def call(self, query: Query) -> bytes:
        """As ``Speaker.call``; values go by position."""
        client_id, md5 = int(self._settings.client_id), str(self._settings.client_md5)
        return encode_call(query.dataset.function, client_id, md5, list(query.arguments.values()))

    def read(self, dataset: Dataset, answer: Answer, cap: int) -> RawTable | Words:
        """As ``Speaker.read``."""
        pieces = unpacked(answer.chunks, answer.content_encoding, cap)
        codec = self._codecs.setdefault(dataset.name, XmlCodec(dataset, self._hide))
        return codec.decode_pieces(pieces)


__all__ = ["XmlSpeaker"]
